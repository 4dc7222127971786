//! A line without libzmq: the loop reads and writes the connection itself.

use super::{Body, Outgoing, Received};
use crate::epoll::{Change, Epoll, Interest};
use crate::splice::silence::Silence;
use crate::splice::wire::Wire;
use crate::splice::{Connection, GoneReason, LinkId, LinkLimits, ticks};
use crate::zmtp::command;
use crate::zmtp::decode::{Decoder, Heard, Limits, Violation};
use crate::zmtp::outbox::Outbox;
use muster_proto::socket::Frame;
use std::borrow::Cow;
use std::io::{self, ErrorKind, IoSlice};

/// Read at once, unless it is a large frame.
const BUFFER_BYTES: usize = 64 << 10;
/// Buffers kept for the next use.
const BUFFERS_MAX: usize = 16;
/// Written to one line before the others have their turn.
const WRITE_BYTES_MAX: usize = 1 << 20;
/// Pieces in one write.
const SLICES_MAX: usize = 32;

/// A connection in use.
pub(super) struct Direct {
    wire: Wire,
    answers_pings: bool,
    decoder: Decoder,
    /// Read and not yet decoded.
    held: Option<Held>,
    may_read: bool,
    /// A read that finds little must be followed by one that finds the end.
    is_source_closed: bool,
    outbox: Outbox,
    /// The connection has no room for what is in the outbox.
    is_blocked: bool,
    does_peer_take: bool,
    /// The answer to the peer's last PING; there is one at most, however many it sends.
    pong: Option<Vec<u8>>,
    silence: Silence,
}

struct Held {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

/// How far writing got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Everything.
    All,
    /// Others have their turn first.
    Part,
    /// There is no room.
    Blocked,
    /// The peer takes nothing any more.
    Broken,
}

/// What a read brought.
enum Read {
    /// Bytes to be decoded, or part of a large frame.
    Some,
    /// The end of a message.
    Message,
    /// Nothing is there.
    Nothing,
}

impl Direct {
    /// Takes a connection over and has it watched.
    pub fn new(
        connection: Connection,
        link: LinkId,
        answers_pings: bool,
        limits: LinkLimits,
        epoll: &Epoll,
    ) -> io::Result<Self> {
        let Connection { fd, received } = connection;
        let held = Held {
            start: 0,
            end: received.len(),
            buffer: received.into_boxed_slice(),
        };
        Ok(Direct {
            wire: Wire::new(fd, link.token(), Interest::Read, epoll)?,
            answers_pings,
            decoder: Decoder::new(Limits {
                message_bytes_max: limits.message_bytes_max,
                message_frames_max: limits.message_frames_max,
            }),
            held: (held.end > 0).then_some(held),
            may_read: true,
            is_source_closed: false,
            outbox: Outbox::default(),
            is_blocked: false,
            does_peer_take: true,
            pong: None,
            silence: Silence::new(ticks(limits.silence)),
        })
    }

    /// Takes note of a change of the socket.
    pub fn changed(&mut self, change: Change) {
        self.may_read |= change.readable;
        self.is_source_closed |= change.closed;
    }

    /// Whether the connection has no room for more.
    pub fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Whether a PING waits for its answer to be written.
    pub fn owes_pong(&self) -> bool {
        self.pong.is_some()
    }

    /// Whether no message is to be queued now: there is no room, or nobody takes it.
    pub fn is_full(&self, messages_max: usize) -> bool {
        !self.does_peer_take || self.is_blocked && self.outbox.messages() >= messages_max
    }

    /// Queues a message.
    pub fn queue(&mut self, message: Outgoing<'_>) {
        let Outgoing {
            fence,
            body,
            attachments,
        } = message;
        self.outbox.push_bytes(fence, true);
        self.outbox.push_bytes(b"", true);
        let has_more = !attachments.is_empty();
        match body {
            Body::Bytes(Cow::Borrowed(bytes)) => self.outbox.push_bytes(bytes, has_more),
            Body::Bytes(Cow::Owned(bytes)) => self.outbox.push_frame(bytes.into(), has_more),
            Body::Frame(frame) => self.outbox.push_frame(frame, has_more),
        }
        for (attachment, left) in attachments.iter().zip((0..attachments.len()).rev()) {
            self.outbox.push_frame(attachment.share(), left > 0);
        }
    }

    /// Queues a PING. While the line is full none gets through, and it is the line that is judged.
    pub fn ping(&mut self, tick: u64) {
        if !self.is_blocked && self.does_peer_take {
            self.outbox.push_command(command::PING);
            self.silence.asked(self.outbox.queued(), tick);
        }
    }

    /// Ends it when the peer has been silent for too long. `is_heard`: all that it has said was
    /// read. `true`: it is to be judged again.
    pub fn judge(&mut self, is_heard: bool, tick: u64) -> Result<bool, GoneReason> {
        let is_stuck = self.answers_pings && self.is_blocked;
        if is_stuck {
            self.silence.stuck(self.outbox.queued(), tick);
        }
        if self.silence.is_asked() {
            let arrived = self.outbox.written();
            let arrived = arrived.saturating_sub(self.wire.unsent_bytes());
            if self.silence.is_over(arrived, is_heard, tick) {
                return Err(GoneReason::Silent);
            }
        }
        Ok(is_stuck || self.silence.is_asked())
    }

    /// The next message, if it has come. Reads once at most.
    pub fn receive(
        &mut self,
        frames: &mut Vec<Frame>,
        shared: &mut Shared,
    ) -> Result<Received, GoneReason> {
        if self.held.is_none() {
            match self.read(frames, shared)? {
                Read::Some => {}
                Read::Message => return Ok(Received::Message),
                Read::Nothing => return Ok(Received::Empty),
            }
        }
        while let Some(held) = &mut self.held {
            let mut bytes = &held.buffer[held.start..held.end];
            let heard = self.decoder.decode(&mut bytes, frames).map_err(reason)?;
            held.start = held.end - bytes.len();
            if bytes.is_empty()
                && let Some(held) = self.held.take()
            {
                shared.give(held.buffer);
            }
            match heard {
                Some(Heard::Message) => return Ok(Received::Message),
                Some(Heard::Command) => {
                    // Other commands, and those of later versions, mean nothing to a lane.
                    if let Some(pong) = command::pong(self.decoder.command()) {
                        self.pong = Some(pong);
                    }
                }
                None => {}
            }
        }
        Ok(if self.may_read {
            Received::Nothing
        } else {
            Received::Empty
        })
    }

    fn read(&mut self, frames: &mut Vec<Frame>, shared: &mut Shared) -> Result<Read, GoneReason> {
        if !self.may_read {
            return Ok(Read::Nothing);
        }
        if let Some(room) = self.decoder.room().map_err(reason)? {
            let asked = room.capacity() - room.len();
            let count = self.wire.recv_more(room);
            let Some(count) = self.note_read(count, asked)? else {
                return Ok(Read::Nothing);
            };
            let (heard, beyond) = self.decoder.filled(count, frames);
            if !beyond.is_empty() {
                self.held = Some(Held {
                    start: 0,
                    end: beyond.len(),
                    buffer: beyond.into_boxed_slice(),
                });
            }
            return Ok(heard.map_or(Read::Some, |_| Read::Message));
        }
        let mut buffer = shared.take();
        let count = self.wire.recv(&mut buffer);
        match self.note_read(count, buffer.len()) {
            Ok(Some(end)) => {
                self.held = Some(Held {
                    buffer,
                    start: 0,
                    end,
                });
                Ok(Read::Some)
            }
            other => {
                shared.give(buffer);
                other.map(|_| Read::Nothing)
            }
        }
    }

    /// What a read of `asked` bytes at most has come to; `None`: there is nothing now.
    fn note_read(
        &mut self,
        read: io::Result<usize>,
        asked: usize,
    ) -> Result<Option<usize>, GoneReason> {
        match read {
            Ok(0) => Err(GoneReason::Eof),
            Ok(count) => {
                // Less than asked for is all there was: what comes now is a new change.
                self.may_read = count == asked || self.is_source_closed;
                self.silence.broken(self.outbox.queued());
                Ok(Some(count))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock && self.does_peer_take => {
                self.may_read = false;
                Ok(None)
            }
            Err(_) => Err(GoneReason::Reset),
        }
    }

    /// Writes what is queued, as far as there is room.
    pub fn flush(&mut self, epoll: &Epoll) -> Written {
        if !self.does_peer_take {
            return Written::Broken;
        }
        let mut left = WRITE_BYTES_MAX;
        loop {
            // Behind a line that is full one more waits its turn here, and no second one.
            if (self.outbox.is_empty() || !self.is_blocked)
                && let Some(pong) = self.pong.take()
            {
                self.outbox.push_command(&pong);
            }
            if self.outbox.is_empty() {
                break;
            }
            match self.write() {
                Ok(count) if count >= left => {
                    self.is_blocked = false;
                    return Written::Part;
                }
                Ok(count) => left -= count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.is_blocked = true;
                    return match self.wire.await_room(true, epoll) {
                        Ok(()) => Written::Blocked,
                        Err(_) => self.broken(),
                    };
                }
                Err(_) => return self.broken(),
            }
        }
        self.is_blocked = false;
        match self.wire.await_room(false, epoll) {
            Ok(()) => Written::All,
            Err(_) => self.broken(),
        }
    }

    fn write(&mut self) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = match self.outbox.next(&mut slices) {
            1 => self.wire.send(&slices[0])?,
            several => self.wire.send_slices(&slices[..several])?,
        };
        self.outbox.advance(count);
        Ok(count)
    }

    /// Nothing more is written; reading will show how the connection ended.
    fn broken(&mut self) -> Written {
        self.does_peer_take = false;
        self.may_read = true;
        self.is_source_closed = true;
        Written::Broken
    }
}

/// What all direct lines share.
pub(super) struct Shared {
    pub epoll: Epoll,
    pub buffers: Vec<Box<[u8]>>,
}

impl Shared {
    fn take(&mut self) -> Box<[u8]> {
        self.buffers
            .pop()
            .unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice())
    }

    fn give(&mut self, buffer: Box<[u8]>) {
        if buffer.len() == BUFFER_BYTES && self.buffers.len() < BUFFERS_MAX {
            self.buffers.push(buffer);
        }
    }
}

fn reason(violation: Violation) -> GoneReason {
    match violation {
        Violation::TooLarge => GoneReason::TooLarge,
        Violation::OutOfMemory => GoneReason::Exhausted,
    }
}
