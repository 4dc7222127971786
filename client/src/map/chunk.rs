//! The reply to a chunk: an outcome for each item, found in one pass.

use super::block::ItemOutcome;
use super::elements::Elements;
use muster_proto::rpc::{RpcError, read_reply};
use muster_proto::socket::Frame;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// How Muster's broker and workers write it, byte for byte.
const HEAD: &[u8] = br#"{"jsonrpc":"2.0","result":["#;
const RESULT: &[u8] = br#"{"result":"#;

/// A reply, and where in it the outcomes are.
#[derive(Debug)]
pub(super) struct Chunk {
    body: Frame,
    spans: Vec<Span>,
}

/// Where one outcome stands. A body has at most 4 GiB, or it would not have come here.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
    is_error: bool,
}

/// Why a reply is no list of as many outcomes as there were items.
#[derive(Debug, PartialEq)]
pub(super) enum NoChunk {
    /// The chunk as a whole failed.
    Failed(RpcError),
    /// It can't be read.
    Unreadable,
}

impl Chunk {
    pub(super) fn read(body: Frame, items: u32) -> Result<Self, NoChunk> {
        if u32::try_from(body.len()).is_err() {
            return Err(NoChunk::Unreadable);
        }
        let items = items as usize;
        let spans = match scan(&body, items) {
            Some(spans) => spans,
            None => parse(&body)?,
        };
        if spans.len() != items {
            return Err(NoChunk::Unreadable);
        }
        Ok(Chunk { body, spans })
    }

    pub(super) fn outcomes(&self) -> impl Iterator<Item = ItemOutcome<'_>> {
        let text = std::str::from_utf8(&self.body).unwrap_or_default();
        self.spans.iter().map(move |span| {
            let part = text
                .get(span.start as usize..span.end as usize)
                .unwrap_or_default();
            if span.is_error {
                ItemOutcome::Error(part)
            } else {
                ItemOutcome::Result(part)
            }
        })
    }

    pub(super) fn body(&self) -> &Frame {
        &self.body
    }
}

/// One pass over a reply as Muster writes it, with results that are plain numbers or literals;
/// others are looked at one by one. `None`: it is written in another way.
fn scan(body: &[u8], items: usize) -> Option<Vec<Span>> {
    if !body.starts_with(HEAD) {
        return None;
    }
    let mut spans = Vec::with_capacity(items);
    let mut at = HEAD.len();
    if body.get(at) == Some(&b']') {
        at += 1;
        return is_tail(&body[at..]).then_some(spans);
    }
    loop {
        let (span, end) = match plain_result(body, at) {
            Some(found) => found,
            None => any_outcome(body, at)?,
        };
        spans.push(span);
        at = end + 1;
        match body.get(end)? {
            b',' => {}
            b']' => return is_tail(&body[at..]).then_some(spans),
            _ => return None,
        }
    }
}

/// `{"result":LITERAL}` at this place, and where it ends.
#[inline]
fn plain_result(body: &[u8], at: usize) -> Option<(Span, usize)> {
    let value = body.get(at..)?.strip_prefix(RESULT)?;
    let length = value
        .iter()
        .position(|&byte| matches!(byte, b'}' | b'"' | b'{' | b'['))?;
    let literal = &value[..length];
    let is_valid = value[length] == b'}'
        && (matches!(literal, b"true" | b"false" | b"null") || is_number(literal));
    let start = at + RESULT.len();
    let end = start + length;
    is_valid.then(|| (span(start, end, false), end + 1))
}

#[inline]
fn is_number(literal: &[u8]) -> bool {
    match literal.strip_prefix(b"-").unwrap_or(literal) {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => true,
        _ => serde_json::from_slice::<IgnoredAny>(literal).is_ok(),
    }
}

/// An outcome of any kind at this place, and where it ends.
fn any_outcome(body: &[u8], at: usize) -> Option<(Span, usize)> {
    let end = at + Elements::first_end(&body[at..]);
    let element = std::str::from_utf8(&body[at..end]).ok()?;
    Some((outcome(body, element)?, end))
}

/// What follows the list: the id and the end.
fn is_tail(rest: &[u8]) -> bool {
    let id = rest
        .strip_prefix(br#","id":"#)
        .and_then(|rest| rest.strip_suffix(b"}"));
    id.is_some_and(|id| !id.is_empty() && id.iter().all(u8::is_ascii_digit))
}

/// A reply written in any way.
fn parse(body: &[u8]) -> Result<Vec<Span>, NoChunk> {
    let view = read_reply(body).ok_or(NoChunk::Unreadable)?;
    let array = view.outcome.map_err(NoChunk::Failed)?;
    let elements: Vec<&RawValue> = serde_json::from_str(array).map_err(|_| NoChunk::Unreadable)?;
    let spans: Option<Vec<_>> = elements
        .into_iter()
        .map(|element| outcome(body, element.get()))
        .collect();
    spans.ok_or(NoChunk::Unreadable)
}

#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// Reads `{"result":…}` or `{"error":…}`, a part of `body`. A result of null reads as absent.
fn outcome(body: &[u8], element: &str) -> Option<Span> {
    let within = |part: &str, is_error| {
        let start = part.as_ptr() as usize - body.as_ptr() as usize;
        span(start, start + part.len(), is_error)
    };
    match serde_json::from_str::<Members<'_>>(element).ok()? {
        Members {
            error: Some(error), ..
        } => Some(within(error.get(), true)),
        Members {
            result: Some(result),
            ..
        } => Some(within(result.get(), false)),
        Members { .. } => {
            let null = element.find("null")?;
            element
                .contains("\"result\"")
                .then(|| within(&element[null..null + 4], false))
        }
    }
}

fn span(start: usize, end: usize, is_error: bool) -> Span {
    // The body's length was checked to fit.
    Span {
        start: start as u32,
        end: end as u32,
        is_error,
    }
}

#[cfg(test)]
mod tests {
    use super::ItemOutcome::{Error, Result};
    use super::*;

    fn check(body: &str, expected: &[ItemOutcome<'_>]) {
        let chunk = Chunk::read(Frame::from(body), expected.len() as u32).unwrap();
        assert_eq!(chunk.outcomes().collect::<Vec<_>>(), expected, "{body}");
    }

    fn reply(array: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","result":{array},"id":7}}"#)
    }

    #[test]
    fn outcomes_are_found_as_muster_writes_them() {
        let body = reply(
            r#"[{"result":1},{"result":-2.5e3},{"result":true},{"error":{"code":-1}},{"result":null}]"#,
        );
        assert!(scan(body.as_bytes(), 5).is_some());
        check(
            &body,
            &[
                Result("1"),
                Result("-2.5e3"),
                Result("true"),
                Error(r#"{"code":-1}"#),
                Result("null"),
            ],
        );
        let body = reply(r#"[{"result":"a},é\""},{"result":[1,{"x":"]"}]},{"result":{}}]"#);
        assert!(scan(body.as_bytes(), 3).is_some());
        check(
            &body,
            &[
                Result(r#""a},é\"""#),
                Result(r#"[1,{"x":"]"}]"#),
                Result("{}"),
            ],
        );
        check(&reply("[]"), &[]);
    }

    #[test]
    fn outcomes_are_found_in_any_other_spelling() {
        check(
            r#" {"id":7, "result" : [ {"result" : 1 } , {"error":{"code":-1}}, {"result": null} ]}"#,
            &[Result("1"), Error(r#"{"code":-1}"#), Result("null")],
        );
    }

    #[test]
    fn what_is_no_list_of_as_many_outcomes_is_told_apart() {
        let read = |body: &str, items| Chunk::read(Frame::from(body), items).map(|_| ());
        for body in [
            reply("[{\"result\":1}]"),
            reply("[{\"result\":1},{\"result\":01}]"),
            reply("[{\"result\":1},{\"result\":NaN}]"),
            reply("[{\"result\":1},{\"result\":\"a}]"),
            reply("[{\"result\":1},{}]"),
            reply("[{\"result\":1},2]"),
            reply("5"),
            "World".to_owned(),
            String::new(),
            r#"{"jsonrpc":"2.0","result":[{"result":1},{"result":2}"#.to_owned(),
            r#"{"jsonrpc":"2.0","result":[{"result":1},{"result":"#.to_owned(),
        ] {
            assert_eq!(read(&body, 2), Err(NoChunk::Unreadable), "{body}");
        }
        let body = r#"{"jsonrpc":"2.0","error":{"code":-32002,"message":"WorkerLost"},"id":7}"#;
        assert!(matches!(read(body, 2), Err(NoChunk::Failed(error)) if error.code == -32002));
    }
}
