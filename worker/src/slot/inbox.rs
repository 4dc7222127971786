//! The calls of one message, in the order in which they are to run.

use muster_proto::id::DispatchId;
use muster_proto::socket::Frame;
use muster_proto::worker::{Bytes, Call, WireError};
use std::ops::Range;

/// A message of calls, read one by one. Its buffers serve the next message, too.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// The message as it came: command, records, attachments.
    frames: Vec<Frame>,
    calls: Vec<CallSpans>,
    next: usize,
}

/// One call, as places in the message.
#[derive(Clone, Debug)]
pub(crate) struct CallSpans {
    pub dispatch: DispatchId,
    pub seq: u32,
    pub remaining_ms: u32,
    pub items: u32,
    pub flags: u8,
    id: Range<usize>,
    method: Range<usize>,
    /// The frame of the body, and the place in it.
    body: (usize, Range<usize>),
    attachments: Range<usize>,
}

/// The frame with the records.
const RECORDS: usize = 1;

impl Inbox {
    /// Takes over a message of calls, leaving the previous one's buffer in `frames`.
    ///
    /// # Errors
    /// When a record is malformed or a frame is missing; then there are no calls.
    pub fn load(&mut self, frames: &mut Vec<Frame>) -> Result<(), WireError> {
        std::mem::swap(&mut self.frames, frames);
        self.calls.clear();
        self.next = 0;
        let result = self.unpack();
        if result.is_err() {
            self.calls.clear();
        }
        result
    }

    fn unpack(&mut self) -> Result<(), WireError> {
        const WHAT: WireError = WireError::Malformed { what: "calls" };
        let records = self.frames.get(RECORDS).ok_or(WHAT)?;
        let mut frame = RECORDS + 1;
        for call in Call::unpack(records) {
            let call = call?;
            let body = match call.body {
                Bytes::Inline(bytes) => (RECORDS, place(records, bytes)),
                Bytes::OwnFrame { start, len } => {
                    frame += 1;
                    let start = start as usize;
                    (frame - 1, start..start + len as usize)
                }
            };
            let attachments = frame..frame + usize::from(call.attachments);
            frame = attachments.end;
            if frame > self.frames.len() || body.1.end > self.frames[body.0].len() {
                return Err(WHAT);
            }
            self.calls.push(CallSpans {
                dispatch: call.dispatch,
                seq: call.seq,
                remaining_ms: call.remaining_ms,
                items: call.items,
                flags: call.flags,
                id: place(records, call.id.as_bytes()),
                method: place(records, call.method.as_bytes()),
                body,
                attachments,
            });
        }
        Ok(())
    }

    /// Whether no call is left.
    pub fn is_empty(&self) -> bool {
        self.next == self.calls.len()
    }

    /// The next call, without taking it.
    pub fn front(&self) -> Option<&CallSpans> {
        self.calls.get(self.next)
    }

    /// Takes the next call off; its places stay valid until the next message.
    pub fn advance(&mut self) {
        self.next += 1;
    }

    /// Forgets the calls that are left.
    pub fn clear(&mut self) {
        self.calls.clear();
        self.next = 0;
    }

    /// The caller's id as JSON; empty: the reply is not to be composed here.
    pub fn id(&self, call: &CallSpans) -> &str {
        self.text(&call.id)
    }

    /// The method's name.
    pub fn method(&self, call: &CallSpans) -> &str {
        self.text(&call.method)
    }

    /// The same as bytes, which need not be read to be found.
    pub fn method_bytes(&self, call: &CallSpans) -> &[u8] {
        &self.frames[RECORDS][call.method.clone()]
    }

    /// The parameters as JSON, or a raw body.
    pub fn body(&self, call: &CallSpans) -> &[u8] {
        let (frame, place) = &call.body;
        &self.frames[*frame][place.clone()]
    }

    /// The attachments.
    pub fn attachments(&self, call: &CallSpans) -> &[Frame] {
        &self.frames[call.attachments.clone()]
    }

    fn text(&self, place: &Range<usize>) -> &str {
        // `Call::unpack` has checked it.
        std::str::from_utf8(&self.frames[RECORDS][place.clone()]).unwrap_or_default()
    }
}

/// Where `part`, a part of `whole`, stands in it.
fn place(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::id::{CallId, Epoch};
    use muster_proto::worker::Command;

    fn call(seq: u32, body: Bytes<'static>, attachments: u8) -> Call<'static> {
        Call {
            dispatch: DispatchId {
                epoch: Epoch(1),
                call: CallId(seq.into()),
                attempt: 1,
            },
            seq,
            remaining_ms: 0,
            items: 0,
            flags: 0,
            attachments,
            id: "7",
            method: "m",
            body,
        }
    }

    fn message(calls: &[Call<'_>], frames: &[&str]) -> Vec<Frame> {
        let mut packed = Vec::new();
        calls.iter().for_each(|call| call.pack(&mut packed));
        let mut message = vec![Frame::from(&Command::Calls.frame()), Frame::from(packed)];
        message.extend(frames.iter().map(|&text| Frame::from(text)));
        message
    }

    #[test]
    fn each_call_finds_its_own_frames() {
        let calls = [
            call(1, Bytes::Inline(b"[1]"), 1),
            call(2, Bytes::OwnFrame { start: 2, len: 3 }, 2),
            call(3, Bytes::Inline(b""), 0),
        ];
        let mut inbox = Inbox::default();
        let mut frames = message(&calls, &["a1", "..[2]..", "a2", "b2"]);
        inbox.load(&mut frames).unwrap();
        let mut seen = Vec::new();
        while let Some(call) = inbox.front().cloned() {
            let body = String::from_utf8(inbox.body(&call).to_vec()).unwrap();
            let attachments = inbox.attachments(&call).len();
            seen.push((call.seq, inbox.id(&call).to_owned(), body, attachments));
            assert_eq!(inbox.method(&call), "m");
            inbox.advance();
        }
        let expected = [(1, "[1]", 1), (2, "[2]", 2), (3, "", 0)];
        assert_eq!(
            seen,
            expected.map(|(seq, body, n)| (seq, "7".into(), body.into(), n))
        );
        assert!(inbox.is_empty());
    }

    #[test]
    fn missing_frames_and_spans_outside_of_them_are_malformed() {
        for (call, frames) in [
            (call(1, Bytes::Inline(b""), 1), &[][..]),
            (
                call(1, Bytes::OwnFrame { start: 0, len: 4 }, 0),
                &["abc"][..],
            ),
            (
                call(
                    1,
                    Bytes::OwnFrame {
                        start: u32::MAX,
                        len: u32::MAX,
                    },
                    0,
                ),
                &["abc"][..],
            ),
        ] {
            let mut inbox = Inbox::default();
            assert!(inbox.load(&mut message(&[call], frames)).is_err());
            assert!(inbox.is_empty());
        }
        assert!(
            Inbox::default()
                .load(&mut vec![Frame::from(&Command::Calls.frame())])
                .is_err()
        );
    }
}
