//! Replies on their way to the broker: several in one message.

use muster_proto::id::DispatchId;
use muster_proto::rpc::result_reply;
use muster_proto::socket::{Frame, SendOutcome, Socket, SocketError};
use muster_proto::worker::{Bytes, Command, Reply, flag};
use std::collections::VecDeque;

/// Results from this size on get a frame of their own, so that the broker need not copy them.
const OWN_FRAME_BYTES: usize = 16 << 10;
/// A message is sent when its records reach this size.
const PACKED_BYTES_MAX: usize = 64 << 10;

/// How a call ended, apart from its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplyHead {
    pub dispatch: DispatchId,
    pub service_us: u32,
    pub items: u32,
    pub is_error: bool,
}

/// Replies that wait to be sent together, and messages that wait for room.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    packed: Vec<u8>,
    frames: Vec<Frame>,
    /// Whole messages the socket had no room for, the oldest first.
    waiting: VecDeque<Vec<Frame>>,
}

impl Replies {
    /// Whether a result becomes a whole JSON-RPC reply, which has the caller's id.
    pub fn makes_whole(body: &[u8]) -> bool {
        body.len() >= OWN_FRAME_BYTES
    }

    /// Adds a reply. `id` is the caller's: with it a large result becomes a whole JSON-RPC reply.
    pub fn push(
        &mut self,
        head: ReplyHead,
        id: &str,
        body: &[u8],
        attachments: impl IntoIterator<Item = Frame>,
    ) {
        let mut flags = if head.is_error { flag::ERROR } else { 0 };
        let mut bytes = Bytes::Inline(body);
        if Self::makes_whole(body) && !head.is_error {
            let own = if id.is_empty() {
                body.to_vec()
            } else {
                flags |= flag::WHOLE;
                result_reply(id, body)
            };
            bytes = Bytes::OwnFrame {
                start: 0,
                len: own.len() as u32,
            };
            self.frames.push(Frame::from(own));
        }
        let first = self.frames.len();
        self.frames.extend(attachments);
        let reply = Reply {
            dispatch: head.dispatch,
            service_us: head.service_us,
            items: head.items,
            flags,
            attachments: (self.frames.len() - first) as u8,
            body: bytes,
        };
        reply.pack(&mut self.packed);
    }

    /// Adds the answer to a raw body, as it is.
    pub fn push_raw(&mut self, head: ReplyHead, body: Frame, attachments: Vec<Frame>) {
        let is_large = body.len() >= OWN_FRAME_BYTES;
        let (body, own) = if is_large {
            let len = body.len() as u32;
            (Bytes::OwnFrame { start: 0, len }, Some(body))
        } else {
            (Bytes::Inline(&body), None)
        };
        let reply = Reply {
            dispatch: head.dispatch,
            service_us: head.service_us,
            items: head.items,
            flags: flag::RAW,
            attachments: attachments.len() as u8,
            body,
        };
        reply.pack(&mut self.packed);
        self.frames.extend(own);
        self.frames.extend(attachments);
    }

    /// Whether no reply waits to be sent.
    pub fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }

    /// Whether there are enough of them for a message.
    pub fn is_full(&self) -> bool {
        self.packed.len() >= PACKED_BYTES_MAX || self.frames.len() > 64
    }

    /// Whether messages wait for room in the socket.
    pub fn is_blocked(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Makes a message of the replies and sends what there is room for.
    ///
    /// # Errors
    /// When the socket's context ended.
    pub fn flush(&mut self, socket: &Socket) -> Result<(), SocketError> {
        if !self.packed.is_empty() {
            let mut message = Vec::with_capacity(2 + self.frames.len());
            message.push(Frame::from(&Command::Replies.frame()));
            message.push(Frame::take(&mut self.packed));
            message.append(&mut self.frames);
            self.waiting.push_back(message);
        }
        self.send_waiting(socket)
    }

    /// Sends a message after the replies before it.
    ///
    /// # Errors
    /// When the socket's context ended.
    pub fn send_after(&mut self, message: Vec<Frame>, socket: &Socket) -> Result<(), SocketError> {
        self.flush(socket)?;
        self.waiting.push_back(message);
        self.send_waiting(socket)
    }

    /// Sends messages that waited for room.
    ///
    /// # Errors
    /// When the socket's context ended.
    pub fn send_waiting(&mut self, socket: &Socket) -> Result<(), SocketError> {
        while let Some(message) = self.waiting.front_mut() {
            if socket.send_frames(message)? != SendOutcome::Sent {
                return Ok(());
            }
            self.waiting.pop_front();
        }
        Ok(())
    }

    /// Forgets everything: the broker it was for is gone, or has given the calls to others.
    pub fn clear(&mut self) {
        self.packed.clear();
        self.frames.clear();
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::id::{CallId, Epoch};
    use muster_proto::socket::{Context, Kind, Profile};
    use std::time::Duration;

    fn head(call: u64) -> ReplyHead {
        let dispatch = DispatchId {
            epoch: Epoch(1),
            call: CallId(call),
            attempt: 1,
        };
        ReplyHead {
            dispatch,
            service_us: 5,
            items: 1,
            is_error: false,
        }
    }

    #[test]
    fn replies_share_a_message_and_large_ones_have_frames() {
        let context = Context::new(1).unwrap();
        let broker = Socket::open(&context, Kind::Dealer, &Profile::Inproc).unwrap();
        broker.bind("inproc://replies").unwrap();
        let slot = Socket::open(&context, Kind::Dealer, &Profile::Inproc).unwrap();
        slot.connect("inproc://replies").unwrap();

        let mut replies = Replies::default();
        let large = vec![b' '; OWN_FRAME_BYTES];
        replies.push(head(1), "7", b"15", []);
        replies.push(head(2), "8", &large, [Frame::from("attached")]);
        replies.push(head(3), "", &large, []);
        replies.push(
            ReplyHead {
                is_error: true,
                ..head(4)
            },
            "9",
            &large,
            [],
        );
        replies.flush(&slot).unwrap();
        assert!(replies.is_empty() && !replies.is_blocked());

        let mut frames = Vec::new();
        assert!(
            broker
                .recv_timeout(&mut frames, Duration::from_secs(30))
                .unwrap()
        );
        assert_eq!(frames.len(), 5);
        let read: Vec<Reply<'_>> = Reply::unpack(&frames[1]).map(Result::unwrap).collect();
        assert_eq!(read[0].body, Bytes::Inline(b"15"));
        assert_eq!(
            (read[1].flags, read[1].attachments),
            (flag::OWN_FRAME | flag::WHOLE, 1)
        );
        assert_eq!(frames[2][..], result_reply("8", &large)[..]);
        assert_eq!(frames[3][..], *b"attached");
        assert_eq!(
            (read[2].flags, frames[4].len()),
            (flag::OWN_FRAME, OWN_FRAME_BYTES)
        );
        assert_eq!(
            (read[3].flags, read[3].body),
            (flag::ERROR, Bytes::Inline(&large))
        );
    }

    #[test]
    fn what_has_no_room_waits_in_order() {
        let context = Context::new(1).unwrap();
        let slot = Socket::open(&context, Kind::Dealer, &Profile::DataLink).unwrap();
        let mut replies = Replies::default();
        replies.push(head(1), "1", b"1", []);
        replies
            .send_after(vec![Frame::from("later")], &slot)
            .unwrap();
        assert!(replies.is_blocked());
        assert_eq!(replies.waiting.len(), 2);
        replies.clear();
        assert!(!replies.is_blocked());
    }
}
