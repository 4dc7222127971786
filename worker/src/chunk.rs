//! Map chunks for Rust functions: one call to the broker, many to the function.

use crate::call_error::{CallError, Origin, json_reason};
use crate::context::CallContext;
use crate::native::Native;
use muster_proto::code::Code;
use muster_proto::rpc::{RpcError, unpack_items};
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::time::{Duration, Instant};

/// Applies `native` to each item of `body`, a JSON array or packed numbers, and appends an array that has, for each
/// item, `{"result":…}` or `{"error":{…}}`. Returns how many items there were.
///
/// `timeout` is that of each item: the function sees it as its deadline, and a result that comes
/// later is an error.
///
/// # Errors
/// [`CallError::InvalidParams`] when `body` holds no items; items fail each on its own.
pub(crate) fn run(
    native: &Native,
    body: &str,
    timeout: Option<Duration>,
    context: &mut CallContext<'_>,
    origin: &Origin,
    out: &mut Vec<u8>,
) -> Result<u32, CallError> {
    let unreadable = |error: serde_json::Error| CallError::InvalidParams(json_reason(&error));
    let unpacked = unpack_items(body, context.attachments).map_err(unreadable)?;
    let body = unpacked.as_deref().unwrap_or(body);
    let start = out.len();
    out.push(b'[');
    let visitor = Items {
        native,
        timeout,
        context,
        origin,
        out: &mut *out,
    };
    let mut deserializer = serde_json::Deserializer::from_str(body);
    match deserializer.deserialize_seq(visitor) {
        Ok(items) => {
            out.push(b']');
            Ok(items)
        }
        Err(error) => {
            out.truncate(start);
            Err(unreadable(error))
        }
    }
}

struct Items<'r, 'c> {
    native: &'r Native,
    timeout: Option<Duration>,
    context: &'r mut CallContext<'c>,
    origin: &'r Origin,
    out: &'r mut Vec<u8>,
}

impl<'de> Visitor<'de> for Items<'_, '_> {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of items")
    }

    fn visit_seq<S: SeqAccess<'de>>(mut self, mut seq: S) -> Result<u32, S::Error> {
        let mut items = 0;
        while let Some(item) = seq.next_element::<&RawValue>()? {
            if items > 0 {
                self.out.push(b',');
            }
            items += 1;
            self.run_item(item.get());
        }
        Ok(items)
    }
}

impl Items<'_, '_> {
    fn run_item(&mut self, item: &str) {
        let start = self.out.len();
        if self.context.cancel.is_set() {
            return self.fail(start, &RpcError::new(Code::Cancelled));
        }
        self.out.extend_from_slice(br#"{"result":"#);
        self.context.deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        let result = self.native.call_item(item, self.context, self.out);
        if self
            .context
            .deadline
            .is_some_and(|deadline| Instant::now() > deadline)
        {
            let late = RpcError::new(Code::DeadlineExceeded)
                .data(&serde_json::json!({"state": "running"}));
            return self.fail(start, &late);
        }
        match result {
            Ok(()) => self.out.push(b'}'),
            Err(error) => self.fail(start, &error.to_rpc(self.origin)),
        }
    }

    fn fail(&mut self, start: usize, error: &RpcError) {
        self.out.truncate(start);
        self.out.extend_from_slice(br#"{"error":"#);
        self.out.extend_from_slice(error.to_json().as_bytes());
        self.out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::CancelFlag;
    use serde_json::{Value, json};

    fn origin() -> Origin {
        Origin {
            worker: "w".into(),
            host: "h".into(),
            pid: 1,
        }
    }

    fn run_chunk(native: &Native, body: &str, timeout: Option<Duration>) -> (u32, Value) {
        let cancel = CancelFlag::default();
        let mut context = CallContext::new("m", &cancel);
        let mut out = Vec::new();
        let items = run(native, body, timeout, &mut context, &origin(), &mut out).unwrap();
        (items, serde_json::from_slice(&out).unwrap())
    }

    #[test]
    fn each_item_has_its_own_result_or_error() {
        let invert = Native::new("invert".into(), |n: i64| 100 / n);
        let (items, out) = run_chunk(&invert, r#"[5, 0, "x", 20]"#, None);
        assert_eq!(items, 4);
        assert_eq!(out[0], json!({"result": 20}));
        assert_eq!(out[1]["error"]["data"]["type"], "panic");
        assert_eq!(out[2]["error"]["code"], -32602);
        assert_eq!(out[3], json!({"result": 5}));
        assert_eq!(run_chunk(&invert, "[]", None), (0, json!([])));
    }

    #[test]
    fn an_item_that_takes_too_long_fails_alone() {
        let slow = Native::with_context("slow".into(), |call: &CallContext<'_>, long: bool| {
            while long && !call.is_cancelled() {
                std::thread::yield_now();
            }
        });
        let (_, out) = run_chunk(&slow, "[true,false]", Some(Duration::from_millis(20)));
        assert_eq!(out[0]["error"]["code"], -32001);
        assert_eq!(out[1], json!({"result": null}));
    }

    #[test]
    fn a_body_that_is_no_array_is_refused_whole() {
        let identity = Native::new("identity".into(), |n: i64| n);
        let cancel = CancelFlag::default();
        let mut context = CallContext::new("m", &cancel);
        let mut out = b"x".to_vec();
        for body in ["{}", "[1,", "5"] {
            let result = run(&identity, body, None, &mut context, &origin(), &mut out);
            assert!(matches!(result, Err(CallError::InvalidParams(_))), "{body}");
            assert_eq!(out, b"x");
        }
    }
}
