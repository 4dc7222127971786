//! What a running call tells its caller before its answer.

use super::WireError;
use super::cursor::{Cursor, put_dispatch};
use crate::id::DispatchId;

/// What a stream item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum StreamKind {
    /// `rpc.progress`: `{"done":…,"total":…}`.
    Progress = 1,
    /// `rpc.output`: `{"stream":"stdout","text":…}`.
    Output = 2,
    /// `rpc.item`: a value that a generator yielded.
    Item = 3,
}

impl StreamKind {
    /// Every kind, by its number.
    pub const ALL: [StreamKind; 3] = [StreamKind::Progress, StreamKind::Output, StreamKind::Item];

    /// The method of the notification that the caller gets.
    pub fn method(self) -> &'static str {
        match self {
            StreamKind::Progress => "rpc.progress",
            StreamKind::Output => "rpc.output",
            StreamKind::Item => "rpc.item",
        }
    }
}

/// One stream item of a running call; its value is JSON and its attachments follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamItem<'a> {
    /// The dispatch it belongs to.
    pub dispatch: DispatchId,
    /// Counts the items of the dispatch that are of this kind, from 1.
    pub seq: u32,
    /// What it is.
    pub kind: StreamKind,
    /// Its value as JSON.
    pub value: &'a [u8],
}

impl<'a> StreamItem<'a> {
    /// The packed frame.
    pub fn pack(&self, out: &mut Vec<u8>) {
        put_dispatch(out, self.dispatch);
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.push(self.kind as u8);
        out.extend_from_slice(self.value);
    }

    /// Reads a packed frame.
    ///
    /// # Errors
    /// [`WireError::Malformed`] when it is too short or of no known kind.
    pub fn unpack(frame: &'a [u8]) -> Result<Self, WireError> {
        const WHAT: &str = "stream item";
        let mut cursor = Cursor { rest: frame };
        let dispatch = cursor.dispatch(WHAT)?;
        let seq = cursor.u32(WHAT)?;
        let kind = match cursor.u8(WHAT)? {
            1 => StreamKind::Progress,
            2 => StreamKind::Output,
            3 => StreamKind::Item,
            _ => return Err(WireError::Malformed { what: WHAT }),
        };
        Ok(StreamItem {
            dispatch,
            seq,
            kind,
            value: cursor.rest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{CallId, Epoch};

    fn dispatch(call: u64) -> DispatchId {
        DispatchId {
            epoch: Epoch(77),
            call: CallId(call),
            attempt: 2,
        }
    }

    #[test]
    fn a_stream_item_survives_the_wire() {
        let mut frame = Vec::new();
        let item = StreamItem {
            dispatch: dispatch(4),
            seq: 1,
            kind: StreamKind::Item,
            value: b"[1]",
        };
        item.pack(&mut frame);
        assert_eq!(StreamItem::unpack(&frame), Ok(item));
    }
}
