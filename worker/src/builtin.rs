//! The functions that `muster-worker` offers when it is given no others.

use crate::attachment::check_named;
use crate::call_error::CallError;
use crate::context::CallContext;
use crate::native::Native;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::time::Duration;

/// The largest `n` of [`primes_below`]: its answer then has 5 MB.
const PRIMES_BELOW_MAX: u64 = 10_000_000;
/// The largest `n` of [`fibonacci`]: 20,899 digits, some milliseconds.
const FIBONACCI_MAX: u64 = 100_000;
/// Decimal digits of one limb of a large number.
const LIMB_DIGITS: usize = 18;
const LIMB: u64 = 10_u64.pow(LIMB_DIGITS as u32);

/// Every built-in function.
pub(crate) fn functions() -> Vec<Native> {
    vec![
        described(
            Native::new("hello".into(), hello),
            &["name"],
            "Return a greeting for name, by default the world.",
        ),
        described(
            Native::with_context("echo".into(), echo),
            &["x"],
            "Return x as it came, attachments included.",
        ),
        described(
            Native::with_context("sleep".into(), sleep),
            &["seconds"],
            "Sleep for this many seconds and return the number. Can be cancelled.",
        ),
        described(Native::new("add".into(), add), &["x", "y"], "Return x + y."),
        described(
            Native::new("multiply".into(), multiply),
            &["x", "y"],
            "Return x * y.",
        ),
        described(
            Native::new("is_even".into(), |n: i64| n % 2 == 0),
            &["n"],
            "Return true if n is even.",
        ),
        described(
            Native::new("is_odd".into(), |n: i64| n % 2 != 0),
            &["n"],
            "Return true if n is odd.",
        ),
        described(
            Native::new("primes_below".into(), primes_below),
            &["n"],
            "Return the primes below n in ascending order; n is at most 10,000,000.",
        ),
        described(
            Native::new("fibonacci".into(), fibonacci),
            &["n"],
            "Return the Fibonacci number F(n), F(0) = 0, F(1) = 1; n is at most 100,000.\n\n\
             All digits are there. A reader that keeps JSON numbers as doubles rounds them from \
             F(79) on.",
        ),
        described(
            Native::new("word_count".into(), |text: String| {
                text.split_whitespace().count()
            }),
            &["text"],
            "Return how many words text has, parted by white space.",
        ),
        described(
            Native::new("fail".into(), fail),
            &["message"],
            "Fail with this message: shows what an error looks like.",
        ),
        described(
            Native::new("pid".into(), std::process::id),
            &[],
            "Return the process id of the slot that runs the call.",
        ),
    ]
}

fn described(mut native: Native, names: &[&str], doc: &str) -> Native {
    native.set_names(names.iter().map(|&name| name.to_owned()).collect());
    native.method.doc = doc.to_owned();
    native
}

fn hello(name: Option<String>) -> String {
    name.map_or_else(
        || "Hello, World!".to_owned(),
        |name| format!("Hello, {name}!"),
    )
}

fn echo(call: &CallContext<'_>, x: Box<RawValue>) -> Result<Box<RawValue>, CallError> {
    if call.attachments() > 0 && call.takes_frames {
        call.attach_all_again();
    } else {
        // What is named must exist in the reply, too.
        check_named(x.get(), 0)?;
    }
    Ok(x)
}

fn sleep(call: &CallContext<'_>, seconds: Box<RawValue>) -> Result<Box<RawValue>, CallError> {
    let number: f64 = serde_json::from_str(seconds.get())
        .map_err(|_| CallError::InvalidParams("parameter 1 (seconds): not a number".into()))?;
    let duration = Duration::try_from_secs_f64(number)
        .map_err(|error| CallError::InvalidParams(format!("parameter 1 (seconds): {error}")))?;
    if call.sleep(duration) {
        return Err(CallError::Cancelled);
    }
    Ok(seconds)
}

/// A JSON number: whole numbers stay exact.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(untagged, expecting = "not a number")]
enum Number {
    Whole(i64),
    Float(f64),
}

impl Number {
    fn as_f64(self) -> f64 {
        match self {
            Number::Whole(n) => n as f64,
            Number::Float(x) => x,
        }
    }
}

fn add(x: Number, y: Number) -> Result<Box<RawValue>, CallError> {
    combine(x, y, |a, b| a + b, |a, b| a + b)
}

fn multiply(x: Number, y: Number) -> Result<Box<RawValue>, CallError> {
    combine(x, y, |a, b| a * b, |a, b| a * b)
}

/// Two 64-bit factors have a product of 127 bits, so whole numbers never overflow.
fn combine(
    x: Number,
    y: Number,
    whole: fn(i128, i128) -> i128,
    float: fn(f64, f64) -> f64,
) -> Result<Box<RawValue>, CallError> {
    if let (Number::Whole(x), Number::Whole(y)) = (x, y) {
        return raw(whole(x.into(), y.into()).to_string());
    }
    let result = float(x.as_f64(), y.as_f64());
    if !result.is_finite() {
        return Err(CallError::failed(
            "OverflowError",
            "the result is too large for a float",
        ));
    }
    raw(serde_json::to_string(&result).expect("a finite float"))
}

fn raw(json: String) -> Result<Box<RawValue>, CallError> {
    RawValue::from_string(json)
        .map_err(|error| CallError::failed("SerializeError", error.to_string()))
}

fn primes_below(n: u64) -> Result<Vec<u32>, CallError> {
    if n > PRIMES_BELOW_MAX {
        let reason = format!("parameter 1 (n): at most {PRIMES_BELOW_MAX}");
        return Err(CallError::InvalidParams(reason));
    }
    let n = n as usize;
    let mut composite = vec![false; n];
    let mut primes = Vec::new();
    for candidate in 2..n {
        if composite[candidate] {
            continue;
        }
        primes.push(candidate as u32);
        for multiple in (candidate * candidate..n).step_by(candidate) {
            composite[multiple] = true;
        }
    }
    Ok(primes)
}

fn fibonacci(n: u64) -> Result<Box<RawValue>, CallError> {
    if n > FIBONACCI_MAX {
        let reason = format!("parameter 1 (n): at most {FIBONACCI_MAX}");
        return Err(CallError::InvalidParams(reason));
    }
    // Decimal limbs, the lowest first: adding is all that is needed, and printing is free.
    let (mut low, mut high) = (vec![0_u64], vec![1_u64]);
    for _ in 0..n {
        let mut carry = 0;
        for (at, limb) in high.iter().enumerate() {
            let sum = low.get(at).copied().unwrap_or(0) + limb + carry;
            carry = sum / LIMB;
            match low.get_mut(at) {
                Some(place) => *place = sum % LIMB,
                None => low.push(sum % LIMB),
            }
        }
        if carry > 0 {
            low.push(carry);
        }
        std::mem::swap(&mut low, &mut high);
    }
    let mut limbs = low.iter().rev();
    let mut digits = limbs.next().map(u64::to_string).unwrap_or_default();
    digits.extend(limbs.map(|limb| format!("{limb:0LIMB_DIGITS$}")));
    raw(digits)
}

fn fail(message: Option<String>) -> Result<(), CallError> {
    let message = message.unwrap_or_else(|| "as asked".to_owned());
    Err(CallError::failed("Failure", message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::CancelFlag;
    use muster_proto::socket::Frame;

    fn call(name: &str, params: &str) -> Result<String, String> {
        let cancel = CancelFlag::default();
        call_in(name, params, &CallContext::new("m", &cancel))
    }

    fn call_in(name: &str, params: &str, context: &CallContext<'_>) -> Result<String, String> {
        let functions = functions();
        let native = functions
            .iter()
            .find(|native| native.method.name == name)
            .unwrap();
        let mut out = Vec::new();
        native
            .call(params, context, &mut out)
            .map_err(|error| error.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_small_ones_answer() {
        assert_eq!(call("hello", "").unwrap(), r#""Hello, World!""#);
        assert_eq!(
            call("hello", r#"{"name":"Ada"}"#).unwrap(),
            r#""Hello, Ada!""#
        );
        assert_eq!(call("is_even", "[4]").unwrap(), "true");
        assert_eq!(call("is_odd", "[-3]").unwrap(), "true");
        assert_eq!(call("word_count", r#"[" one  two\nthree "]"#).unwrap(), "3");
        assert_eq!(call("fail", r#"["no"]"#).unwrap_err(), "Failure: no");
        assert_eq!(call("pid", "").unwrap(), std::process::id().to_string());
    }

    #[test]
    fn whole_numbers_stay_exact_and_floats_finite() {
        assert_eq!(call("multiply", "[5,3]").unwrap(), "15");
        assert_eq!(call("multiply", "[5,0.5]").unwrap(), "2.5");
        assert_eq!(
            call("multiply", "[9223372036854775807,9223372036854775807]").unwrap(),
            "85070591730234615847396907784232501249"
        );
        assert_eq!(
            call("add", "[9223372036854775807,1]").unwrap(),
            "9223372036854775808"
        );
        assert!(
            call("multiply", "[1e308,1e308]")
                .unwrap_err()
                .contains("OverflowError")
        );
        assert!(
            call("multiply", r#"["a",3]"#)
                .unwrap_err()
                .contains("parameter 1 (x)")
        );
    }

    #[test]
    fn sleep_returns_its_argument_as_written() {
        assert_eq!(call("sleep", "[0]").unwrap(), "0");
        assert_eq!(call("sleep", "[0.001]").unwrap(), "0.001");
        assert!(call("sleep", "[-1]").unwrap_err().contains("seconds"));
        assert!(call("sleep", "[1e300]").unwrap_err().contains("seconds"));
        let cancel = CancelFlag::default();
        cancel.set();
        let context = CallContext::new("m", &cancel);
        assert_eq!(
            call_in("sleep", "[1000]", &context).unwrap_err(),
            "cancelled"
        );
    }

    #[test]
    fn echo_keeps_every_byte_and_its_attachments() {
        assert_eq!(
            call("echo", r#"[{"a": [1.50, "\u00fc"]}]"#).unwrap(),
            r#"{"a": [1.50, "\u00fc"]}"#
        );
        let cancel = CancelFlag::default();
        let frames = [Frame::from("zero"), Frame::from("one")];
        let context = CallContext {
            attachments: &frames,
            takes_frames: true,
            ..CallContext::new("m", &cancel)
        };
        assert_eq!(
            call_in("echo", r#"[{"$frame":1}]"#, &context).unwrap(),
            r#"{"$frame":1}"#
        );
        assert_eq!(context.attached.borrow()[1][..], *b"one");
        assert!(call("echo", r#"[{"$frame":1}]"#).is_err());
    }

    #[test]
    fn primes_are_those_below_n() {
        assert_eq!(
            call("primes_below", "[30]").unwrap(),
            "[2,3,5,7,11,13,17,19,23,29]"
        );
        assert_eq!(call("primes_below", "[2]").unwrap(), "[]");
        assert_eq!(call("primes_below", "[0]").unwrap(), "[]");
        assert!(call("primes_below", "[100000000]").is_err());
    }

    #[test]
    fn fibonacci_numbers_have_all_their_digits() {
        for (n, expected) in [
            (0, "0"),
            (1, "1"),
            (2, "1"),
            (10, "55"),
            (90, "2880067194370816120"),
        ] {
            assert_eq!(call("fibonacci", &format!("[{n}]")).unwrap(), expected);
        }
        assert_eq!(call("fibonacci", "[100]").unwrap(), "354224848179261915075");
        assert_eq!(
            call("fibonacci", "[300]").unwrap(),
            "222232244629420445529739893461909967206666939096499764990979600"
        );
        assert_eq!(call("fibonacci", "[100000]").unwrap().len(), 20_899);
        assert!(call("fibonacci", "[100001]").is_err());
    }
}
