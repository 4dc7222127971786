//! The types of sockets.

/// The socket's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Many peers, each addressed by the routing id in frame 0.
    Router,
    /// Messages dealt to the peers in turn.
    Dealer,
    /// Ask, then receive.
    Req,
    /// Receive, then answer.
    Rep,
    /// Publish.
    Pub,
    /// Subscribe.
    Sub,
    /// Publish, and see subscriptions.
    Xpub,
    /// Subscribe by messages.
    Xsub,
    /// Send only, dealt in turn.
    Push,
    /// Receive only.
    Pull,
    /// One peer.
    Pair,
}

impl Kind {
    /// The number that the C API knows it by.
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Router => zmq_sys::ZMQ_ROUTER,
            Self::Dealer => zmq_sys::ZMQ_DEALER,
            Self::Req => zmq_sys::ZMQ_REQ,
            Self::Rep => zmq_sys::ZMQ_REP,
            Self::Pub => zmq_sys::ZMQ_PUB,
            Self::Sub => zmq_sys::ZMQ_SUB,
            Self::Xpub => zmq_sys::ZMQ_XPUB,
            Self::Xsub => zmq_sys::ZMQ_XSUB,
            Self::Push => zmq_sys::ZMQ_PUSH,
            Self::Pull => zmq_sys::ZMQ_PULL,
            Self::Pair => zmq_sys::ZMQ_PAIR,
        }
    }
}
