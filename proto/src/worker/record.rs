//! The data path: a call to a slot and its answer as packed records.

use super::WireError;
use super::cursor::{Cursor, Fixed, Records};
use crate::id::DispatchId;

/// What a call's or reply's bytes are and where they stand.
pub mod flag {
    /// The body is opaque, not parameters or a result as JSON.
    pub const RAW: u8 = 1;
    /// The body is not in the record but the next attachment frame, a span of it.
    pub const OWN_FRAME: u8 = 2;
    /// Calls: the caller wants stream items.
    pub const STREAM: u8 = 4;
    /// Calls: the reply may carry attachments.
    pub const FRAMES: u8 = 8;
    /// Replies: the body is an error object.
    pub const ERROR: u8 = 16;
    /// Replies: the body is a whole JSON-RPC reply, made by the worker with the call's id, that
    /// goes to the client as it is (a large result is not copied in the broker).
    pub const WHOLE: u8 = 32;
    /// Calls: large attachments of the reply may be on the broker's shelf.
    pub const SHARED: u8 = 64;
}

/// Where the bytes of a record are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes<'a> {
    /// In the record itself.
    Inline(&'a [u8]),
    /// `start..start + len` of the record's first attachment frame. For a JSON body the frame is
    /// the client's whole body and the span its parameters; an empty span means none.
    OwnFrame {
        /// Offset in the frame.
        start: u32,
        /// Length in the frame.
        len: u32,
    },
}

impl<'a> Bytes<'a> {
    fn inline(&self) -> &'a [u8] {
        match self {
            Bytes::Inline(bytes) => bytes,
            Bytes::OwnFrame { .. } => &[],
        }
    }
}

/// Bytes of a [`Call`] before its texts: dispatch id, three numbers, [`Head`], two lengths.
const CALL_HEAD_BYTES: usize = 20 + 3 * 4 + 10 + 2 * 2;

/// Bytes of a [`Reply`] before its body: dispatch id, two numbers, [`Head`].
const REPLY_HEAD_BYTES: usize = 20 + 2 * 4 + 10;

/// One call to a slot. Its frames (an own body frame first, then the attachments) follow the
/// packed frame, in the order of the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// The fence, to be returned with the reply.
    pub dispatch: DispatchId,
    /// Counts the calls given to this slot since it joined, from 1: what a recall names.
    pub seq: u32,
    /// Time left, in ms; 0: no deadline. For a chunk the timeout of each item.
    pub remaining_ms: u32,
    /// Items of a map chunk; 0: a plain call.
    pub items: u32,
    /// [`flag`] bits `RAW`, `STREAM`, `FRAMES`, `SHARED`.
    pub flags: u8,
    /// Attachments, an own body frame not counted.
    pub attachments: u8,
    /// The caller's id as JSON (for [`flag::WHOLE`] replies); empty for raw bodies.
    pub id: &'a str,
    /// The method; empty for raw bodies.
    pub method: &'a str,
    /// Parameters as JSON (empty: none), or the raw body.
    pub body: Bytes<'a>,
}

impl<'a> Call<'a> {
    /// Appends the record to a packed frame.
    pub fn pack(&self, out: &mut Vec<u8>) {
        let inline = self.body.inline();
        let texts = [self.id.as_bytes(), self.method.as_bytes(), inline];
        out.reserve(CALL_HEAD_BYTES + texts.iter().map(|text| text.len()).sum::<usize>());
        let mut head = Fixed::<CALL_HEAD_BYTES>::default();
        head.dispatch(self.dispatch);
        head.put(self.seq.to_le_bytes());
        head.put(self.remaining_ms.to_le_bytes());
        head.put(self.items.to_le_bytes());
        Head::of(self.flags, self.attachments, self.body).put(&mut head);
        head.put((self.id.len() as u16).to_le_bytes());
        head.put((self.method.len() as u16).to_le_bytes());
        out.extend_from_slice(&head.whole());
        for text in texts {
            out.extend_from_slice(text);
        }
    }

    /// The records of a packed frame; ends after the first malformed one.
    pub fn unpack(frame: &'a [u8]) -> impl Iterator<Item = Result<Call<'a>, WireError>> {
        Records {
            cursor: Cursor { rest: frame },
            take: Call::take,
        }
    }

    fn take(cursor: &mut Cursor<'a>) -> Result<Self, WireError> {
        const WHAT: &str = "call";
        let dispatch = cursor.dispatch(WHAT)?;
        let seq = cursor.u32(WHAT)?;
        let remaining_ms = cursor.u32(WHAT)?;
        let items = cursor.u32(WHAT)?;
        let head = Head::take(cursor, WHAT)?;
        let id_len = cursor.u16(WHAT)?;
        let method_len = cursor.u16(WHAT)?;
        let id = cursor.text(id_len.into(), WHAT)?;
        let method = cursor.text(method_len.into(), WHAT)?;
        Ok(Call {
            dispatch,
            seq,
            remaining_ms,
            items,
            flags: head.flags,
            attachments: head.attachments,
            id,
            method,
            body: head.body(cursor, WHAT)?,
        })
    }
}

/// One answer of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The fence of the call.
    pub dispatch: DispatchId,
    /// How long the function ran, by the worker's clock.
    pub service_us: u32,
    /// Items done, for a chunk; else 1.
    pub items: u32,
    /// [`flag`] bits `RAW`, `ERROR`, `WHOLE`.
    pub flags: u8,
    /// Attachments, an own body frame not counted.
    pub attachments: u8,
    /// The result or error object as JSON, a whole reply, or raw bytes.
    pub body: Bytes<'a>,
}

impl<'a> Reply<'a> {
    /// Appends the record to a packed frame.
    pub fn pack(&self, out: &mut Vec<u8>) {
        let inline = self.body.inline();
        out.reserve(REPLY_HEAD_BYTES + inline.len());
        let mut head = Fixed::<REPLY_HEAD_BYTES>::default();
        head.dispatch(self.dispatch);
        head.put(self.service_us.to_le_bytes());
        head.put(self.items.to_le_bytes());
        Head::of(self.flags, self.attachments, self.body).put(&mut head);
        out.extend_from_slice(&head.whole());
        out.extend_from_slice(inline);
    }

    /// The records of a packed frame; ends after the first malformed one.
    pub fn unpack(frame: &'a [u8]) -> impl Iterator<Item = Result<Reply<'a>, WireError>> {
        Records {
            cursor: Cursor { rest: frame },
            take: Reply::take,
        }
    }

    fn take(cursor: &mut Cursor<'a>) -> Result<Self, WireError> {
        const WHAT: &str = "reply";
        let dispatch = cursor.dispatch(WHAT)?;
        let service_us = cursor.u32(WHAT)?;
        let items = cursor.u32(WHAT)?;
        let head = Head::take(cursor, WHAT)?;
        Ok(Reply {
            dispatch,
            service_us,
            items,
            flags: head.flags,
            attachments: head.attachments,
            body: head.body(cursor, WHAT)?,
        })
    }
}

/// flags (1), attachments (1), start (4), length (4): shared by calls and replies.
struct Head {
    flags: u8,
    attachments: u8,
    start: u32,
    len: u32,
}

impl Head {
    fn of(flags: u8, attachments: u8, body: Bytes<'_>) -> Self {
        let (own, start, len) = match body {
            Bytes::Inline(bytes) => (0, 0, bytes.len() as u32),
            Bytes::OwnFrame { start, len } => (flag::OWN_FRAME, start, len),
        };
        Head {
            flags: flags & !flag::OWN_FRAME | own,
            attachments,
            start,
            len,
        }
    }

    fn put<const N: usize>(&self, out: &mut Fixed<N>) {
        out.put([self.flags, self.attachments]);
        out.put(self.start.to_le_bytes());
        out.put(self.len.to_le_bytes());
    }

    fn take(cursor: &mut Cursor<'_>, what: &'static str) -> Result<Self, WireError> {
        Ok(Head {
            flags: cursor.u8(what)?,
            attachments: cursor.u8(what)?,
            start: cursor.u32(what)?,
            len: cursor.u32(what)?,
        })
    }

    fn body<'a>(
        &self,
        cursor: &mut Cursor<'a>,
        what: &'static str,
    ) -> Result<Bytes<'a>, WireError> {
        if self.flags & flag::OWN_FRAME != 0 {
            return Ok(Bytes::OwnFrame {
                start: self.start,
                len: self.len,
            });
        }
        cursor.bytes(self.len as usize, what).map(Bytes::Inline)
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
    fn calls_share_a_frame() {
        let first = Call {
            dispatch: dispatch(1),
            seq: 1,
            remaining_ms: 500,
            items: 0,
            flags: flag::FRAMES,
            attachments: 1,
            id: "\"x\"",
            method: "multiply",
            body: Bytes::Inline(b"[5,3]"),
        };
        let second = Call {
            seq: 2,
            flags: flag::OWN_FRAME,
            body: Bytes::OwnFrame {
                start: 9,
                len: 1 << 20,
            },
            ..first
        };
        let mut frame = Vec::new();
        first.pack(&mut frame);
        second.pack(&mut frame);
        let read: Vec<_> = Call::unpack(&frame).collect();
        assert_eq!(read, [Ok(first), Ok(second)]);
    }

    #[test]
    fn a_cut_record_is_malformed_at_every_length() {
        let mut frame = Vec::new();
        let reply = Reply {
            dispatch: dispatch(9),
            service_us: 12,
            items: 1,
            flags: 0,
            attachments: 0,
            body: Bytes::Inline(b"15"),
        };
        reply.pack(&mut frame);
        assert_eq!(Reply::unpack(&frame).collect::<Vec<_>>(), [Ok(reply)]);
        for len in 1..frame.len() {
            let read: Vec<_> = Reply::unpack(&frame[..len]).collect();
            assert_eq!(read, [Err(WireError::Malformed { what: "reply" })], "{len}");
        }
    }
}
