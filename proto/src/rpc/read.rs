//! Reads the body of a client message.

use super::{Meta, RpcError, plain};
use crate::code::Code;
use crate::envelope::is_json;
use crate::limits;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// What a body holds.
#[derive(Debug)]
// Nearly every body is a call: a box around it would be one allocation for each.
#[allow(clippy::large_enum_variant)]
pub enum Body<'a> {
    /// Not JSON by its first byte: opaque.
    Raw,
    /// A JSON object without a `jsonrpc` member: opaque where something takes raw bodies, else the
    /// invalid request that is given here.
    Foreign(Refused<'a>),
    /// One call or notification.
    Call(CallView<'a>),
    /// Several, in order.
    Batch(Vec<Result<CallView<'a>, Refused<'a>>>),
    /// Nothing that can be taken on: the answer to give.
    Refused(Refused<'a>),
}

/// A call that can't be taken on: the answer to give and the id to give it under.
#[derive(Debug, PartialEq)]
pub struct Refused<'a> {
    /// The id as written; `None` when it is unknown (answered as `null`).
    pub id: Option<&'a str>,
    /// What is wrong.
    pub error: RpcError,
}

/// One call, as spans of the body.
#[derive(Clone, Debug, PartialEq)]
pub struct CallView<'a> {
    /// The method's name, unescaped.
    pub method: Cow<'a, str>,
    /// The id as written; `None`: a notification.
    pub id: Option<&'a str>,
    /// The parameters as written: an array or object.
    pub params: Option<&'a str>,
    /// The member `meta`, read.
    pub meta: Meta,
    /// The call's own object as written: the body, or a batch's item.
    pub object: &'a str,
    /// What to leave out of `object` so that a strict server takes it: the member `meta` with one
    /// comma beside it.
    pub meta_span: Option<Range<usize>>,
}

/// Reads a body.
///
/// The size is the caller's to check. Depth, batch length, and the lengths of method and id are
/// checked here.
pub fn read(body: &[u8]) -> Body<'_> {
    if !is_json(body) {
        return Body::Raw;
    }
    let Ok(text) = std::str::from_utf8(body) else {
        return Body::Refused(Refused::unknown(RpcError::new(Code::ParseError)));
    };
    if let Some(members) = plain::members(text) {
        return of_object(members, text);
    }
    if let Some(depth) = too_deep(body) {
        let error = RpcError::too_large("depth", depth, limits::DEPTH_MAX);
        return Body::Refused(Refused::unknown(error));
    }
    if text.trim_start().starts_with('[') {
        return read_batch(text);
    }
    match serde_json::from_str::<Members<'_>>(text) {
        Err(_) => Body::Refused(Refused::unknown(RpcError::new(Code::ParseError))),
        Ok(members) => of_object(members, text),
    }
}

fn of_object<'a>(members: Members<'a>, text: &'a str) -> Body<'a> {
    if members.jsonrpc.is_none() {
        let id = members.id.filter(|id| is_id(id));
        return Body::Foreign(Refused {
            id,
            error: RpcError::new(Code::InvalidRequest),
        });
    }
    match members.into_call(text) {
        Ok(call) => Body::Call(call),
        Err(refused) => Body::Refused(refused),
    }
}

fn read_batch(text: &str) -> Body<'_> {
    let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(text) else {
        return Body::Refused(Refused::unknown(RpcError::new(Code::ParseError)));
    };
    if items.is_empty() {
        // JSON-RPC 2.0, section 6: an empty array is one invalid request.
        return Body::Refused(Refused::unknown(RpcError::new(Code::InvalidRequest)));
    }
    if items.len() > limits::BATCH_CALLS_MAX {
        let error = RpcError::too_large("batch_calls", items.len(), limits::BATCH_CALLS_MAX);
        return Body::Refused(Refused::unknown(error));
    }
    Body::Batch(
        items
            .into_iter()
            .map(|item| read_item(item.get()))
            .collect(),
    )
}

fn read_item(text: &str) -> Result<CallView<'_>, Refused<'_>> {
    let invalid = || Refused::unknown(RpcError::new(Code::InvalidRequest));
    if !text.starts_with('{') {
        return Err(invalid());
    }
    // The text was JSON as part of the batch, so what fails here is its shape.
    let members = match plain::members(text) {
        Some(members) => members,
        None => serde_json::from_str(text).map_err(|_| invalid())?,
    };
    members.into_call(text)
}

/// Counts brackets outside strings only when there are enough of them to be too deep at all.
fn too_deep(body: &[u8]) -> Option<usize> {
    let openers = body
        .iter()
        .filter(|&&byte| byte == b'[' || byte == b'{')
        .count();
    if openers <= limits::DEPTH_MAX {
        return None;
    }
    let (mut depth, mut deepest) = (0usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for &byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    (deepest > limits::DEPTH_MAX).then_some(deepest)
}

/// JSON-RPC 2.0, section 4: a string, a number or null.
fn is_id(raw: &str) -> bool {
    matches!(raw.as_bytes()[0], b'"' | b'n' | b'-' | b'0'..=b'9')
}

impl Refused<'_> {
    fn unknown(error: RpcError) -> Self {
        Refused { id: None, error }
    }
}

/// The members that matter, as written.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Members<'a> {
    pub(super) jsonrpc: Option<&'a str>,
    pub(super) method: Option<&'a str>,
    pub(super) id: Option<&'a str>,
    pub(super) params: Option<&'a str>,
    pub(super) meta: Option<&'a str>,
    repeated: Option<&'static str>,
}

impl<'a> Members<'a> {
    fn into_call(self, text: &'a str) -> Result<CallView<'a>, Refused<'a>> {
        let id = self
            .id
            .filter(|id| is_id(id) && id.len() <= limits::ID_BYTES_MAX);
        let refused = |error| Refused { id, error };
        let plain = || refused(RpcError::new(Code::InvalidRequest));
        if let Some(name) = self.repeated {
            return Err(refused(RpcError::invalid(&format!(
                "member {name} is there twice"
            ))));
        }
        if let Some(raw) = self.id.filter(|raw| raw.len() > limits::ID_BYTES_MAX) {
            let error = RpcError::too_large("id_bytes", raw.len(), limits::ID_BYTES_MAX);
            return Err(refused(error));
        }
        if self.id.is_some() && id.is_none() {
            return Err(refused(RpcError::invalid(
                "id is a string, a number or null",
            )));
        }
        if self.jsonrpc != Some("\"2.0\"") {
            return Err(plain());
        }
        let method = self.method.and_then(unescape).ok_or_else(plain)?;
        if method.len() > limits::METHOD_BYTES_MAX {
            let error = RpcError::too_large("method_bytes", method.len(), limits::METHOD_BYTES_MAX);
            return Err(refused(error));
        }
        if self.params.is_some_and(|raw| !raw.starts_with(['[', '{'])) {
            return Err(refused(RpcError::invalid(
                "params is an array or an object",
            )));
        }
        let meta = match self.meta {
            None => Meta::default(),
            Some(raw) => Meta::read(raw).map_err(|why| refused(RpcError::invalid(&why)))?,
        };
        // An object: the items came packed, which is for the worker to read.
        if meta.map && self.params.is_none() {
            return Err(refused(RpcError::invalid(
                "a map chunk has items in params",
            )));
        }
        let meta_span = self.meta.map(|raw| member_span(text, raw));
        Ok(CallView {
            method,
            id,
            params: self.params,
            meta,
            object: text,
            meta_span,
        })
    }
}

fn unescape(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str(raw).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

/// Where the member whose value is `raw`, a part of `text`, stands with one comma.
fn member_span(text: &str, raw: &str) -> Range<usize> {
    let value = raw.as_ptr() as usize - text.as_ptr() as usize;
    let end = value + raw.len();
    let before = text[..value]
        .trim_end()
        .strip_suffix(':')
        .unwrap_or_default()
        .trim_end();
    // The key is `meta` in some spelling, none of which holds a quote.
    let key = before
        .strip_suffix('"')
        .and_then(|head| head.rfind('"'))
        .unwrap_or(value);
    let head = text[..key].trim_end();
    if let Some(head) = head.strip_suffix(',') {
        return head.len()..end;
    }
    let tail = text[end..].trim_start();
    let comma = usize::from(tail.starts_with(','));
    key..text.len() - tail.len() + comma
}

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON-RPC object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members::default();
        while let Some(name) = map.next_key::<MemberName>()? {
            let value = map.next_value::<&RawValue>()?.get();
            let (slot, name) = match name {
                MemberName::Jsonrpc => (&mut members.jsonrpc, "jsonrpc"),
                MemberName::Method => (&mut members.method, "method"),
                MemberName::Id => (&mut members.id, "id"),
                MemberName::Params => (&mut members.params, "params"),
                MemberName::Meta => (&mut members.meta, "meta"),
                MemberName::Other => continue,
            };
            if slot.replace(value).is_some() {
                members.repeated = Some(name);
            }
        }
        Ok(members)
    }
}

/// A member's name without an allocation.
enum MemberName {
    Jsonrpc,
    Method,
    Id,
    Params,
    Meta,
    Other,
}

impl<'de> serde::Deserialize<'de> for MemberName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl Visitor<'_> for NameVisitor {
            type Value = MemberName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }

            fn visit_str<E>(self, name: &str) -> Result<MemberName, E> {
                Ok(match name {
                    "jsonrpc" => MemberName::Jsonrpc,
                    "method" => MemberName::Method,
                    "id" => MemberName::Id,
                    "params" => MemberName::Params,
                    "meta" => MemberName::Meta,
                    _ => MemberName::Other,
                })
            }
        }
        deserializer.deserialize_identifier(NameVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(text: &str) -> CallView<'_> {
        match read(text.as_bytes()) {
            Body::Call(call) => call,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn refused(text: &str) -> (Option<&str>, i64) {
        match read(text.as_bytes()) {
            Body::Refused(refused) => (refused.id, refused.error.code),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_call_is_read_as_spans() {
        let text = r#" {"jsonrpc": "2.0", "method": "multiply", "params": [5, 3], "id": 1}"#;
        let call = call(text);
        assert_eq!((call.method.as_ref(), call.id), ("multiply", Some("1")));
        assert_eq!((call.params, call.meta_span), (Some("[5, 3]"), None));
    }

    #[test]
    fn ids_stay_as_written_and_null_is_one() {
        for id in ["1", "-1.50e2", "\"a\\u0062\"", "null", "1e400"] {
            let text = format!(r#"{{"jsonrpc":"2.0","method":"m","id":{id}}}"#);
            assert_eq!(call(&text).id, Some(id));
        }
        assert_eq!(call(r#"{"jsonrpc":"2.0","method":"m"}"#).id, None);
        for id in ["[1]", "{}", "true"] {
            let text = format!(r#"{{"jsonrpc":"2.0","method":"m","id":{id}}}"#);
            assert_eq!(refused(&text), (None, -32600), "{id}");
        }
    }

    #[test]
    fn dropping_meta_leaves_the_other_members_byte_for_byte() {
        let cases = [
            (
                r#"{"meta":{"map":true},"jsonrpc":"2.0","method":"m","params":[]}"#,
                r#"{"jsonrpc":"2.0","method":"m","params":[]}"#,
            ),
            (
                r#"{"jsonrpc":"2.0", "meta" : {} , "method":"m"}"#,
                r#"{"jsonrpc":"2.0" , "method":"m"}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","method":"m","m\u0065ta":{}}"#,
                r#"{"jsonrpc":"2.0","method":"m"}"#,
            ),
        ];
        for (text, expected) in cases {
            let span = call(text).meta_span.unwrap();
            assert_eq!(
                format!("{}{}", &text[..span.start], &text[span.end..]),
                expected
            );
        }
    }

    #[test]
    fn unknown_and_wrong_meta_members_are_refused_by_name() {
        for (meta, word) in [
            (r#"{"tmeout_ms":1}"#, "tmeout_ms"),
            (r#"{"priority":11}"#, "priority"),
            (r#"{"attempts_max":0}"#, "attempts_max"),
            (r#"{"key":""}"#, "key"),
            ("[]", "meta"),
        ] {
            let text = format!(r#"{{"jsonrpc":"2.0","method":"m","id":7,"meta":{meta}}}"#);
            let Body::Refused(refused) = read(text.as_bytes()) else {
                panic!("{meta}")
            };
            assert_eq!((refused.id, refused.error.code), (Some("7"), -32600));
            assert!(
                refused.error.to_json().contains(word),
                "{}",
                refused.error.to_json()
            );
        }
    }

    #[test]
    fn caps_are_named() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(refused(&deep), (None, -32005));
        let brackets = format!(
            r#"{{"jsonrpc":"2.0","method":"m","params":["{}"]}}"#,
            "[".repeat(99)
        );
        assert_eq!(call(&brackets).method, "m");
        let name = format!(
            r#"{{"jsonrpc":"2.0","method":"{}","id":1}}"#,
            "n".repeat(10_000)
        );
        assert_eq!(refused(&name), (Some("1"), -32005));
        let batch = format!("[{}]", vec!["1"; 1_001].join(","));
        assert_eq!(refused(&batch), (None, -32005));
    }

    #[test]
    fn what_is_not_json_is_raw_or_a_parse_error() {
        assert!(matches!(read(b"Hello"), Body::Raw));
        assert!(matches!(read(b""), Body::Raw));
        assert_eq!(
            refused("{\"jsonrpc\": \"2.0\", \"method\": \"foobar, \"params\": \"bar\"]"),
            (None, -32700)
        );
        assert!(matches!(read(b"{\"\xff\":1}"), Body::Refused(_)));
        assert!(matches!(read(br#"{"op":"add"}"#), Body::Foreign(_)));
    }

    #[test]
    fn a_batch_keeps_good_and_bad_items_in_order() {
        let text = r#"[{"jsonrpc":"2.0","method":"a","id":1}, 1, {"foo":"boo"}]"#;
        let Body::Batch(items) = read(text.as_bytes()) else {
            panic!()
        };
        assert_eq!(items[0].as_ref().unwrap().method, "a");
        assert_eq!(items[1].as_ref().unwrap_err().error.code, -32600);
        assert_eq!(items[2].as_ref().unwrap_err().error.code, -32600);
        assert_eq!(refused("[]"), (None, -32600));
        assert_eq!(refused("[1,"), (None, -32700));
    }

    #[test]
    fn a_member_that_is_there_twice_is_refused() {
        assert_eq!(
            refused(r#"{"jsonrpc":"2.0","method":"a","method":"b","id":1}"#),
            (Some("1"), -32600)
        );
    }
}
