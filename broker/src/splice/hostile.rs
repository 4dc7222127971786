//! The readers of what stock workers send alone, for the fuzz targets.

use super::frames::Frames;
use super::greeting::Greeting;
use super::handshake::Handshake;
use crate::zmtp::command;
use crate::zmtp::decode::{Decoder, Heard, Limits};

/// Frames and bytes that these bounds allow are what a lane allows.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;
const MESSAGE_FRAMES_MAX: u32 = 64;

/// Frames, handshakes ended and PINGs in a stream that comes in pieces of this size at most;
/// `None`: its sender is cut off.
pub fn follow(stream: &[u8], piece_bytes_max: usize) -> Option<(u32, bool, bool)> {
    let mut frames = Frames::new(0);
    let mut total = (0, false, false);
    for piece in stream.chunks(piece_bytes_max) {
        let passed = frames.follow(piece, MESSAGE_BYTES_MAX, MESSAGE_FRAMES_MAX);
        let passed = passed.ok()?;
        total.0 += passed.frames;
        total.1 |= passed.ready;
        total.2 |= passed.ping;
    }
    Some(total)
}

/// What a greeting that comes in pieces announces, in words, and how much of the stream it took.
pub fn greet(mut stream: &[u8], piece_bytes_max: usize, curve: bool) -> (String, usize) {
    let mut greeting = Greeting::new();
    let mut taken = 0;
    loop {
        let room = greeting.room();
        let count = room.len().min(stream.len()).min(piece_bytes_max);
        if count == 0 {
            return ("unfinished".into(), taken);
        }
        let (piece, rest) = stream.split_at(count);
        room[..count].copy_from_slice(piece);
        stream = rest;
        taken += count;
        match greeting.grow(count, curve) {
            Ok(None) => {}
            Ok(Some(dialect)) => return (format!("{dialect:?}"), taken),
            // When it is noticed depends on the pieces.
            Err(stranger) => return (format!("{stranger:?}"), 0),
        }
    }
}

/// Whether a peer's words behind the greeting end the handshake, and the bytes left then; `None`: it
/// is refused.
pub fn shake(stream: &[u8], piece_bytes_max: usize) -> Option<(bool, usize)> {
    let mut handshake = Handshake::new();
    let mut taken = 0;
    for piece in stream.chunks(piece_bytes_max) {
        taken += piece.len();
        if let Some(rest) = handshake.hear(piece).ok()? {
            return Some((true, stream.len() - taken + rest.len()));
        }
    }
    Some((false, 0))
}

/// Messages with their frames' lengths, and PINGs, in a stream that comes in pieces, the large ones
/// read as a line reads them; `None`: its sender is cut off.
pub fn decode(stream: &[u8], piece_bytes_max: usize) -> Option<Vec<Vec<usize>>> {
    let mut decoder = Decoder::new(Limits {
        message_bytes_max: MESSAGE_BYTES_MAX,
        message_frames_max: MESSAGE_FRAMES_MAX,
    });
    let (mut frames, mut all) = (Vec::new(), Vec::new());
    for piece in stream.chunks(piece_bytes_max) {
        let mut beyond = Vec::new();
        let mut bytes = piece;
        if let Some(room) = decoder.room().ok()? {
            room.extend_from_slice(piece);
            let (heard, rest) = decoder.filled(piece.len(), &mut frames);
            if heard == Some(Heard::Message) {
                all.push(frames.iter().map(|frame| frame.len()).collect());
            }
            beyond = rest;
            bytes = &beyond;
        }
        while let Some(heard) = decoder.decode(&mut bytes, &mut frames).ok()? {
            match heard {
                Heard::Message => all.push(frames.iter().map(|frame| frame.len()).collect()),
                Heard::Command => {
                    if let Some(pong) = command::pong(decoder.command()) {
                        all.push(vec![usize::MAX, pong.len()]);
                    }
                }
            }
        }
        drop(beyond);
    }
    Some(all)
}
