//! What clients send, and what they are answered.

use super::frames;
use muster_proto::envelope::{is_json, split};
use muster_proto::json;
use muster_proto::limits::{
    BATCH_CALLS_MAX, ID_BYTES_MAX, METHOD_BYTES_MAX, PATH_BYTES_MAX, PATH_FRAMES_MAX,
};
use muster_proto::rpc::{
    Body, CallView, Refused, error_reply, insert_id, read, read_replies, read_reply, result_reply,
};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use std::collections::HashMap;

/// The frames of a message on the frontend.
pub fn envelope(data: &[u8]) {
    let frames = frames(data);
    if let Ok(found) = split(&frames) {
        assert!(found.path.start == 1 && found.path.end <= found.body);
        assert!(found.body < frames.len());
        if found.has_delimiter {
            assert!(frames[found.path.end - 1].is_empty());
            let path = &frames[found.path.start..found.path.end - 1];
            assert!(path.len() <= PATH_FRAMES_MAX);
            assert!(path.iter().map(|frame| frame.len()).sum::<usize>() <= PATH_BYTES_MAX);
        }
        is_json(frames[found.body]);
    }
}

/// A value as the broker checks it.
pub fn json(data: &[u8]) {
    let by_serde = serde_json::from_slice::<IgnoredAny>(data).is_ok();
    assert_eq!(json::is_value(data), by_serde);
}

/// A JSON-RPC body as the broker reads it.
pub fn rpc(data: &[u8]) {
    match read(data) {
        Body::Raw => assert!(!is_json(data)),
        Body::Call(call) => check_call(&call, data),
        Body::Foreign(refused) | Body::Refused(refused) => check_refused(&refused),
        Body::Batch(items) => {
            assert!((1..=BATCH_CALLS_MAX).contains(&items.len()));
            for item in items {
                match item {
                    Ok(call) => check_call(&call, data),
                    Err(refused) => check_refused(&refused),
                }
            }
        }
    }
}

fn check_call(call: &CallView<'_>, body: &[u8]) {
    // A plain call is found by a scanner: it is what serde_json finds.
    let members: HashMap<String, &RawValue> =
        serde_json::from_str(call.object).expect("a call is JSON");
    let member = |name: &str| members.get(name).map(|raw| raw.get());
    assert_eq!(member("jsonrpc"), Some("\"2.0\""));
    assert_eq!((member("id"), member("params")), (call.id, call.params));
    let method: String = serde_json::from_str(member("method").expect("a call has a method"))
        .expect("a method is a string");
    assert_eq!(method, call.method);
    assert_eq!(member("meta").is_some(), call.meta_span.is_some());
    assert!(call.object.len() <= body.len());
    assert!(call.method.len() <= METHOD_BYTES_MAX);
    if let Some(id) = call.id {
        assert!(id.len() <= ID_BYTES_MAX);
        let reply = result_reply(id, b"1");
        assert!(read_reply(&reply).is_some());
    } else {
        // What a stock server is sent for a notification.
        let with_id = insert_id(call.object, 7);
        assert!(matches!(read(with_id.as_bytes()), Body::Call(call) if call.id == Some("7")));
    }
    // What a strict server is sent: the object without `meta`, still JSON.
    if let Some(span) = &call.meta_span {
        let mut object = call.object.to_owned();
        object.replace_range(span.clone(), "");
        assert!(
            matches!(read(object.as_bytes()), Body::Call(call) if call.meta_span.is_none()),
            "{object}"
        );
    }
}

fn check_refused(refused: &Refused<'_>) {
    let reply = error_reply(refused.id, &refused.error);
    assert!(read_reply(&reply).is_some_and(|view| view.outcome.is_err()));
}

/// A reply as clients read it, and as the broker reads that of a stock server.
pub fn reply(data: &[u8]) {
    if let Some(view) = read_reply(data)
        && let Ok(result) = view.outcome
    {
        let again = result_reply(view.id.unwrap_or("null"), result.as_bytes());
        let again = read_reply(&again).expect("it was composed of what was read");
        assert_eq!(again.outcome, Ok(result));
    }
    read_replies(data);
}

/// A call over the gateway.
pub fn xmlrpc(data: &[u8]) {
    if let Some((_, params)) = muster_gateway::read_xml_rpc(data) {
        // Spans, since JSON bounds no number and Rust's do.
        serde_json::from_str::<Vec<&RawValue>>(&params).expect("the parameters are a JSON array");
    }
}
