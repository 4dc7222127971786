//! The cluster at one moment, as the page gets it: all that moves, and nothing else.

use crate::broker;
use crate::failures::now_ms;
use crate::gateway::Gateway;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

/// Running calls whose method is shown on a slot's tile.
const RUNNING_MAX: usize = 5_000;

/// A worker without the names of its methods, which are many and the same every second.
#[derive(Deserialize, Serialize)]
struct Worker {
    name: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    host: String,
    #[serde(default)]
    pid: u64,
    #[serde(default)]
    state: String,
    #[serde(default)]
    slot_states: Vec<Slot>,
}

#[derive(Deserialize, Serialize)]
struct Slot {
    name: String,
    state: String,
    #[serde(default)]
    calls: u64,
    #[serde(default)]
    failures: u64,
    #[serde(default)]
    service_s: f64,
    #[serde(default)]
    call: Option<String>,
}

/// A method without its documentation.
#[derive(Deserialize, Serialize)]
struct Method {
    name: String,
    #[serde(default)]
    workers: u64,
    #[serde(default)]
    slots: u64,
    #[serde(default)]
    queued: u64,
    #[serde(default)]
    service_us: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latency: Option<Box<RawValue>>,
}

#[derive(Deserialize, Serialize)]
struct Running {
    id: String,
    method: Option<String>,
    #[serde(default)]
    age_s: f64,
}

/// Asks the broker and writes the answer down in one line of JSON.
pub(crate) async fn take(gateway: &Gateway) -> String {
    let running = format!(r#"{{"state":"running","limit":{RUNNING_MAX}}}"#);
    let questions = [
        ("broker.status", "[]"),
        ("broker.workers", "[]"),
        ("broker.methods", "[]"),
        ("broker.calls", &running),
        ("broker.calls", r#"{"state":"failed","limit":50}"#),
    ];
    let mut answers = match broker::ask_all(&*gateway.pool, &questions).await {
        Ok(answers) => answers.into_iter(),
        Err(failure) => {
            let reason = failure.to_string();
            return json!({"at_ms": now_ms(), "up": false, "reason": reason}).to_string();
        }
    };
    let mut next = || answers.next().flatten();
    let status = next().unwrap_or_else(|| "null".into());
    let workers = compact::<Worker>(next());
    let methods = compact::<Method>(next());
    let running = compact::<Running>(next());
    let failed = next().unwrap_or_else(|| gateway.failures.to_json());
    let at_ms = now_ms();
    let is_up = status != "null";
    format!(
        r#"{{"at_ms":{at_ms},"up":{is_up},"status":{status},"workers":{workers},"methods":{methods},"running":{running},"failed":{failed}}}"#
    )
}

fn compact<T: for<'a> Deserialize<'a> + Serialize>(text: Option<String>) -> String {
    let list = text.and_then(|text| serde_json::from_str::<Vec<T>>(&text).ok());
    serde_json::to_string(&list.unwrap_or_default()).expect("all its keys are strings")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_move_is_left_out() {
        let workers = r#"[{"name":"w","methods":["a","b"],"slot_states":[{"name":"w.1","state":"busy","call":"c1"}]}]"#;
        let compacted = compact::<Worker>(Some(workers.into()));
        assert!(compacted.contains(r#""call":"c1""#), "{compacted}");
        assert!(!compacted.contains("methods"), "{compacted}");
        assert_eq!(compact::<Worker>(None), "[]");
    }
}
