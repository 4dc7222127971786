//! Outcomes of a map, as many as one reply brought.

use super::chunk::Chunk;
use muster_proto::socket::Frame;
use std::ops::Range;
use std::time::{Duration, Instant};

/// The outcomes of neighbouring items.
#[derive(Debug)]
pub struct Block {
    pub(super) first: u64,
    pub(super) items: u32,
    pub(super) times: Times,
    pub(super) content: Content,
}

/// When the request with the items was sent and answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) sent: Instant,
    pub(super) took: Duration,
    /// Requests that carried these items, this one included.
    pub(super) sends: u32,
}

#[derive(Debug)]
pub(super) enum Content {
    /// The result of one item is this part of the reply.
    Result { body: Frame, span: Range<usize> },
    /// The outcomes of all items.
    Chunk(Chunk),
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

    /// When the request that brought these outcomes was sent.
    pub fn sent(&self) -> Instant {
        self.times.sent
    }

    /// How long after that its answer came.
    pub fn took(&self) -> Duration {
        self.times.took
    }

    /// How many requests have carried these items: more than one after a chunk was lost. What the
    /// broker repeats by itself is not counted.
    pub fn sends(&self) -> u32 {
        self.times.sends
    }

    /// The outcomes in the order of the items, [`Block::items`] of them.
    pub fn outcomes(&self) -> impl Iterator<Item = ItemOutcome<'_>> {
        let (one, chunk, error) = match &self.content {
            Content::Result { body, span } => (Some(text(body, span)), None, None),
            Content::Chunk(chunk) => (None, Some(chunk.outcomes()), None),
            Content::Error(error) => (None, None, Some(error.as_str())),
        };
        let errors = error.into_iter().cycle().take(self.items as usize);
        let others = one.map(ItemOutcome::Result).into_iter();
        chunk
            .into_iter()
            .flatten()
            .chain(others)
            .chain(errors.map(ItemOutcome::Error))
    }

    /// Whether an outcome may be written in several lines.
    pub fn has_newline(&self) -> bool {
        let bytes = match &self.content {
            Content::Result { body, span } => &body[span.clone()],
            Content::Chunk(chunk) => &chunk.body()[..],
            Content::Error(text) => text.as_bytes(),
        };
        memchr::memchr2(b'\n', b'\r', bytes).is_some()
    }

    /// What it keeps in memory.
    pub(super) fn bytes(&self) -> usize {
        match &self.content {
            Content::Result { body, .. } => body.len(),
            Content::Chunk(chunk) => chunk.body().len() + 12 * self.items as usize,
            Content::Error(text) => text.len(),
        }
    }
}

fn text<'a>(body: &'a Frame, span: &Range<usize>) -> &'a str {
    std::str::from_utf8(&body[span.clone()]).unwrap_or_default()
}
