//! What lines have to say.

use crate::splice::{Arrival, GoneReason, LinkId};

/// Something happened to a line. Each has one `Arrived`, then at most one `Ready`, then one `Gone`.
#[derive(Debug)]
pub enum LineEvent {
    /// A peer is there: [join](super::Lines::join) it.
    Arrived(Arrival),
    /// Messages can flow.
    Ready(LinkId),
    /// It has ended. What it had left can still be [received](super::Lines::receive), until it is
    /// [forgotten](super::Lines::forget).
    Gone(LinkId, GoneReason),
}

/// What a look at a line gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A message.
    Message,
    /// Bytes without a message; there may be more.
    Nothing,
    /// It has nothing now.
    Empty,
}
