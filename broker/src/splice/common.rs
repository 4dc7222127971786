//! What all links have in common: the thread's time and queue, and the words for how a link goes on.

use std::time::Duration;

use super::event::{GoneReason, LinkId, Stranger};
use super::flow::Spares;
use super::turns::Turns;
use super::{SpliceConfig, TICK};
use crate::epoll::Epoll;

/// What all links share.
pub(super) struct Common {
    pub epoll: Epoll,
    pub spares: Spares,
    pub config: SpliceConfig,
    /// The time, in ticks of the thread.
    pub tick: u64,
    /// Of handshakes with keys.
    pub turns: Turns,
}

impl Common {
    /// The tick at which at least `time` has passed from now.
    pub fn after(&self, time: Duration) -> u64 {
        self.tick + ticks(time) + 1
    }
}

/// A length of time in ticks, rounded up.
pub(crate) fn ticks(time: Duration) -> u64 {
    time.as_millis().div_ceil(TICK.as_millis()) as u64
}

/// The two sockets of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Towards the worker.
    Peer,
    /// Towards our DEALER: first the door, then the connection that came through it.
    Lane,
}

impl Side {
    /// The number under which a link's socket is watched.
    pub fn token(self, link: LinkId) -> u64 {
        link.0 << 2 | if self == Side::Peer { 1 } else { 2 }
    }
}

/// Whether a link goes on by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Until the next change.
    Over,
    /// There is more to copy when the others have had their turn.
    Again,
}

/// How a link ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Nobody was told of it.
    Unknown(Stranger),
    /// The loop knows it.
    Known(GoneReason),
}

impl From<GoneReason> for End {
    fn from(reason: GoneReason) -> Self {
        End::Known(reason)
    }
}

impl From<Stranger> for End {
    fn from(stranger: Stranger) -> Self {
        End::Unknown(stranger)
    }
}
