//! Messages into bytes that wait to be written.

use super::{COMMAND, LONG, MORE};
use muster_proto::socket::Frame;
use std::collections::VecDeque;
use std::io::IoSlice;

/// Up to here a frame's bytes are copied next to its neighbours'; larger ones are written from
/// where they are.
const COPY_BYTES_MAX: usize = 8 << 10;
/// A block takes small frames until it is so long.
const BLOCK_BYTES: usize = 64 << 10;
/// A larger block is not kept for the next messages.
const SPARE_BYTES_MAX: usize = 16 << 10;

/// What was queued and not written yet, and how far the stream has come.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that were written.
    at: usize,
    /// Where in the stream the messages end that are not written whole.
    ends: VecDeque<u64>,
    queued: u64,
    written: u64,
    spare: Vec<u8>,
}

#[derive(Debug)]
enum Piece {
    /// Headers and small frames.
    Block(Vec<u8>),
    /// A large frame.
    Shared(Frame),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Piece::Block(bytes) => bytes,
            Piece::Shared(frame) => frame,
        }
    }
}

impl Outbox {
    /// Queues a frame of a message by copying it.
    pub fn push_bytes(&mut self, bytes: &[u8], has_more: bool) {
        self.push(if has_more { MORE } else { 0 }, bytes.len(), Some(bytes));
        self.note_end(has_more);
    }

    /// Queues a frame of a message, to be written from where it is if it is large.
    pub fn push_frame(&mut self, frame: Frame, has_more: bool) {
        if frame.len() <= COPY_BYTES_MAX {
            return self.push_bytes(&frame, has_more);
        }
        self.push(if has_more { MORE } else { 0 }, frame.len(), None);
        self.queued += frame.len() as u64;
        self.pieces.push_back(Piece::Shared(frame));
        self.note_end(has_more);
    }

    /// Queues a command.
    pub fn push_command(&mut self, body: &[u8]) {
        self.push(COMMAND, body.len(), Some(body));
    }

    fn note_end(&mut self, has_more: bool) {
        if !has_more {
            self.ends.push_back(self.queued);
        }
    }

    /// Queues a header, and what is to stand next to it.
    fn push(&mut self, flags: u8, len: usize, body: Option<&[u8]>) {
        if !matches!(self.pieces.back(), Some(Piece::Block(bytes)) if bytes.len() < BLOCK_BYTES) {
            self.pieces
                .push_back(Piece::Block(std::mem::take(&mut self.spare)));
        }
        if let Some(Piece::Block(block)) = self.pieces.back_mut() {
            let before = block.len();
            push_header(block, flags, len);
            block.extend_from_slice(body.unwrap_or_default());
            self.queued += (block.len() - before) as u64;
        }
    }

    /// Whether everything was written.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Messages that are not written whole.
    pub fn messages(&self) -> usize {
        self.ends.len()
    }

    /// Bytes queued so far, written or not.
    pub fn queued(&self) -> u64 {
        self.queued
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The next bytes to be written, as far as `slices` has room for them; how many slices.
    pub fn next<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut at = self.at;
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(&piece.bytes()[at..]);
            at = 0;
            count += 1;
        }
        count
    }

    /// Takes note that so many bytes were written.
    pub fn advance(&mut self, count: usize) {
        self.written += count as u64;
        self.at += count;
        while let Some(piece) = self.pieces.front()
            && self.at >= piece.bytes().len()
        {
            self.at -= piece.bytes().len();
            if let Some(Piece::Block(mut block)) = self.pieces.pop_front()
                && block.capacity() <= SPARE_BYTES_MAX
            {
                block.clear();
                self.spare = block;
            }
        }
        while self.ends.front().is_some_and(|&end| end <= self.written) {
            self.ends.pop_front();
        }
    }

    /// Everything that waits, as written.
    #[cfg(test)]
    pub fn take_all(&mut self) -> Vec<u8> {
        let waiting: Vec<_> = self.pieces.iter().map(Piece::bytes).collect();
        let all = waiting.concat()[self.at..].to_vec();
        self.advance(all.len());
        all
    }
}

/// Flags and length of a frame.
pub(super) fn push_header(out: &mut Vec<u8>, flags: u8, len: usize) {
    match u8::try_from(len) {
        Ok(len) => out.extend_from_slice(&[flags, len]),
        Err(_) => {
            out.push(flags | LONG);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(outbox: &mut Outbox, frames: &[Frame]) {
        for (frame, left) in frames.iter().zip((0..frames.len()).rev()) {
            outbox.push_frame(frame.share(), left > 0);
        }
    }

    #[test]
    fn small_frames_are_written_together_and_large_ones_from_where_they_are() {
        let mut outbox = Outbox::default();
        let large = Frame::from(vec![7; 100_000]);
        let frames = [
            Frame::from("id"),
            Frame::empty(),
            large.share(),
            Frame::from("end"),
        ];
        push(&mut outbox, &frames);
        push(&mut outbox, &frames);
        let mut slices = [IoSlice::new(&[]); 8];
        assert_eq!(outbox.next(&mut slices), 5);
        assert_eq!(*slices[0], *b"\x01\x02id\x01\x00\x03\0\0\0\0\0\x01\x86\xa0");
        assert_eq!(slices[1].as_ptr(), large.as_ptr());
        assert_eq!(slices[2].len(), 5 + 15);
        assert_eq!(*slices[4], *b"\x00\x03end");
        assert_eq!(outbox.next(&mut slices[..2]), 2);
    }

    #[test]
    fn what_was_written_in_part_goes_on_where_it_stopped() {
        for step in [1, 3, 8, 1000] {
            let mut outbox = Outbox::default();
            let mut written = Vec::new();
            for n in 0..3_u8 {
                push(
                    &mut outbox,
                    &[Frame::from(&[n; 5]), Frame::from(vec![n; 9000])],
                );
            }
            assert_eq!(outbox.messages(), 3);
            while !outbox.is_empty() {
                let mut slices = [IoSlice::new(&[]); 1];
                outbox.next(&mut slices);
                let count = slices[0].len().min(step);
                written.extend_from_slice(&slices[0][..count]);
                outbox.advance(count);
                assert_eq!(outbox.written(), written.len() as u64);
            }
            assert_eq!(
                (outbox.messages(), outbox.queued()),
                (0, written.len() as u64)
            );
            // Two headers, one of them long.
            assert_eq!(written.len(), 3 * (2 + 5 + 9 + 9000));
        }
    }
}
