//! The last failures of calls through this gateway, for brokers that do not keep any.

use muster_proto::rpc::RpcError;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// How many are kept.
const KEPT: usize = 50;
/// `data` above this is left out: a traceback is a few kilobytes.
const DATA_BYTES_MAX: usize = 16 << 10;

/// One failed call, as the page shows it.
#[derive(Clone, Debug, Serialize)]
struct Failed {
    method: String,
    /// Milliseconds since 1970.
    ended_ms: u64,
    code: i64,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
}

/// A ring of them.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    ring: Mutex<VecDeque<Failed>>,
}

impl Failures {
    pub(crate) fn add(&self, method: &str, error: &RpcError) {
        let data = error.data.as_ref();
        let failed = Failed {
            method: method.to_owned(),
            ended_ms: now_ms(),
            code: error.code,
            message: error.message.chars().take(1_000).collect(),
            data: data
                .filter(|data| data.get().len() <= DATA_BYTES_MAX)
                .cloned(),
        };
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.truncate(KEPT - 1);
        ring.push_front(failed);
    }

    /// The newest first.
    pub(crate) fn to_json(&self) -> String {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        serde_json::to_string(&*ring).expect("all its keys are strings")
    }
}

/// The wall clock, for people.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::code::Code;

    #[test]
    fn the_newest_are_kept() {
        let failures = Failures::default();
        for n in 0..2 * KEPT {
            let error = RpcError::new(Code::CallFailed).data(&n);
            failures.add("m", &error);
        }
        let large = RpcError::new(Code::CallFailed).data(&"x".repeat(DATA_BYTES_MAX));
        failures.add("n", &large);
        let list: Vec<serde_json::Value> = serde_json::from_str(&failures.to_json()).unwrap();
        assert_eq!(list.len(), KEPT);
        assert_eq!(
            (&list[0]["method"], list[0].get("data")),
            (&"n".into(), None)
        );
        assert_eq!(list[1]["data"], 2 * KEPT - 1);
    }
}
