//! The part of the handshake that follows the greeting, without libzmq: each side says READY.
//!
//! Source: ZMTP 3.1, section "The NULL Security Mechanism".

use super::event::GoneReason;
use super::greeting;
use crate::zmtp::command;
use crate::zmtp::decode::{Decoder, Heard, Limits};
use crate::zmtp::outbox::Outbox;
use std::io::IoSlice;

/// Before a READY there are no messages.
const NOTHING: Limits = Limits {
    message_bytes_max: 0,
    message_frames_max: 0,
};

/// A peer that has greeted and still has to say what it is.
#[derive(Debug)]
pub(super) struct Handshake {
    decoder: Decoder,
}

impl Handshake {
    /// Nothing has come.
    pub fn new() -> Self {
        Handshake {
            decoder: Decoder::new(NOTHING),
        }
    }

    /// All that we have to say behind the opening.
    pub fn words() -> Vec<u8> {
        let mut outbox = Outbox::default();
        outbox.push_command(&command::ready());
        let mut slices = [IoSlice::new(&[])];
        outbox.next(&mut slices);
        [&greeting::rest()[..], &slices[0]].concat()
    }

    /// Takes the peer's next bytes. `Some`: it is welcome, and these follow its READY.
    pub fn hear(&mut self, mut bytes: &[u8]) -> Result<Option<Vec<u8>>, GoneReason> {
        match self.decoder.decode(&mut bytes, &mut Vec::new()) {
            Ok(None) => Ok(None),
            Ok(Some(Heard::Command)) if command::is_welcome(self.decoder.command()) => {
                Ok(Some(bytes.to_vec()))
            }
            Ok(Some(_)) | Err(_) => Err(GoneReason::Refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: &[u8] = b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03REP";

    #[test]
    fn a_ready_may_come_in_pieces_and_with_more_behind_it() {
        for step in 1..READY.len() {
            let mut handshake = Handshake::new();
            let mut pieces: Vec<_> = READY.chunks(step).collect();
            let last = [pieces.pop().unwrap(), b"more"].concat();
            for piece in pieces {
                assert_eq!(handshake.hear(piece), Ok(None));
            }
            assert_eq!(handshake.hear(&last), Ok(Some(b"more".to_vec())));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let wrong: [&[u8]; 5] = [
            b"\x04\0",
            b"\x00\x01x",
            b"\x01\x01x",
            b"\x04\x06\x05ERROR",
            &[0xFF; 9],
        ];
        for bytes in wrong {
            assert_eq!(
                Handshake::new().hear(bytes),
                Err(GoneReason::Refused),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn our_words_complete_a_greeting_of_64_bytes() {
        let words = Handshake::words();
        assert_eq!(words[..5], *b"\x01NULL");
        assert_eq!(words[53..55], [4, (words.len() - 55) as u8]);
        assert!(words[55..].starts_with(b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity"));
    }
}
