//! What the splice tells the broker's loop, and the queue it travels in.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use muster_proto::socket::Wake;

/// One connection, from its arrival to its end. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub(super) u64);

impl LinkId {
    /// The number under which the loop watches its socket.
    pub(crate) fn token(self) -> u64 {
        self.0
    }

    /// The link of such a number.
    pub(crate) fn of_token(token: u64) -> Self {
        LinkId(token)
    }
}

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A server that the splice keeps dialling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialId(pub(super) u64);

/// Where a link comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The peer dialled this listener, counted as in the configuration.
    Listener(usize),
    /// The splice dialled the peer.
    Dial(DialId),
}

/// The process at the other end of a local connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProcess {
    /// Its number when it connected; 0 where the kernel can't say (another pid namespace).
    pub pid: u32,
    /// Its user.
    pub uid: u32,
}

/// A peer that speaks ZMTP and waits for a socket to talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The connection.
    pub link: LinkId,
    /// Where it comes from.
    pub origin: Origin,
    /// `tcp://127.0.0.1:34343`, or the endpoint of a local connection.
    pub address: String,
    /// Known for local connections.
    pub process: Option<PeerProcess>,
    /// Whether the peer answers PINGs (ZMTP 3.1). To others none must be sent.
    pub answers_pings: bool,
    /// How its messages come to the loop.
    pub way: Way,
}

/// How a peer's messages come to the loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Through libzmq: a DEALER of this process must connect to this endpoint, once.
    Dealer(String),
    /// The splice finishes the handshake, and hands the connection over when it is done.
    Direct,
}

/// A keyless connection of ZMTP 3 that is through the handshake.
#[derive(Debug)]
pub struct Connection {
    /// The socket, non-blocking.
    pub(crate) fd: OwnedFd,
    /// What was read behind the peer's READY.
    pub(crate) received: Vec<u8>,
}

/// Something happened to a link. Each link has one `Arrived`, then at most one `Ready`, then one
/// `Gone`, unless it was handed over and released.
#[derive(Debug)]
pub enum SpliceEvent {
    /// A peer is there.
    Arrived(Arrival),
    /// Both sides have finished the handshake: messages can flow.
    Ready {
        /// The connection.
        link: LinkId,
        /// The same as a socket, when it goes [`Way::Direct`]: from here on it is the loop's, who
        /// [releases](super::Splice::release) the link when it has ended.
        connection: Option<Connection>,
    },
    /// The link has ended. Every whole message of the peer has reached the DEALER, unless the
    /// reason is that the peer misbehaved or that the link was closed from this side.
    Gone {
        /// The connection.
        link: LinkId,
        /// Why.
        reason: GoneReason,
    },
}

/// Why a link ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GoneReason {
    /// The peer closed the connection.
    Eof,
    /// The peer's process or machine ended the connection abruptly, or the network did.
    Reset,
    /// The peer did not answer.
    Silent,
    /// The peer did not finish the handshake in time.
    HandshakeTimeout,
    /// Our socket did not want the peer: its socket type, key or protocol is wrong.
    Refused,
    /// The peer sent a message without an end.
    TooLarge,
    /// Closed by the broker.
    Closed,
    /// No descriptor or other resource was left.
    Exhausted,
}

impl fmt::Display for GoneReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Eof => "the peer closed the connection",
            Self::Reset => "the connection was reset",
            Self::Silent => "the peer does not answer",
            Self::HandshakeTimeout => "the handshake took too long",
            Self::Refused => "wrong socket type, key or protocol",
            Self::TooLarge => "an unfinished message over the limit",
            Self::Closed => "closed by the broker",
            Self::Exhausted => "out of descriptors",
        })
    }
}

/// Why a connection was dropped before anybody was told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stranger {
    NotZmtp,
    TooOld,
    Mechanism,
    SocketType,
    OtherUser,
    TimedOut,
    Left,
    Exhausted,
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotZmtp => "it does not speak ZMTP",
            Self::TooOld => "ZMTP 1 is too old",
            Self::Mechanism => "its security mechanism is not ours",
            Self::SocketType => "it is no REP, DEALER or ROUTER",
            Self::OtherUser => "it belongs to another user",
            Self::TimedOut => "no greeting in time",
            Self::Left => "it left during the greeting",
            Self::Exhausted => "out of descriptors",
        })
    }
}

/// Events on their way to the loop. The links are capped, and no more are accepted while the queue
/// is long, so it has an end.
#[derive(Debug)]
pub(super) struct Events {
    queue: Mutex<VecDeque<SpliceEvent>>,
    wake: Wake,
}

impl Events {
    pub fn new() -> std::io::Result<Self> {
        Ok(Events {
            queue: Mutex::default(),
            wake: Wake::new()?,
        })
    }

    pub fn push(&self, event: SpliceEvent) {
        self.queue().push_back(event);
        self.wake.wake();
    }

    /// The next one. None: there is none, and the wake's descriptor is unreadable until there is.
    pub fn pop(&self) -> Option<SpliceEvent> {
        loop {
            if let Some(event) = self.queue().pop_front() {
                return Some(event);
            }
            // One that was pushed between the two looks has woken again.
            if !self.wake.drain() {
                return None;
            }
        }
    }

    pub fn len(&self) -> usize {
        self.queue().len()
    }

    pub fn wake(&self) -> &Wake {
        &self.wake
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<SpliceEvent>> {
        // A panic elsewhere leaves a whole queue behind: pushes and pops are single steps.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::socket::{Interest, PollItem, poll};
    use std::time::Duration;

    fn ready(n: u64) -> SpliceEvent {
        SpliceEvent::Ready {
            link: LinkId(n),
            connection: None,
        }
    }

    #[test]
    fn the_wake_is_readable_while_events_wait_and_not_after() {
        let events = Events::new().unwrap();
        let is_awake = || {
            poll(
                &mut [PollItem::fd(events.wake(), Interest::Read)],
                Some(Duration::ZERO),
            )
            .unwrap()
        };
        assert_eq!(is_awake(), 0);
        for n in 0..3 {
            events.push(ready(n));
        }
        assert_eq!(events.len(), 3);
        assert!(matches!(
            events.pop(),
            Some(SpliceEvent::Ready {
                link: LinkId(0),
                ..
            })
        ));
        assert_eq!(is_awake(), 1);
        assert!(events.pop().is_some() && events.pop().is_some() && events.pop().is_none());
        assert_eq!(is_awake(), 0);
    }
}
