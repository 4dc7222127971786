//! The two pipes between a slot and its Python child.
//!
//! Every message, in both directions, is a header of ten little-endian numbers, the lengths of its
//! attachments, a name, a body of JSON, and the attachments. The other end is `host/channel.py`.
//! Neither direction ever waits: a slot that writes a large call still reads the replies before
//! it, so the two ends cannot wait for each other.

use crate::child::set_nonblocking;
use muster_proto::limits;
use muster_proto::socket::Frame;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

/// Length of the rest (4), kind (1), flags (1), attachments (2), serial (4), two numbers that the
/// kind gives a meaning (4 each), lengths of name and body (4 each), number of the call (8).
const HEADER_BYTES: usize = 36;
/// What is read at once.
const READ_BYTES: usize = 64 << 10;
/// Attachments from this size on are written from where they are.
const COPY_BYTES_MAX: usize = 32 << 10;
/// From this size on an attachment is worth a wider pipe: fewer turns of reader and writer. Not
/// before, for the system counts what all pipes of a user can hold.
const LARGE_BYTES: usize = 1 << 20;
/// A message from the child beyond this size means that the pipe is out of step.
const MESSAGE_BYTES_MAX: usize = 2 * limits::MESSAGE_BYTES_MAX;

/// What a message is.
pub(crate) mod kind {
    /// To the child: what to load.
    pub const CONFIGURE: u8 = 0x01;
    /// To the child: a call. The numbers: items of a map chunk (0: a plain call), the timeout of
    /// an item in ms.
    pub const CALL: u8 = 0x02;
    /// To the child: nobody waits for a call any more.
    pub const CANCEL: u8 = 0x03;
    /// From the child: what it offers.
    pub const HELLO: u8 = 0x81;
    /// From the child: why it offers nothing.
    pub const LOAD_FAILED: u8 = 0x82;
    /// From the child: a result. The numbers: service time in µs, items.
    pub const RESULT: u8 = 0x83;
    /// From the child: a stream item. The flags: its kind.
    pub const STREAM: u8 = 0x84;
    /// From the child: a chunk goes on.
    pub const TICK: u8 = 0x85;
    /// From the child: the function looks for its cancellation.
    pub const HEEDS_CANCEL: u8 = 0x86;
}

/// Flags of messages.
pub(crate) mod flag {
    /// Of a call: the reply may have attachments.
    pub const TAKES_FRAMES: u8 = 1;
    /// Of a call: the caller takes stream items.
    pub const WANTS_STREAM: u8 = 2;
    /// Of a call: large attachments of the reply may be on the broker's shelf.
    pub const TAKES_SHARED: u8 = 4;
    /// Of a result: it is an error object.
    pub const IS_ERROR: u8 = 1;
}

/// The fixed part of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub kind: u8,
    pub flags: u8,
    pub serial: u32,
    pub first: u32,
    pub second: u32,
    /// Of a call: its number in the broker.
    pub call: u64,
}

/// A message from the child.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    pub head: Head,
    pub body: &'a [u8],
    pub attachments: Vec<Frame>,
}

enum Part {
    Copied(Vec<u8>),
    Whole(Frame),
}

/// This side's ends of the pipes.
pub(crate) struct Pipe {
    writer: OwnedFd,
    /// It holds more than pipes usually do.
    is_wide: bool,
    reader: OwnedFd,
    /// What is still to be written, and how much of its first part has been.
    outgoing: VecDeque<Part>,
    written: usize,
    /// A buffer that has been written, to be filled again.
    spare: Vec<u8>,
    incoming: Vec<u8>,
    start: usize,
    end: usize,
}

impl Pipe {
    /// `writer` leads to the child, `reader` from it.
    pub fn new(writer: OwnedFd, reader: OwnedFd) -> io::Result<Self> {
        set_nonblocking(&writer)?;
        set_nonblocking(&reader)?;
        Ok(Pipe {
            writer,
            is_wide: false,
            reader,
            outgoing: VecDeque::new(),
            written: 0,
            spare: Vec::new(),
            incoming: vec![0; READ_BYTES],
            start: 0,
            end: 0,
        })
    }

    /// The end to poll for messages.
    pub fn reader(&self) -> &OwnedFd {
        &self.reader
    }

    /// The end to poll for room while [`Self::is_writing`].
    pub fn writer(&self) -> &OwnedFd {
        &self.writer
    }

    /// Whether something waits to be written.
    pub fn is_writing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Adds bytes without a header: the child's program.
    pub fn push_raw(&mut self, bytes: &[u8]) {
        self.copied().extend_from_slice(bytes);
    }

    /// Adds a message; [`Self::write`] sends it.
    pub fn push(&mut self, head: Head, name: &str, body: &[u8], attachments: &[Frame]) {
        let rest: usize = attachments.iter().map(|frame| 4 + frame.len()).sum();
        let length = HEADER_BYTES - 4 + name.len() + body.len() + rest;
        let out = self.copied();
        out.extend_from_slice(&(length as u32).to_le_bytes());
        out.extend_from_slice(&[head.kind, head.flags]);
        out.extend_from_slice(&(attachments.len() as u16).to_le_bytes());
        let numbers = [
            head.serial,
            head.first,
            head.second,
            name.len() as u32,
            body.len() as u32,
        ];
        for number in numbers {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&head.call.to_le_bytes());
        for frame in attachments {
            out.extend_from_slice(&(frame.len() as u32).to_le_bytes());
        }
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(body);
        for frame in attachments {
            if frame.len() >= LARGE_BYTES && !self.is_wide {
                // Where it can't be, it takes more turns.
                let _ = rustix::pipe::fcntl_setpipe_size(&self.writer, LARGE_BYTES);
                self.is_wide = true;
            }
            if frame.len() <= COPY_BYTES_MAX {
                self.copied().extend_from_slice(frame);
            } else {
                self.outgoing.push_back(Part::Whole(frame.share()));
            }
        }
    }

    fn copied(&mut self) -> &mut Vec<u8> {
        if !matches!(self.outgoing.back(), Some(Part::Copied(_))) {
            self.outgoing
                .push_back(Part::Copied(std::mem::take(&mut self.spare)));
        }
        match self.outgoing.back_mut() {
            Some(Part::Copied(bytes)) => bytes,
            _ => unreachable!("it was put there above"),
        }
    }

    /// Writes what there is room for.
    ///
    /// # Errors
    /// The system's; a broken pipe when the child is gone.
    pub fn write(&mut self) -> io::Result<()> {
        while let Some(part) = self.outgoing.front_mut() {
            let bytes: &[u8] = match part {
                Part::Copied(bytes) => bytes,
                Part::Whole(frame) => frame,
            };
            match rustix::io::write(&self.writer, &bytes[self.written..]) {
                Ok(count) => self.written += count,
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            if self.written < bytes.len() {
                continue;
            }
            self.written = 0;
            if let Some(Part::Copied(mut bytes)) = self.outgoing.pop_front() {
                bytes.clear();
                self.spare = bytes;
            }
        }
        Ok(())
    }

    /// Whether the next message is there whole; reads what the pipe holds when it is not.
    ///
    /// # Errors
    /// `UnexpectedEof` when the child closed its end, `InvalidData` when what it wrote is no
    /// message.
    pub fn read(&mut self) -> io::Result<bool> {
        if self.available_length()?.is_some() {
            return Ok(true);
        }
        self.fill()?;
        Ok(self.available_length()?.is_some())
    }

    /// Takes the next message, if it is there whole.
    ///
    /// # Errors
    /// `InvalidData` when what the child wrote is no message.
    pub fn message(&mut self) -> io::Result<Option<Message<'_>>> {
        let Some(length) = self.available_length()? else {
            return Ok(None);
        };
        let message = &self.incoming[self.start..self.start + length];
        self.start += length;
        parse(message).map(Some)
    }

    /// The length of the message at the front, when all of it is there.
    fn available_length(&mut self) -> io::Result<Option<usize>> {
        let there = &self.incoming[self.start..self.end];
        let Some(prefix) = there.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = 4 + u32::from_le_bytes(*prefix) as usize;
        if !(HEADER_BYTES..=MESSAGE_BYTES_MAX).contains(&length) {
            return Err(invalid("a length out of range"));
        }
        if there.len() < length {
            // Room for the rest of it, so that it is read in as few steps as the pipe allows.
            self.make_room(length);
            return Ok(None);
        }
        Ok(Some(length))
    }

    fn make_room(&mut self, message_bytes: usize) {
        if self.start > 0 {
            self.incoming.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let wanted = message_bytes.max(READ_BYTES);
        if wanted > self.incoming.len() || self.incoming.len() > 16 * wanted {
            self.incoming.resize(wanted.max(self.end), 0);
            self.incoming.shrink_to_fit();
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.start == self.end || self.end == self.incoming.len() {
            let left = self.end - self.start;
            self.make_room(left.max(self.expected_bytes()));
        }
        while self.end < self.incoming.len() {
            match rustix::io::read(&self.reader, &mut self.incoming[self.end..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.end += count;
                    // A short read has emptied the pipe.
                    if self.end < self.incoming.len() && count < READ_BYTES {
                        return Ok(());
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn expected_bytes(&self) -> usize {
        match self.incoming[self.start..self.end].first_chunk::<4>() {
            Some(prefix) => 4 + u32::from_le_bytes(*prefix) as usize,
            None => 0,
        }
    }
}

fn parse(message: &[u8]) -> io::Result<Message<'_>> {
    let number = |at: usize| {
        let bytes = message[at..at + 4].try_into().expect("four bytes");
        u32::from_le_bytes(bytes)
    };
    let count = usize::from(u16::from_le_bytes([message[6], message[7]]));
    let head = Head {
        kind: message[4],
        flags: message[5],
        serial: number(8),
        first: number(12),
        second: number(16),
        call: u64::from(number(28)) | u64::from(number(32)) << 32,
    };
    let (name_len, body_len) = (number(20) as usize, number(24) as usize);
    let mut rest = &message[HEADER_BYTES..];
    let mut take = |len: usize| match rest.split_at_checked(len) {
        Some((head, tail)) => {
            rest = tail;
            Ok(head)
        }
        None => Err(invalid("lengths that do not fit")),
    };
    let sizes = take(4 * count)?;
    take(name_len)?;
    let body = take(body_len)?;
    let mut attachments = Vec::with_capacity(count);
    for size in sizes.chunks_exact(4) {
        let size = u32::from_le_bytes(size.try_into().expect("four bytes"));
        attachments.push(Frame::from(take(size as usize)?));
    }
    if !rest.is_empty() {
        return Err(invalid("lengths that do not fit"));
    }
    Ok(Message {
        head,
        body,
        attachments,
    })
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a message with {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};

    /// A pipe whose far end is the pipe itself.
    fn looped() -> Pipe {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        Pipe::new(writer, reader).unwrap()
    }

    fn next(pipe: &mut Pipe) -> Option<Message<'_>> {
        pipe.read().unwrap();
        pipe.message().unwrap()
    }

    fn head(serial: u32) -> Head {
        Head {
            kind: kind::RESULT,
            flags: 1,
            serial,
            first: 2,
            second: 3,
            call: 1 << 40,
        }
    }

    #[test]
    fn messages_arrive_whole_and_in_order() {
        let mut pipe = looped();
        assert!(!pipe.read().unwrap());
        pipe.push(head(1), "name", b"[1]", &[Frame::from("a"), Frame::empty()]);
        pipe.push(head(2), "", b"", &[]);
        pipe.write().unwrap();
        assert!(!pipe.is_writing());
        let first = next(&mut pipe).unwrap();
        assert_eq!((first.head, first.body), (head(1), &b"[1]"[..]));
        assert_eq!(first.attachments, [Frame::from("a"), Frame::empty()]);
        let second = next(&mut pipe).unwrap();
        assert_eq!((second.head, second.body), (head(2), &b""[..]));
        assert!(!pipe.read().unwrap());
    }

    #[test]
    fn a_message_larger_than_the_pipe_takes_turns() {
        let mut pipe = looped();
        let large = Frame::from((0..3_000_000_u32).map(|n| n as u8).collect::<Vec<u8>>());
        for serial in 1..=3 {
            pipe.push(head(serial), "m", &large[..100_000], &[large.share()]);
        }
        let mut received = 0;
        while received < 3 {
            pipe.write().unwrap();
            if let Some(message) = next(&mut pipe) {
                received += 1;
                assert_eq!(message.head.serial, received);
                assert_eq!(message.body, &large[..100_000]);
                assert_eq!(message.attachments, [large.share()]);
            }
        }
        assert!(!pipe.is_writing() && !pipe.read().unwrap());
        assert!(pipe.incoming.len() <= 16 * READ_BYTES || pipe.start == pipe.end);
    }

    #[test]
    fn a_pipe_out_of_step_is_an_error() {
        let mut pipe = looped();
        pipe.push_raw(b"print this instead of a message, please");
        pipe.write().unwrap();
        assert_eq!(pipe.read().unwrap_err().kind(), io::ErrorKind::InvalidData);
        let mut pipe = looped();
        let mut wrong = vec![0; HEADER_BYTES];
        wrong[0] = HEADER_BYTES as u8 - 4;
        wrong[24] = 200;
        pipe.push_raw(&wrong);
        pipe.write().unwrap();
        assert!(pipe.read().unwrap());
        assert_eq!(
            pipe.message().unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }

    #[test]
    fn a_closed_end_is_the_end() {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (_far, near) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut pipe = Pipe::new(near, reader).unwrap();
        drop(writer);
        assert_eq!(
            pipe.read().unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }
}
