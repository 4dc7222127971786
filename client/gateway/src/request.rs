//! JSON-RPC bodies from HTTP: which of them go to the broker, and what is added on the way.

use crate::pool::Request;
use muster_proto::code::Code;
use muster_proto::rpc::{self, Body, CallView, RpcError, error_reply};
use serde::Deserialize;
use serde_json::json;
use std::borrow::Cow;
use std::time::Duration;

/// What callers may do and what their calls get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub(crate) allow_admin: bool,
    /// Deadline of calls that bring none; zero: none.
    pub(crate) timeout: Duration,
}

/// The broker's own methods that change nothing. Those of the broker's space that are not listed
/// are for its administrators, also ones that are yet to come.
const HARMLESS: [&str; 6] = [
    "broker.calls",
    "broker.endpoints",
    "broker.explain",
    "broker.methods",
    "broker.status",
    "broker.workers",
];

/// The answer to a body that does not go to the broker.
#[derive(Debug, PartialEq)]
pub(crate) struct Refusal {
    /// The id as written, if it is known.
    pub(crate) id: Option<String>,
    pub(crate) error: RpcError,
}

impl Refusal {
    pub(crate) fn reply(&self) -> Vec<u8> {
        error_reply(self.id.as_deref(), &self.error)
    }
}

/// Reads a body. A single call gets the key that `key` makes, unless it has one.
pub(crate) fn read(
    body: &[u8],
    policy: Policy,
    key: impl FnOnce() -> String,
) -> Result<Request, Refusal> {
    let unknown = |error| Err(Refusal { id: None, error });
    match rpc::read(body) {
        // HTTP has a type for bodies, and theirs was JSON.
        Body::Raw => unknown(RpcError::new(Code::ParseError)),
        Body::Foreign(refused) | Body::Refused(refused) => Err(Refusal {
            id: refused.id.map(str::to_owned),
            error: refused.error,
        }),
        Body::Call(call) => match check(&call, policy) {
            Err(error) => Err(Refusal {
                id: call.id.map(str::to_owned),
                error,
            }),
            Ok(()) => Ok(single(&call, policy, key)),
        },
        Body::Batch(items) => {
            let calls: Vec<&CallView<'_>> = items.iter().flatten().collect();
            match calls.iter().find_map(|call| check(call, policy).err()) {
                // Leaving one item out would shift the others, so the batch is refused.
                Some(error) => unknown(error),
                None => Ok(batch(body, &calls, policy)),
            }
        }
    }
}

fn single(call: &CallView<'_>, policy: Policy, key: impl FnOnce() -> String) -> Request {
    let timeout_ms = added_timeout_ms(call, policy);
    // A notification has no answer to find again.
    let key = (call.id.is_some() && call.meta.key.is_none()).then(key);
    let mut body = Vec::with_capacity(call.object.len() + 96);
    write(call, key.as_deref(), timeout_ms, &mut body);
    Request {
        body,
        method: call.method.clone().into_owned(),
        key,
        is_once: call.meta.attempts_max == Some(1),
        timeout: Duration::from_millis(timeout_ms.or(call.meta.timeout_ms).unwrap_or(0)),
    }
}

fn batch(body: &[u8], calls: &[&CallView<'_>], policy: Policy) -> Request {
    let mut out = Vec::with_capacity(body.len() + 32);
    let mut written = 0;
    for call in calls {
        // Each object is a slice of the body.
        let start = call.object.as_ptr() as usize - body.as_ptr() as usize;
        out.extend_from_slice(&body[written..start]);
        write(call, None, added_timeout_ms(call, policy), &mut out);
        written = start + call.object.len();
    }
    out.extend_from_slice(&body[written..]);
    let timeouts = calls
        .iter()
        .map(|call| added_timeout_ms(call, policy).or(call.meta.timeout_ms));
    // One call without a timeout can keep the whole batch waiting.
    let longest_ms = timeouts
        .collect::<Option<Vec<_>>>()
        .and_then(|all| all.into_iter().max());
    let method = match calls.split_first() {
        Some((first, others)) if others.iter().all(|call| call.method == first.method) => {
            first.method.clone().into_owned()
        }
        _ => "system.multicall".to_owned(),
    };
    Request {
        body: out,
        method,
        key: None,
        is_once: calls.iter().any(|call| call.meta.attempts_max == Some(1)),
        timeout: Duration::from_millis(longest_ms.unwrap_or(0)),
    }
}

fn check(call: &CallView<'_>, policy: Policy) -> Result<(), RpcError> {
    if call.meta.frames {
        let reason = "meta.frames: attachments do not travel over HTTP, bytes come as $base64";
        return Err(RpcError::invalid(reason));
    }
    if call.meta.stream {
        return Err(RpcError::invalid("meta.stream: HTTP takes one answer"));
    }
    if policy.allow_admin {
        return Ok(());
    }
    check_method(&call.method)?;
    if call.method == "system.multicall" {
        for inner in multicall_methods(call.params) {
            if inner == "system.multicall" {
                return Err(RpcError::invalid("system.multicall within itself"));
            }
            check_method(&inner)?;
        }
    }
    Ok(())
}

fn check_method(method: &str) -> Result<(), RpcError> {
    if !method.starts_with("broker.") || HARMLESS.contains(&method) {
        return Ok(());
    }
    let reason = format!("{method} needs a gateway with --allow-admin");
    Err(RpcError::new(Code::Forbidden).data(&json!({"reason": reason})))
}

/// The methods that the broker will find in a multicall; none when it will refuse it anyway.
fn multicall_methods(params: Option<&str>) -> Vec<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Item<'a> {
        #[serde(rename = "methodName", borrow)]
        method: Cow<'a, str>,
    }
    let calls: Vec<Vec<Item<'_>>> =
        serde_json::from_str(params.unwrap_or("[]")).unwrap_or_default();
    let names = calls.into_iter().flatten().map(|item| item.method);
    names.collect()
}

fn added_timeout_ms(call: &CallView<'_>, policy: Policy) -> Option<u64> {
    let is_wanted = call.meta.timeout_ms.is_none() && !policy.timeout.is_zero();
    let ms = policy.timeout.as_nanos().div_ceil(1_000_000);
    is_wanted.then(|| u64::try_from(ms).unwrap_or(u64::MAX))
}

/// Copies a call's object with members added to its `meta`.
fn write(call: &CallView<'_>, key: Option<&str>, timeout_ms: Option<u64>, out: &mut Vec<u8>) {
    let mut members = Vec::new();
    members.extend(key.map(|key| format!(r#""key":"{key}""#)));
    members.extend(timeout_ms.map(|ms| format!(r#""timeout_ms":{ms}"#)));
    let members = members.join(",");
    let object = call.object;
    let (at, added) = match &call.meta_span {
        _ if members.is_empty() => (0, String::new()),
        None => {
            // An object has members, so a comma is right.
            let at = object.find('{').map_or(0, |at| at + 1);
            (at, format!(r#""meta":{{{members}}},"#))
        }
        Some(span) => {
            // The member's name holds no brace, so the first one opens its value.
            let open = object[span.clone()].find('{').unwrap_or(0);
            let at = span.start + open + 1;
            let is_empty = object[at..].trim_start().starts_with('}');
            let comma = if is_empty { "" } else { "," };
            (at, format!("{members}{comma}"))
        }
    };
    out.extend_from_slice(&object.as_bytes()[..at]);
    out.extend_from_slice(added.as_bytes());
    out.extend_from_slice(&object.as_bytes()[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Policy = Policy {
        allow_admin: false,
        timeout: Duration::ZERO,
    };
    const TIMED: Policy = Policy {
        timeout: Duration::from_micros(1500),
        ..PLAIN
    };

    fn sent(body: &str, policy: Policy) -> Request {
        read(body.as_bytes(), policy, || "k.1".into()).unwrap()
    }

    fn refused(body: &str) -> (Option<String>, i64) {
        let refusal = read(body.as_bytes(), PLAIN, || "k.1".into()).unwrap_err();
        (refusal.id, refusal.error.code)
    }

    fn text(request: Request) -> String {
        String::from_utf8(request.body).unwrap()
    }

    #[test]
    fn a_call_gets_a_key_and_stays_as_it_was() {
        let request = sent(r#" {"jsonrpc": "2.0","method":"m", "id" : 1}"#, PLAIN);
        assert_eq!(request.key.as_deref(), Some("k.1"));
        assert_eq!(request.method, "m");
        assert_eq!(
            text(request),
            r#" {"meta":{"key":"k.1"},"jsonrpc": "2.0","method":"m", "id" : 1}"#
        );
        let empty = sent(r#"{"jsonrpc":"2.0","method":"m","id":1,"meta":{ }}"#, PLAIN);
        assert_eq!(
            text(empty),
            r#"{"jsonrpc":"2.0","method":"m","id":1,"meta":{"key":"k.1" }}"#
        );
        let full = r#"{"meta" : {"priority":3},"jsonrpc":"2.0","method":"m","id":1}"#;
        assert_eq!(
            text(sent(full, TIMED)),
            r#"{"meta" : {"key":"k.1","timeout_ms":2,"priority":3},"jsonrpc":"2.0","method":"m","id":1}"#
        );
    }

    #[test]
    fn own_keys_and_timeouts_are_kept() {
        let body = r#"{"jsonrpc":"2.0","method":"m","id":1,"meta":{"key":"mine","timeout_ms":70}}"#;
        let request = sent(body, TIMED);
        assert_eq!(request.key, None, "a call with a key outlives its caller");
        assert_eq!(request.timeout, Duration::from_millis(70));
        assert_eq!(text(request), body);
    }

    #[test]
    fn every_request_is_read_by_the_broker_as_it_was_meant() {
        let batch = r#"[{"jsonrpc":"2.0","method":"a","id":1}, 1 ,{"jsonrpc":"2.0","method":"b"}]"#;
        let request = sent(batch, TIMED);
        assert_eq!(request.method, "system.multicall");
        assert_eq!(request.timeout, Duration::from_millis(2));
        let body = request.body;
        let Body::Batch(items) = rpc::read(&body) else {
            panic!("{body:?}")
        };
        assert_eq!(items[0].as_ref().unwrap().meta.timeout_ms, Some(2));
        assert!(items[1].is_err());
        assert_eq!(items[2].as_ref().unwrap().id, None);
        let notification = r#"{"jsonrpc":"2.0","method":"m"}"#;
        assert_eq!(text(sent(notification, PLAIN)), notification);
    }

    #[test]
    fn what_is_no_call_is_answered_here() {
        assert_eq!(refused("hello"), (None, -32700));
        assert_eq!(refused("{\"jsonrpc\""), (None, -32700));
        assert_eq!(refused(r#"{"method":"m","id":7}"#).1, -32600);
        assert_eq!(refused("[]"), (None, -32600));
        for meta in [r#"{"frames":true}"#, r#"{"stream":true}"#] {
            let body = format!(r#"{{"jsonrpc":"2.0","method":"m","id":7,"meta":{meta}}}"#);
            assert_eq!(refused(&body), (Some("7".into()), -32600));
        }
    }

    #[test]
    fn the_cluster_is_changed_by_administrators_alone() {
        let drain = r#"{"jsonrpc":"2.0","method":"broker.dr\u0061in","params":["w"],"id":7}"#;
        assert_eq!(refused(drain), (Some("7".into()), -32006));
        assert_eq!(refused(&format!("[{drain}]")), (None, -32006));
        let multi = r#"{"jsonrpc":"2.0","method":"system.multicall","id":7,
            "params":[[{"methodName":"m","params":[]},{"params":[],"methodName":"broker.scale"}]]}"#;
        assert_eq!(refused(multi), (Some("7".into()), -32006));
        let status = r#"{"jsonrpc":"2.0","method":"broker.status","id":7}"#;
        assert_eq!(sent(status, PLAIN).method, "broker.status");
        let admin = Policy {
            allow_admin: true,
            ..PLAIN
        };
        assert_eq!(sent(drain, admin).method, "broker.drain");
    }
}
