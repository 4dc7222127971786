//! Outcomes of a map, as many as one reply brought.

use super::elements::Elements;
use muster_proto::code::Code;
use muster_proto::rpc::RpcError;
use muster_proto::socket::Frame;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::ops::Range;

/// The outcomes of neighbouring items.
#[derive(Debug)]
pub struct Block {
    pub(super) first: u64,
    pub(super) items: u32,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    /// The result of one item is this part of the reply.
    Result { body: Frame, span: Range<usize> },
    /// The outcomes of all items are this array in the reply.
    Chunk { body: Frame, span: Range<usize> },
    /// All items ended with this error object.
    Error(String),
}

/// How one item ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemOutcome<'a> {
    /// The result as the worker wrote it.
    Result(&'a str),
    /// The error object.
    Error(&'a str),
}

impl Block {
    /// The number of the first item, from 0.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// How many items.
    pub fn items(&self) -> u32 {
        self.items
    }

    /// The outcomes in the order of the items, [`Block::items`] of them.
    pub fn outcomes(&self) -> impl Iterator<Item = ItemOutcome<'_>> {
        let (one, chunk, error) = match &self.content {
            Content::Result { body, span } => (Some(text(body, span)), "", None),
            Content::Chunk { body, span } => (None, text(body, span), None),
            Content::Error(error) => (None, "", Some(error.as_str())),
        };
        let errors = error.into_iter().cycle().take(self.items as usize);
        one.map(ItemOutcome::Result)
            .into_iter()
            .chain(Elements::of(chunk).map(outcome))
            .chain(errors.map(ItemOutcome::Error))
    }

    /// What it keeps in memory.
    pub(super) fn bytes(&self) -> usize {
        match &self.content {
            Content::Result { body, .. } | Content::Chunk { body, .. } => body.len(),
            Content::Error(text) => text.len(),
        }
    }

    /// Reads a reply's result; a chunk has an outcome for each item or counts as unreadable.
    pub(super) fn read(
        first: u64,
        items: u32,
        is_chunk: bool,
        body: Frame,
        span: Range<usize>,
    ) -> Self {
        if !is_chunk {
            return Block {
                first,
                items,
                content: Content::Result { body, span },
            };
        }
        let array = text(&body, &span);
        let has_all = array.starts_with('[') && Elements::of(array).count() == items as usize;
        if !has_all {
            let reason = format!("no list of {items} outcomes");
            let error = RpcError::new(Code::BadReply).data(&serde_json::json!({"reason": reason}));
            return Block {
                first,
                items,
                content: Content::Error(error.to_json()),
            };
        }
        Block {
            first,
            items,
            content: Content::Chunk { body, span },
        }
    }
}

fn text<'a>(body: &'a Frame, span: &Range<usize>) -> &'a str {
    std::str::from_utf8(&body[span.clone()]).unwrap_or_default()
}

#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// Reads `{"result":…}` or `{"error":…}`; as Muster's workers write them, without a parser.
#[inline]
fn outcome(element: &str) -> ItemOutcome<'_> {
    let plain = |name: &str| element.strip_prefix(name)?.strip_suffix('}');
    if let Some(result) = plain(r#"{"result":"#) {
        return ItemOutcome::Result(result);
    }
    if let Some(error) = plain(r#"{"error":"#) {
        return ItemOutcome::Error(error);
    }
    match serde_json::from_str::<Members<'_>>(element) {
        Ok(Members {
            error: Some(error), ..
        }) => ItemOutcome::Error(error.get()),
        Ok(Members {
            result: Some(result),
            ..
        }) => ItemOutcome::Result(result.get()),
        _ => ItemOutcome::Error(r#"{"code":-32008,"message":"BadReply"}"#),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(array: &str, items: u32) -> Block {
        let body = format!("{{\"result\":{array}}}");
        let span = 10..body.len() - 1;
        Block::read(7, items, true, Frame::from(body), span)
    }

    #[test]
    fn a_chunk_gives_an_outcome_for_each_item() {
        let block = chunk(
            r#"[{"result":[1,2]}, {"error":{"code":-1}} ,{ "result" : 3 },{}]"#,
            4,
        );
        assert_eq!(
            block.outcomes().collect::<Vec<_>>(),
            [
                ItemOutcome::Result("[1,2]"),
                ItemOutcome::Error(r#"{"code":-1}"#),
                ItemOutcome::Result("3"),
                ItemOutcome::Error(r#"{"code":-32008,"message":"BadReply"}"#),
            ]
        );
    }

    #[test]
    fn a_chunk_of_another_length_fails_every_item() {
        let block = chunk(r#"[{"result":1}]"#, 2);
        let outcomes: Vec<_> = block.outcomes().collect();
        assert_eq!(outcomes.len(), 2);
        assert!(matches!(outcomes[0], ItemOutcome::Error(error) if error.contains("-32008")));
        assert!(matches!(
            chunk("5", 1).outcomes().next(),
            Some(ItemOutcome::Error(_))
        ));
    }
}
