//! What a typed function returns, as JSON.

use crate::attachment::Attachment;
use crate::call_error::CallError;
use serde::Serialize;
use serde_json::value::RawValue;
use std::any::Any;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt::Display;

/// What a function can return: the usual types of the standard library, [`Json`] around any type
/// of one's own, and `Result` with any error that can be printed.
///
/// (One trait for every `Serialize` type would take `Result`, too, and answer `{"Err": …}` as if
/// it were a result.)
#[diagnostic::on_unimplemented(
    message = "a function cannot return `{Self}`",
    note = "wrap a type of your own: `Json(value)`, or return `Result<_, _>`"
)]
pub trait Answer {
    /// Appends the result as JSON.
    ///
    /// # Errors
    /// The function's own error, or a value that JSON cannot hold.
    fn write(self, out: &mut Vec<u8>) -> Result<(), CallError>;
}

/// A result of any type that serde can serialize.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: Serialize> Answer for Json<T> {
    fn write(self, out: &mut Vec<u8>) -> Result<(), CallError> {
        write_json(&self.0, out)
    }
}

impl<T: Serialize, E: Display + 'static> Answer for Result<T, E> {
    fn write(self, out: &mut Vec<u8>) -> Result<(), CallError> {
        match self {
            Ok(value) => write_json(&value, out),
            Err(error) => Err(to_call_error(error)),
        }
    }
}

fn to_call_error<E: Display + 'static>(error: E) -> CallError {
    // A function may choose the code itself.
    if let Some(chosen) = (&error as &dyn Any).downcast_ref::<CallError>() {
        return chosen.clone();
    }
    let path = std::any::type_name::<E>();
    // `alloc::string::String` and `&str` are texts, not types of errors.
    let kind = match path
        .split('<')
        .next()
        .and_then(|plain| plain.rsplit("::").next())
    {
        Some("String" | "&str") | None => "Error",
        Some(name) => name,
    };
    CallError::failed(kind, error.to_string())
}

pub(crate) fn write_json(value: &impl Serialize, out: &mut Vec<u8>) -> Result<(), CallError> {
    serde_json::to_writer(out, value)
        .map_err(|error| CallError::failed("SerializeError", error.to_string()))
}

/// A float on its own; within other values serde writes NaN and infinity as null.
fn write_float(value: f64, out: &mut Vec<u8>) -> Result<(), CallError> {
    if value.is_finite() {
        return write_json(&value, out);
    }
    Err(CallError::failed(
        "ValueError",
        format!("JSON cannot hold the float {value}"),
    ))
}

impl Answer for f64 {
    fn write(self, out: &mut Vec<u8>) -> Result<(), CallError> {
        write_float(self, out)
    }
}

impl Answer for f32 {
    fn write(self, out: &mut Vec<u8>) -> Result<(), CallError> {
        if self.is_finite() {
            write_json(&self, out)
        } else {
            write_float(self.into(), out)
        }
    }
}

macro_rules! impl_answer {
    ($type:ty $(, $($generic:tt)*)?) => {
        impl<$($($generic)*)?> Answer for $type {
            fn write(self, out: &mut Vec<u8>) -> Result<(), CallError> {
                write_json(&self, out)
            }
        }
    };
}

macro_rules! impl_answers {
    ($($type:ty),*) => { $(impl_answer!($type);)* };
}

impl_answers!((), bool, char, String, &'static str, Cow<'static, str>);
impl_answers!(
    i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize
);
impl_answers!(serde_json::Value, Box<RawValue>, Attachment);
impl_answer!(Option<T>, T: Serialize);
impl_answer!(Vec<T>, T: Serialize);
impl_answer!(VecDeque<T>, T: Serialize);
impl_answer!(BTreeSet<T>, T: Serialize);
impl_answer!(HashSet<T, S>, T: Serialize, S);
impl_answer!(BTreeMap<K, V>, K: Serialize, V: Serialize);
impl_answer!(HashMap<K, V, S>, K: Serialize, V: Serialize, S);
impl_answer!((A,), A: Serialize);
impl_answer!((A, B), A: Serialize, B: Serialize);
impl_answer!((A, B, C), A: Serialize, B: Serialize, C: Serialize);
impl_answer!((A, B, C, D), A: Serialize, B: Serialize, C: Serialize, D: Serialize);

#[cfg(test)]
mod tests {
    use super::*;

    fn written(answer: impl Answer) -> Result<String, CallError> {
        let mut out = Vec::new();
        answer
            .write(&mut out)
            .map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn values_are_written_as_json() {
        #[derive(Serialize)]
        struct Point {
            x: f64,
        }
        assert_eq!(written(15).unwrap(), "15");
        assert_eq!(written(u128::MAX).unwrap(), u128::MAX.to_string());
        assert_eq!(written("ü").unwrap(), "\"ü\"");
        assert_eq!(written(()).unwrap(), "null");
        assert_eq!(written(vec![Some(1), None]).unwrap(), "[1,null]");
        assert_eq!(written(Json(Point { x: 0.5 })).unwrap(), r#"{"x":0.5}"#);
        assert_eq!(
            written(Ok::<_, String>(Point { x: 1.0 })).unwrap(),
            r#"{"x":1.0}"#
        );
    }

    #[test]
    fn errors_carry_their_type_and_a_chosen_code() {
        let error = written("x".parse::<i32>()).unwrap_err();
        let CallError::Failed { kind, message, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(
            (kind.as_str(), message.as_str()),
            ("ParseIntError", "invalid digit found in string")
        );
        let text = written(Err::<(), _>("no luck".to_owned())).unwrap_err();
        assert_eq!(text, CallError::failed("Error", "no luck"));
        let chosen = CallError::InvalidParams("n is negative".into());
        assert_eq!(written(Err::<(), _>(chosen.clone())).unwrap_err(), chosen);
    }

    #[test]
    fn a_float_that_json_cannot_hold_is_an_error() {
        assert_eq!(written(0.5).unwrap(), "0.5");
        assert!(written(f64::NAN).unwrap_err().to_string().contains("NaN"));
        assert!(written(f32::INFINITY).is_err());
    }
}
