//! Following ZMTP's frames in a stream, without keeping any of it.
//!
//! Needed to see the end of the handshake, PINGs, and a message that never ends. libzmq bounds a
//! frame but not the number of frames of an unfinished message, which it keeps in memory.
//!
//! Source: ZMTP 3.1, section "Framing Layer". ZMTP 2.0 frames differ in the command flag alone.

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// Bytes of a command that tell its name: a length and up to eight letters.
const NAME_BYTES: usize = 9;

/// Where a stream of frames is.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes of a greeting in front of the first frame.
    greeting_left: usize,
    header: [u8; 9],
    header_len: usize,
    body_left: u64,
    in_body: bool,
    name: [u8; NAME_BYTES],
    name_len: usize,
    /// Of the message that has not ended.
    message_bytes: u64,
    message_frames: u32,
}

/// What passed in some bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Passed {
    /// Frames that ended, commands included.
    pub frames: u32,
    /// The last word of a side in the handshake: READY or INITIATE.
    pub ready: bool,
    /// A PING.
    pub ping: bool,
}

impl Passed {
    /// Whether a side has said its last word in the handshake. ZMTP 2 has no commands: there each
    /// side's first frame is its identity, and all.
    pub fn ends_handshake(self, has_commands: bool) -> bool {
        if has_commands {
            self.ready
        } else {
            self.frames > 0
        }
    }
}

/// An unfinished message is larger than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Excess;

impl Frames {
    /// The start of a stream with so many bytes of greeting to come.
    pub fn new(greeting_left: usize) -> Self {
        Frames {
            greeting_left,
            header: [0; 9],
            header_len: 0,
            body_left: 0,
            in_body: false,
            name: [0; NAME_BYTES],
            name_len: 0,
            message_bytes: 0,
            message_frames: 0,
        }
    }

    /// Follows the next bytes of the stream.
    pub fn follow(
        &mut self,
        mut bytes: &[u8],
        message_bytes_max: u64,
        message_frames_max: u32,
    ) -> Result<Passed, Excess> {
        let mut passed = Passed::default();
        let skipped = self.greeting_left.min(bytes.len());
        self.greeting_left -= skipped;
        bytes = &bytes[skipped..];
        while !bytes.is_empty() {
            if self.in_body {
                // A body's length is checked against the cap, so it fits what was read.
                let count = usize::try_from(self.body_left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                self.note_name(&bytes[..count]);
                self.body_left -= count as u64;
                bytes = &bytes[count..];
            } else if self.read_header(&mut bytes) {
                let flags = self.header[0];
                if flags & COMMAND == 0 {
                    self.message_frames += 1;
                    self.message_bytes = self.message_bytes.saturating_add(self.body_left);
                }
                if self.message_bytes > message_bytes_max
                    || self.body_left > message_bytes_max
                    || self.message_frames > message_frames_max
                {
                    return Err(Excess);
                }
                self.in_body = true;
            }
            if self.in_body && self.body_left == 0 {
                self.end_frame(&mut passed);
            }
        }
        Ok(passed)
    }

    /// Bytes to come of a message frame's body, in which there is nothing to see.
    pub fn plain_left(&self) -> u64 {
        let is_plain = self.in_body && self.header[0] & COMMAND == 0;
        if is_plain { self.body_left } else { 0 }
    }

    /// Takes note that so many of them have passed.
    pub fn skip_plain(&mut self, count: u64) -> Passed {
        let mut passed = Passed::default();
        self.body_left -= count;
        if self.in_body && self.body_left == 0 {
            self.end_frame(&mut passed);
        }
        passed
    }

    /// Takes header bytes; true: it is whole and `body_left` is set.
    fn read_header(&mut self, bytes: &mut &[u8]) -> bool {
        while let Some((&byte, rest)) = bytes.split_first() {
            *bytes = rest;
            self.header[self.header_len] = byte;
            self.header_len += 1;
            let whole = if self.header[0] & LONG == 0 { 2 } else { 9 };
            if self.header_len == whole {
                let mut length = [0; 8];
                length[9 - whole..].copy_from_slice(&self.header[1..whole]);
                self.body_left = u64::from_be_bytes(length);
                return true;
            }
        }
        false
    }

    fn note_name(&mut self, body: &[u8]) {
        if self.header[0] & COMMAND != 0 && self.name_len < NAME_BYTES {
            let count = body.len().min(NAME_BYTES - self.name_len);
            self.name[self.name_len..self.name_len + count].copy_from_slice(&body[..count]);
            self.name_len += count;
        }
    }

    fn end_frame(&mut self, passed: &mut Passed) {
        let flags = self.header[0];
        passed.frames += 1;
        if flags & COMMAND != 0 {
            let name = &self.name[..self.name_len];
            passed.ready |= name.starts_with(b"\x05READY") || name.starts_with(b"\x08INITIATE");
            passed.ping |= name.starts_with(b"\x04PING");
        } else if flags & MORE == 0 {
            // A command between two frames of a message does not end it.
            self.message_bytes = 0;
            self.message_frames = 0;
        }
        self.header_len = 0;
        self.name_len = 0;
        self.in_body = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: &[u8] = b"\x04\x06\x05READY";
    const PING: &[u8] = b"\x04\x07\x04PING\0\0";

    fn follow(frames: &mut Frames, bytes: &[u8]) -> Result<Passed, Excess> {
        frames.follow(bytes, 1000, 5)
    }

    #[test]
    fn commands_are_seen_however_the_bytes_arrive() {
        let mut stream = vec![9; 10];
        stream.extend_from_slice(READY);
        stream.extend_from_slice(b"\x01\x02ab\x00\x00");
        stream.extend_from_slice(b"\x02\0\0\0\0\0\0\x01\0");
        stream.extend_from_slice(&[4; 256]);
        stream.extend_from_slice(PING);
        for step in 1..stream.len() {
            let mut frames = Frames::new(10);
            let mut sum = Passed::default();
            for piece in stream.chunks(step) {
                let passed = follow(&mut frames, piece).unwrap();
                sum.frames += passed.frames;
                sum.ready |= passed.ready;
                sum.ping |= passed.ping;
            }
            assert_eq!(
                sum,
                Passed {
                    frames: 5,
                    ready: true,
                    ping: true
                },
                "{step}"
            );
        }
    }

    #[test]
    fn a_body_can_be_skipped() {
        let mut frames = Frames::new(0);
        assert_eq!(frames.plain_left(), 0);
        follow(&mut frames, b"\x02\0\0\0\0\0\0\x01\0ab").unwrap();
        assert_eq!(frames.plain_left(), 254);
        assert_eq!(frames.skip_plain(200).frames, 0);
        assert_eq!(frames.skip_plain(54).frames, 1);
        assert_eq!(frames.plain_left(), 0);
        assert!(follow(&mut frames, PING).unwrap().ping);
        follow(&mut frames, &PING[..3]).unwrap();
        assert_eq!(frames.plain_left(), 0);
    }

    #[test]
    fn a_message_frame_that_reads_like_a_command_is_none() {
        let mut frames = Frames::new(0);
        let passed = follow(&mut frames, b"\x00\x07\x04PING\0\0").unwrap();
        assert_eq!(
            passed,
            Passed {
                frames: 1,
                ready: false,
                ping: false
            }
        );
    }

    #[test]
    fn an_unfinished_message_over_a_cap_is_an_excess_at_its_header() {
        let mut frames = Frames::new(0);
        for _ in 0..5 {
            follow(&mut frames, b"\x01\x01x").unwrap();
        }
        assert_eq!(follow(&mut frames, b"\x01\x01"), Err(Excess));

        let mut frames = Frames::new(0);
        follow(&mut frames, b"\x01\x03xyz").unwrap();
        assert_eq!(
            follow(&mut frames, b"\x02\0\0\0\0\0\0\x03\xe6"),
            Err(Excess)
        );
        for kind in [LONG, LONG | COMMAND] {
            let huge = [kind, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
            assert_eq!(follow(&mut Frames::new(0), &huge), Err(Excess));
        }
    }

    #[test]
    fn finished_messages_and_commands_do_not_add_up() {
        let mut frames = Frames::new(0);
        for _ in 0..100 {
            follow(&mut frames, b"\x01\x00\x01\x00").unwrap();
            follow(&mut frames, PING).unwrap();
            follow(&mut frames, b"\x00\x00").unwrap();
        }
    }
}
