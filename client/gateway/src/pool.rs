//! The way to the broker, as the gateway sees it.

use muster_proto::socket::Frame;
use std::time::Duration;

/// A JSON-RPC body on its way to the broker: one call, one notification or a batch.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// Frame 0, as the caller wrote it but for members of `meta`.
    pub body: Vec<u8>,
    /// The method that decides whether it may be sent again to a restarted broker: of a batch of
    /// several methods `system.multicall`.
    pub method: String,
    /// `meta.key`, when it has one: a call can be found again and cancelled by it.
    pub key: Option<String>,
    /// A call of it must not be started twice.
    pub is_once: bool,
    /// The longest `meta.timeout_ms`; zero: none, or a call without one.
    pub timeout: Duration,
}

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The broker never had it, or may have it again.
    #[error("{0}")]
    Unavailable(String),
    /// The broker went away with it.
    #[error("outcome unknown: the broker went away while it had the call")]
    Unknown,
    /// The broker did not even say that the deadline has passed.
    #[error("the broker did not answer in time")]
    Timeout,
}

/// Gets the reply, on any thread: frame 0 below the envelope, empty for notifications.
pub type Done = Box<dyn FnOnce(Result<Frame, Failure>) + Send>;

/// Ends a request that nobody waits for any more.
pub type Ticket = Box<dyn FnOnce() + Send>;

/// A connection to a broker, kept for as long as the gateway lives.
pub trait Pool: Send + Sync + 'static {
    /// Sends a request. `done` is called once.
    ///
    /// # Errors
    /// When it can't even be queued; `done` is not called then.
    fn submit(&self, request: Request, done: Done) -> Result<Ticket, Failure>;

    /// Whether the broker is there.
    fn is_connected(&self) -> bool;
}
