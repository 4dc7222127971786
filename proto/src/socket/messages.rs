//! Messages in and out, whole: all frames of one or none.

use std::time::{Duration, Instant};

use zmq_sys::errno;

use super::error::{Errno, SocketError};
use super::raw::{RawMessage, retry};
use super::{Frame, Interest, Kind, PollItem, Socket, poll};

/// Frames that [`Socket::recv_into`] keeps of one message. No message of Muster comes near; a
/// longer one is cut here, so that it costs no more memory than libzmq already spent on it.
pub const FRAMES_KEPT_MAX: usize = 16_384;

/// What became of a message that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum SendOutcome {
    /// libzmq has taken it whole, for a peer that was there. If the connection ends now the message
    /// is lost with it, as it would be on the wire.
    Sent,
    /// The peer's queue is full, or there is no peer yet. Nothing was sent.
    WouldBlock,
    /// A ROUTER knows no peer of that routing id, any more. Nothing was sent.
    Unreachable,
}

impl Socket {
    /// Receives one message, if there is one: clears `frames`, fills it and returns true, or
    /// returns false. Does not wait.
    ///
    /// Of a message with more than [`FRAMES_KEPT_MAX`] frames the rest is dropped.
    ///
    /// # Errors
    /// [`SocketError::Terminated`] when the context was shut down.
    pub fn recv_into(&self, frames: &mut Vec<Frame>) -> Result<bool, SocketError> {
        frames.clear();
        self.is_drained.set(false);
        loop {
            let mut message = RawMessage::empty();
            match retry(|| self.raw.receive(&mut message)) {
                Ok(more) => {
                    if frames.len() < FRAMES_KEPT_MAX {
                        frames.push(Frame(message));
                    }
                    if !more {
                        return Ok(true);
                    }
                }
                // libzmq hands on complete messages alone, so this is before the first frame.
                Err(Errno(errno::EAGAIN)) => {
                    self.is_drained.set(true);
                    return Ok(false);
                }
                Err(error) => return Err(SocketError::of("receive")(error)),
            }
        }
    }

    /// Like [`recv_into`](Self::recv_into), waiting up to `timeout` for a message.
    ///
    /// # Errors
    /// [`SocketError::Terminated`] when the context was shut down.
    pub fn recv_timeout(
        &self,
        frames: &mut Vec<Frame>,
        timeout: Duration,
    ) -> Result<bool, SocketError> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            if self.recv_into(frames)? {
                return Ok(true);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(false);
            }
            poll(&mut [PollItem::socket(self, Interest::Read)], left)?;
        }
    }

    /// Sends `frames` as one message, without waiting. Sent: `frames` is left empty. Otherwise it
    /// holds all of them still, to try again.
    ///
    /// # Errors
    /// [`SocketError::Terminated`] when the context was shut down.
    ///
    /// # Panics
    /// If `frames` is empty: there is no such message.
    pub fn send_frames(&self, frames: &mut Vec<Frame>) -> Result<SendOutcome, SocketError> {
        let outcome = self.send_slice(frames)?;
        if outcome == SendOutcome::Sent {
            frames.clear();
        }
        Ok(outcome)
    }

    /// Like [`send_frames`](Self::send_frames), for frames among others. Sent: they are empty.
    ///
    /// # Errors
    /// [`SocketError::Terminated`] when the context was shut down.
    ///
    /// # Panics
    /// If `frames` is empty.
    pub fn send_slice(&self, frames: &mut [Frame]) -> Result<SendOutcome, SocketError> {
        assert!(!frames.is_empty(), "a message has at least one frame");
        self.is_drained.set(false);
        let last = frames.len() - 1;
        for (at, frame) in frames.iter_mut().enumerate() {
            match retry(|| self.raw.send(&mut frame.0, at < last)) {
                Ok(()) => {}
                Err(Errno(errno::EAGAIN)) if at == 0 => return Ok(SendOutcome::WouldBlock),
                Err(Errno(errno::EHOSTUNREACH)) if at == 0 => return Ok(SendOutcome::Unreachable),
                // The connection ended between two frames. libzmq has taken back those before and
                // drops those after, up to the last: the message shares its connection's fate.
                Err(Errno(errno::EAGAIN)) => {}
                Err(error) => return Err(SocketError::of("send")(error)),
            }
        }
        Ok(SendOutcome::Sent)
    }

    /// Sends frames that the caller can make again, as one message, without waiting. Unless they
    /// are sent they are dropped.
    ///
    /// # Errors
    /// [`SocketError::Terminated`] when the context was shut down.
    ///
    /// # Panics
    /// If there are none.
    pub fn send(
        &self,
        frames: impl IntoIterator<Item = Frame>,
    ) -> Result<SendOutcome, SocketError> {
        self.send_frames(&mut frames.into_iter().collect())
    }

    /// Like [`send_frames`](Self::send_frames), waiting up to `timeout` for room.
    ///
    /// Not for a ROUTER: it cannot tell when one of its peers has room again, and counts as
    /// writable always.
    ///
    /// # Errors
    /// [`SocketError::Terminated`] when the context was shut down.
    ///
    /// # Panics
    /// On a ROUTER, and if `frames` is empty.
    pub fn send_timeout(
        &self,
        frames: &mut Vec<Frame>,
        timeout: Duration,
    ) -> Result<SendOutcome, SocketError> {
        assert!(self.kind != Kind::Router, "a ROUTER cannot wait for a peer");
        let deadline = Instant::now().checked_add(timeout);
        loop {
            match self.send_frames(frames)? {
                SendOutcome::WouldBlock => {}
                outcome => return Ok(outcome),
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(SendOutcome::WouldBlock);
            }
            poll(&mut [PollItem::socket(self, Interest::Write)], left)?;
        }
    }
}
