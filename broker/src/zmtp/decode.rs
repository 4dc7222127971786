//! Bytes of a connection into messages and commands.

use super::{COMMAND, HEADER_BYTES_MAX, LONG, MORE};
use muster_proto::socket::Frame;

/// A command longer than this is none that anybody sends: READY carries a name of 255 bytes at most,
/// PING a context of 16.
const COMMAND_BYTES_MAX: u64 = 4 << 10;
/// From so many missing bytes of a frame on they are read straight into its own buffer.
const ROOM_BYTES_MIN: usize = 16 << 10;
/// A frame's buffer grows by this at least, and twofold, as its bytes come: memory goes to who
/// sends, not to who announces.
const GROWTH_BYTES_MIN: usize = 1 << 20;

/// What one message may come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of all frames, headers not counted.
    pub message_bytes_max: u64,
    /// Frames.
    pub message_frames_max: u32,
}

/// Something is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A message; its frames were handed out.
    Message,
    /// A command; [`Decoder::command`] has its body.
    Command,
}

/// Why a stream can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A message or command over the limits.
    TooLarge,
    /// There is no memory for a frame.
    OutOfMemory,
}

/// Where a stream of frames is.
#[derive(Debug)]
pub(crate) struct Decoder {
    limits: Limits,
    /// The beginning of a header that has not come whole.
    header: [u8; HEADER_BYTES_MAX],
    header_len: usize,
    body: Option<Body>,
    command: Vec<u8>,
    /// Frames of the message that has not ended.
    message: Vec<Frame>,
    message_bytes: u64,
}

/// A frame that has not come whole.
#[derive(Debug)]
struct Body {
    flags: u8,
    bytes: Vec<u8>,
    left: usize,
}

impl Decoder {
    /// The start of a stream, behind the greeting.
    pub fn new(limits: Limits) -> Self {
        Decoder {
            limits,
            header: [0; HEADER_BYTES_MAX],
            header_len: 0,
            body: None,
            command: Vec::new(),
            message: Vec::new(),
            message_bytes: 0,
        }
    }

    /// The body of the last command.
    pub fn command(&self) -> &[u8] {
        &self.command
    }

    /// Takes bytes off the front until something is whole, whose frames replace those in `frames`
    /// if it is a message. `None`: all bytes were taken.
    pub fn decode(
        &mut self,
        bytes: &mut &[u8],
        frames: &mut Vec<Frame>,
    ) -> Result<Option<Heard>, Violation> {
        loop {
            let heard = if let Some(body) = &mut self.body {
                let count = body.left.min(bytes.len());
                let (taken, rest) = bytes.split_at(count);
                *bytes = rest;
                body.append(taken)?;
                match self.end_body(frames) {
                    Some(ended) => ended,
                    None => return Ok(None),
                }
            } else {
                let Some((flags, len)) = self.read_header(bytes) else {
                    return Ok(None);
                };
                let len = self.admit(flags, len)?;
                if let Some((body, rest)) = bytes.split_at_checked(len) {
                    *bytes = rest;
                    if flags & COMMAND != 0 {
                        self.command.clear();
                        self.command.extend_from_slice(body);
                        return Ok(Some(Heard::Command));
                    }
                    self.end_frame(flags, Frame::from(body), frames)
                } else {
                    self.body = Some(Body {
                        flags,
                        bytes: Vec::new(),
                        left: len,
                    });
                    None
                }
            };
            if heard.is_some() {
                return Ok(heard);
            }
        }
    }

    /// The buffer of a large frame, with room for bytes to come; what is appended to it is made
    /// known by [`filled`](Self::filled). `None`: nothing large is on its way.
    pub fn room(&mut self) -> Result<Option<&mut Vec<u8>>, Violation> {
        match &mut self.body {
            Some(body) if body.left >= ROOM_BYTES_MIN => {
                body.grow(ROOM_BYTES_MIN)?;
                Ok(Some(&mut body.bytes))
            }
            _ => Ok(None),
        }
    }

    /// Takes note of `count` bytes appended to the [`room`](Self::room). Gives what is whole now,
    /// and the bytes that belong to the next frame: a buffer may have more room than was asked for.
    pub fn filled(&mut self, count: usize, frames: &mut Vec<Frame>) -> (Option<Heard>, Vec<u8>) {
        let Some(body) = &mut self.body else {
            return (None, Vec::new());
        };
        let beyond = count.saturating_sub(body.left);
        body.left -= count - beyond;
        let beyond = body.bytes.split_off(body.bytes.len() - beyond);
        (self.end_body(frames).flatten(), beyond)
    }

    /// Ends the frame whose body is whole. `None`: it is not.
    fn end_body(&mut self, frames: &mut Vec<Frame>) -> Option<Option<Heard>> {
        let body = self.body.take_if(|body| body.left == 0)?;
        if body.flags & COMMAND != 0 {
            self.command = body.bytes;
            return Some(Some(Heard::Command));
        }
        Some(self.end_frame(body.flags, Frame::from(body.bytes), frames))
    }

    fn end_frame(&mut self, flags: u8, frame: Frame, frames: &mut Vec<Frame>) -> Option<Heard> {
        self.message.push(frame);
        if flags & MORE != 0 {
            return None;
        }
        self.message_bytes = 0;
        frames.clear();
        std::mem::swap(&mut self.message, frames);
        Some(Heard::Message)
    }

    /// Takes header bytes; flags and length once it is whole.
    fn read_header(&mut self, bytes: &mut &[u8]) -> Option<(u8, u64)> {
        if self.header_len == 0
            && let [flags, len, rest @ ..] = *bytes
            && flags & LONG == 0
        {
            *bytes = rest;
            return Some((*flags, u64::from(*len)));
        }
        while let Some((&byte, rest)) = bytes.split_first() {
            *bytes = rest;
            self.header[self.header_len] = byte;
            self.header_len += 1;
            let whole = if self.header[0] & LONG == 0 { 2 } else { 9 };
            if self.header_len == whole {
                let mut len = [0; 8];
                len[9 - whole..].copy_from_slice(&self.header[1..whole]);
                self.header_len = 0;
                return Some((self.header[0], u64::from_be_bytes(len)));
            }
        }
        None
    }

    /// Checks a frame against the limits, at its header.
    fn admit(&mut self, flags: u8, len: u64) -> Result<usize, Violation> {
        if flags & COMMAND != 0 {
            if len > COMMAND_BYTES_MAX {
                return Err(Violation::TooLarge);
            }
        } else {
            self.message_bytes = self.message_bytes.saturating_add(len);
            if self.message_bytes > self.limits.message_bytes_max
                || self.message.len() >= self.limits.message_frames_max as usize
            {
                return Err(Violation::TooLarge);
            }
        }
        usize::try_from(len).map_err(|_| Violation::TooLarge)
    }
}

impl Body {
    fn append(&mut self, taken: &[u8]) -> Result<(), Violation> {
        self.grow(taken.len())?;
        self.bytes.extend_from_slice(taken);
        self.left -= taken.len();
        Ok(())
    }

    /// Makes room for `least` bytes, and for more of those that are missing when it has to.
    fn grow(&mut self, least: usize) -> Result<(), Violation> {
        let len = self.bytes.len();
        if self.bytes.capacity() - len >= least {
            return Ok(());
        }
        let more = self.left.min(len.max(GROWTH_BYTES_MIN));
        self.bytes
            .try_reserve_exact(more)
            .map_err(|_| Violation::OutOfMemory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits {
        message_bytes_max: 1 << 22,
        message_frames_max: 5,
    };

    /// Everything in a stream that comes in pieces: bodies of messages' frames, or a command's.
    fn read(stream: &[u8], cut: usize, limits: Limits) -> Result<Vec<Vec<Vec<u8>>>, Violation> {
        let mut decoder = Decoder::new(limits);
        let (mut all, mut frames) = (Vec::new(), Vec::new());
        for mut piece in stream.chunks(cut) {
            while let Some(heard) = decoder.decode(&mut piece, &mut frames)? {
                all.push(match heard {
                    Heard::Message => frames.iter().map(|frame| frame.to_vec()).collect(),
                    Heard::Command => vec![b"command".to_vec(), decoder.command().to_vec()],
                });
            }
            assert!(piece.is_empty());
        }
        Ok(all)
    }

    fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        super::super::outbox::push_header(&mut bytes, flags, body.len());
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn messages_and_commands_are_told_apart_however_the_bytes_arrive() {
        let large = vec![7; 70_000];
        let stream = [
            frame(COMMAND, b"\x04PING\0\0"),
            frame(MORE, b"ab"),
            frame(MORE, b""),
            // Within a message, and in the long form.
            vec![COMMAND | LONG, 0, 0, 0, 0, 0, 0, 0, 5],
            b"\x04PONG".to_vec(),
            frame(0, &large),
            frame(0, b""),
        ]
        .concat();
        let expected = vec![
            vec![b"command".to_vec(), b"\x04PING\0\0".to_vec()],
            vec![b"command".to_vec(), b"\x04PONG".to_vec()],
            vec![b"ab".to_vec(), Vec::new(), large],
            vec![Vec::new()],
        ];
        for cut in [1, 2, 3, 7, 64, 4096, 65_536, 1 << 20] {
            assert_eq!(read(&stream, cut, LIMITS).unwrap(), expected, "{cut}");
        }
    }

    #[test]
    fn a_large_frame_is_read_into_its_own_buffer_and_what_follows_is_given_back() {
        let body: Vec<u8> = (0..3 << 20).map(|n: u32| n as u8).collect();
        let stream = [frame(0, &body), frame(0, b"next")].concat();
        let (mut decoder, mut frames) = (Decoder::new(LIMITS), Vec::new());
        assert!(decoder.room().unwrap().is_none());
        let (mut first, mut rest) = stream.split_at(100);
        assert_eq!(decoder.decode(&mut first, &mut frames), Ok(None));
        let mut grown = 0;
        let beyond = loop {
            let room = decoder.room().unwrap().expect("much is missing");
            grown += usize::from(room.capacity() == room.len());
            // As a read into a buffer with more room than was asked for.
            let count = rest.len().min(100_000);
            room.extend_from_slice(&rest[..count]);
            rest = &rest[count..];
            match decoder.filled(count, &mut frames) {
                (Some(heard), beyond) => {
                    assert_eq!(heard, Heard::Message);
                    break beyond;
                }
                (None, beyond) => assert!(beyond.is_empty()),
            }
            if decoder.room().unwrap().is_none() {
                // The end of a frame comes with what follows it.
                assert_eq!(
                    decoder.decode(&mut rest, &mut frames),
                    Ok(Some(Heard::Message))
                );
                break rest.to_vec();
            }
        };
        assert_eq!(grown, 0);
        assert!(frames.len() == 1 && frames[0] == body[..]);
        let mut beyond = &beyond[..];
        assert_eq!(
            decoder.decode(&mut beyond, &mut frames),
            Ok(Some(Heard::Message))
        );
        assert_eq!(frames[0], b"next"[..]);
    }

    #[test]
    fn memory_goes_to_who_sends_and_not_to_who_announces() {
        let limits = Limits {
            message_bytes_max: 1 << 40,
            ..LIMITS
        };
        let mut decoder = Decoder::new(limits);
        let mut header = &[LONG, 0, 0, 0, 0x80, 0, 0, 0, 0][..];
        assert_eq!(decoder.decode(&mut header, &mut Vec::new()), Ok(None));
        let room = decoder.room().unwrap().unwrap();
        assert!(room.capacity() <= GROWTH_BYTES_MIN, "{}", room.capacity());
    }

    #[test]
    fn what_is_over_a_limit_is_told_at_its_header() {
        let many = frame(MORE, b"x").repeat(6);
        assert_eq!(read(&many, 64, LIMITS), Err(Violation::TooLarge));
        let sum = [
            frame(MORE, &[0; 4000]),
            vec![LONG, 0, 0, 0, 0, 0, 0x3F, 0xFF, 0xFF],
        ]
        .concat();
        assert_eq!(read(&sum, 64, LIMITS), Err(Violation::TooLarge));
        for flags in [LONG, LONG | COMMAND] {
            let huge = [flags, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
            assert_eq!(read(&huge, 64, LIMITS), Err(Violation::TooLarge));
        }
        let fits = [frame(MORE, b"x").repeat(4), frame(0, b"y")]
            .concat()
            .repeat(9);
        assert_eq!(read(&fits, 64, LIMITS).unwrap().len(), 9);
    }

    proptest! {
        #[test]
        fn what_was_queued_comes_out_however_it_is_cut(
            messages in proptest::collection::vec(
                proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..600), 1..5),
                0..20,
            ),
            cut in 1_usize..2000,
        ) {
            let mut outbox = super::super::outbox::Outbox::default();
            for message in &messages {
                for (frame, left) in message.iter().zip((0..message.len()).rev()) {
                    outbox.push_bytes(frame, left > 0);
                }
                outbox.push_command(b"\x04PONG");
            }
            let mut heard = read(&outbox.take_all(), cut, LIMITS).unwrap();
            heard.retain(|message| message[0] != b"command");
            prop_assert_eq!(heard, messages);
        }

        #[test]
        fn no_bytes_break_it_and_cuts_change_nothing(
            stream in proptest::collection::vec(any::<u8>(), 0..400),
            cut in 1_usize..50,
        ) {
            prop_assert_eq!(read(&stream, cut, LIMITS), read(&stream, usize::MAX, LIMITS));
        }
    }
}
