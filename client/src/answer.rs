//! What comes back from a call.

use crate::error::Error;
use muster_proto::rpc::{read_replies, read_reply};
use muster_proto::socket::Frame;
use serde::de::DeserializeOwned;
use std::ops::Range;

/// A reply as it came: frames below the envelope.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) body: Frame,
    pub(crate) attachments: Vec<Frame>,
}

/// A call's result: JSON as the worker wrote it, and attachments.
#[derive(Clone, Debug)]
pub struct Answer {
    body: Frame,
    result: Range<usize>,
    attachments: Vec<Frame>,
}

impl Answer {
    /// Reads the reply to one call.
    pub(crate) fn read(reply: Reply) -> Result<Self, Error> {
        let view = read_reply(&reply.body).ok_or_else(no_reply)?;
        let result = span(&reply.body, view.outcome?);
        Ok(Answer {
            body: reply.body,
            result,
            attachments: reply.attachments,
        })
    }

    /// Reads the replies to a batch of `count` calls whose ids start with `first_id`.
    pub(crate) fn read_batch(
        reply: &Reply,
        first_id: u64,
        count: usize,
    ) -> Result<Vec<Result<Self, Error>>, Error> {
        if reply.body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{') {
            // The whole batch was refused.
            return Err(Answer::read(reply.clone()).err().unwrap_or_else(no_reply));
        }
        let views = read_replies(&reply.body).ok_or_else(no_reply)?;
        let mut answers: Vec<_> = (0..count).map(|_| Err(no_reply())).collect();
        for view in views {
            let id: Option<u64> = view.id.and_then(|id| id.parse().ok());
            let place = id.and_then(|id| usize::try_from(id.checked_sub(first_id)?).ok());
            let Some(answer) = place.and_then(|place| answers.get_mut(place)) else {
                continue;
            };
            *answer = view.outcome.map_err(Error::from).map(|result| Answer {
                body: reply.body.share(),
                result: span(&reply.body, result),
                attachments: Vec::new(),
            });
        }
        Ok(answers)
    }

    /// The result as the worker wrote it: one JSON value.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body[self.result.clone()]).expect("the reply was read as UTF-8")
    }

    /// The result as a value of yours.
    ///
    /// # Errors
    /// [`Error::BadAnswer`] when it is of another shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_str(self.text()).map_err(|error| Error::BadAnswer {
            reason: error.to_string(),
        })
    }

    /// The result's attachments: `{"$frame": n}` in it stands for the n-th one.
    pub fn attachments(&self) -> &[Frame] {
        &self.attachments
    }
}

fn no_reply() -> Error {
    Error::BadAnswer {
        reason: "it is no JSON-RPC reply".into(),
    }
}

/// Where `part` stands in `whole`, of which it is a slice.
fn span(whole: &[u8], part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}

/// The id of a reply whose call was numbered by this client; `None` when it has no such id.
///
/// Muster's broker writes the id last, so its digits stand before the closing brace; in valid JSON
/// nothing else can look like that. Everything else is read in full.
pub(crate) fn id_of(body: &[u8]) -> Option<u64> {
    id_at_end(body).or_else(|| read_reply(body)?.id?.parse().ok())
}

fn id_at_end(body: &[u8]) -> Option<u64> {
    let rest = body.strip_suffix(b"}")?;
    let digits = rest
        .iter()
        .rev()
        .take(20)
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (head, id) = rest.split_at(rest.len() - digits);
    if digits == 0 || !head.ends_with(br#","id":"#) {
        return None;
    }
    std::str::from_utf8(id).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(body: &str) -> Reply {
        Reply {
            body: Frame::from(body),
            attachments: Vec::new(),
        }
    }

    #[test]
    fn a_result_keeps_its_spelling() {
        let answer = Answer::read(reply(r#"{"jsonrpc":"2.0","result":[ 1.50 ],"id":3}"#)).unwrap();
        assert_eq!(answer.text(), "[ 1.50 ]");
        assert_eq!(answer.json::<Vec<f64>>().unwrap(), [1.5]);
        assert!(answer.json::<String>().is_err());
    }

    #[test]
    fn an_error_and_garbage_are_told_apart() {
        let error = r#"{"jsonrpc":"2.0","error":{"code":-32601,"message":"no"},"id":3}"#;
        assert!(matches!(Answer::read(reply(error)), Err(Error::Rpc(e)) if e.code == -32601));
        assert!(matches!(
            Answer::read(reply("World")),
            Err(Error::BadAnswer { .. })
        ));
    }

    #[test]
    fn ids_are_found_wherever_they_stand_and_never_in_a_value() {
        assert_eq!(id_of(br#"{"jsonrpc":"2.0","result":1,"id":42}"#), Some(42));
        assert_eq!(
            id_of(br#"{"jsonrpc":"2.0","id": 42 ,"result":1 }"#),
            Some(42)
        );
        assert_eq!(
            id_of(br#"{"jsonrpc":"2.0","id":42,"result":{"a":1,"id":7}}"#),
            Some(42)
        );
        assert_eq!(
            id_of(br#"{"jsonrpc":"2.0","id":42,"result":"x,\"id\":7}"}"#),
            Some(42)
        );
        assert_eq!(id_of(br#"{"jsonrpc":"2.0","result":1,"id":null}"#), None);
        assert_eq!(id_of(b"World"), None);
    }

    #[test]
    fn a_batch_comes_back_in_the_order_of_its_calls() {
        let body = r#"[{"jsonrpc":"2.0","result":"b","id":8},
            {"jsonrpc":"2.0","error":{"code":-32000,"message":"CallFailed"},"id":7},
            {"jsonrpc":"2.0","result":"?","id":99}]"#;
        let answers = Answer::read_batch(&reply(body), 7, 3).unwrap();
        assert!(matches!(&answers[0], Err(Error::Rpc(error)) if error.code == -32000));
        assert_eq!(answers[1].as_ref().unwrap().text(), "\"b\"");
        assert!(matches!(answers[2], Err(Error::BadAnswer { .. })));
        let refused = r#"{"jsonrpc":"2.0","error":{"code":-32005,"message":"TooLarge"},"id":null}"#;
        assert!(matches!(
            Answer::read_batch(&reply(refused), 7, 3),
            Err(Error::Rpc(_))
        ));
    }
}
