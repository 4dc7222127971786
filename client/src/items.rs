//! What a map reads its items from.

use crate::error::Error;
use muster_proto::code::Code;
use muster_proto::rpc::RpcError;
use serde::Serialize;
use std::time::Duration;

/// A source of items, each written as JSON into the request that will carry it.
///
/// Every iterator of serialisable values is one; [`crate::Lines`] reads lines of a file.
pub trait Items: Send {
    /// Appends the next item to `out` as one JSON value, or leaves `out` as it was.
    ///
    /// `wait` bounds how long it may wait for the item (`None`: as long as it takes); a source that
    /// can't tell may take longer.
    fn next_into(&mut self, out: &mut Vec<u8>, wait: Option<Duration>) -> Next;
}

/// What became of asking for an item.
#[derive(Debug)]
pub enum Next {
    /// It was written.
    Item,
    /// There is one, and it can't be sent: its outcome is this error.
    Unfit(RpcError),
    /// None has come in time.
    NotYet,
    /// There are no more.
    End,
    /// The source broke; the map ends with this error.
    Broken(Error),
}

impl<I> Items for I
where
    I: Iterator<Item: Serialize> + Send,
{
    fn next_into(&mut self, out: &mut Vec<u8>, _wait: Option<Duration>) -> Next {
        let Some(item) = self.next() else {
            return Next::End;
        };
        let start = out.len();
        match serde_json::to_writer(&mut *out, &item) {
            Ok(()) => Next::Item,
            Err(error) => {
                out.truncate(start);
                Next::Unfit(RpcError::new(Code::InvalidParams).message(error.to_string()))
            }
        }
    }
}
