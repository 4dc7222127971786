//! Reads replies, as a client or as the broker of a stock server.

use super::RpcError;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// One reply, as spans of the body.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplyView<'a> {
    /// The id as written; `None` when the member is missing or null.
    pub id: Option<&'a str>,
    /// The result as written, or the error.
    pub outcome: Result<&'a str, RpcError>,
}

#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<RpcError>,
}

/// An `Option` alone would read `"result": null` as an absent member.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// Reads one reply; `None` when the body is none.
pub fn read_reply(body: &[u8]) -> Option<ReplyView<'_>> {
    let text = std::str::from_utf8(body).ok()?;
    // A derived struct would also take an array of its fields.
    if !text.trim_start().starts_with('{') {
        return None;
    }
    view(serde_json::from_str(text).ok()?)
}

/// Reads the replies to a batch, in the order of the body; `None` when the body is none.
pub fn read_replies(body: &[u8]) -> Option<Vec<ReplyView<'_>>> {
    let items: Vec<Members<'_>> = serde_json::from_slice(body).ok()?;
    items.into_iter().map(view).collect()
}

fn view(members: Members<'_>) -> Option<ReplyView<'_>> {
    let outcome = match (members.result, members.error) {
        (Some(result), None) => Ok(result.get()),
        (None, Some(error)) => Err(error),
        _ => return None,
    };
    Some(ReplyView {
        id: members.id.map(RawValue::get),
        outcome,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_errors_are_told_apart() {
        let reply = read_reply(br#"{"jsonrpc":"2.0","result":[1, 2],"id":"x"}"#).unwrap();
        assert_eq!((reply.id, reply.outcome), (Some("\"x\""), Ok("[1, 2]")));
        let reply = read_reply(br#"{"id":1,"error":{"code":-1,"message":"no"}}"#).unwrap();
        assert_eq!(reply.outcome.unwrap_err().code, -1);
        assert!(read_reply(br#"{"id":1}"#).is_none());
        assert!(read_reply(b"World").is_none());
        assert!(read_reply(br#"{"id":1,"result":1,"error":{"code":-1,"message":"no"}}"#).is_none());
    }

    #[test]
    fn a_null_result_is_a_result() {
        let reply = read_reply(br#"{"jsonrpc":"2.0","result":null,"id":null}"#).unwrap();
        assert_eq!(reply.outcome, Ok("null"));
    }
}
