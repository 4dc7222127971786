//! The one door to ZeroMQ: sockets that are set up right, and calls that cannot surprise.
//!
//! Every [`Socket`] is opened with a [`Profile`], which sets all options of its role. Every call
//! retries what a signal interrupts, never panics on an error number, and never waits unless its
//! name says so. Receiving and sending move whole messages ([`Frame`]s), all or nothing.
//!
//! All `unsafe` of it is in `raw`.

mod check;
mod context;
mod endpoint;
mod error;
mod frame;
mod key;
mod kind;
mod messages;
mod monitor;
mod options;
mod poll;
mod profile;
mod raw;
mod security;
mod wake;

use std::cell::Cell;
use std::fmt;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;

use zmq_sys::errno;

pub use check::{Check, self_check};
pub use context::{Context, raise_file_limit};
pub use error::{Errno, SocketError};
pub use frame::Frame;
pub use key::{Keypair, Nonce, curve_keypair, random_bytes};
pub use kind::Kind;
pub use messages::{FRAMES_KEPT_MAX, SendOutcome};
pub use monitor::{LinkEvent, Monitor, Watch};
pub use poll::{Interest, PollItem, poll};
pub use profile::Profile;
pub use raw::{give_back_memory, keep_memory, limit_descriptors, newcomers_refused, unsent_bytes};
pub use wake::Wake;

use endpoint::End;
use raw::{RawContext, RawSocket, retry};

/// A ZeroMQ socket. Moves between threads, but one at a time uses it.
pub struct Socket {
    raw: RawSocket,
    kind: Kind,
    /// There was nothing to receive, and nothing was done since that may have taken in word of a
    /// message: only the descriptor can tell of one.
    is_drained: Cell<bool>,
}

impl Socket {
    /// Opens a socket and sets the options of its profile.
    ///
    /// # Errors
    /// [`SocketError::TooManyFiles`] when the context's sockets or the process's files are used up.
    pub fn open(context: &Context, kind: Kind, profile: &Profile) -> Result<Self, SocketError> {
        Self::open_in(&context.raw, kind, profile)
    }

    fn open_in(
        context: &Arc<RawContext>,
        kind: Kind,
        profile: &Profile,
    ) -> Result<Self, SocketError> {
        let raw =
            RawSocket::open(context, kind.number()).map_err(SocketError::of("open a socket"))?;
        profile
            .apply(&raw, kind)
            .map_err(SocketError::of("set a socket's options"))?;
        Ok(Self {
            raw,
            kind,
            is_drained: Cell::new(false),
        })
    }

    /// The socket's type.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Listens at an endpoint: `tcp://ADDR:PORT` (`*` for any), `ipc://PATH` or `inproc://NAME`.
    ///
    /// A file that is in the way of an `ipc://` path is replaced, so lock the folder first.
    ///
    /// # Errors
    /// Says what is wrong with the endpoint, or why the system refused it.
    pub fn bind(&self, endpoint: &str) -> Result<(), SocketError> {
        self.is_drained.set(false);
        let text = endpoint::check(endpoint, End::Bind)?;
        let ipv6 = endpoint::needs_ipv6(endpoint);
        self.set_ipv6(ipv6)?;
        let mut bound = retry(|| self.raw.bind(&text));
        // `*` listens on both families where there are both.
        if ipv6
            && endpoint.starts_with("tcp://*:")
            && let Err(Errno(errno::EADDRNOTAVAIL | libc::EAFNOSUPPORT)) = bound
        {
            self.set_ipv6(false)?;
            bound = retry(|| self.raw.bind(&text));
        }
        bound.map_err(SocketError::at(endpoint))
    }

    /// Connects to an endpoint, in the background and again whenever the connection ends.
    ///
    /// # Errors
    /// Says what is wrong with the endpoint. That nobody listens there is no error.
    pub fn connect(&self, endpoint: &str) -> Result<(), SocketError> {
        self.is_drained.set(false);
        let text = endpoint::check(endpoint, End::Connect)?;
        self.set_ipv6(endpoint::needs_ipv6(endpoint))?;
        retry(|| self.raw.connect(&text)).map_err(SocketError::at(endpoint))
    }

    /// Stops listening at an endpoint, as [`last_endpoint`](Self::last_endpoint) spells it. Drops
    /// the connections that came in there.
    ///
    /// # Errors
    /// [`SocketError::Endpoint`] when it does not listen there.
    pub fn unbind(&self, endpoint: &str) -> Result<(), SocketError> {
        self.is_drained.set(false);
        let text = endpoint::check(endpoint, End::Bind)?;
        retry(|| self.raw.unbind(&text)).map_err(SocketError::at(endpoint))
    }

    /// Ends a connection made by [`connect`](Self::connect), with what was not yet sent on it.
    ///
    /// # Errors
    /// [`SocketError::Endpoint`] when it is not connected there.
    pub fn disconnect(&self, endpoint: &str) -> Result<(), SocketError> {
        self.is_drained.set(false);
        let text = endpoint::check(endpoint, End::Connect)?;
        retry(|| self.raw.disconnect(&text)).map_err(SocketError::at(endpoint))
    }

    /// The endpoint of the last bind or connect, with the port that the system picked.
    ///
    /// # Errors
    /// [`SocketError::Terminated`] when the context was shut down.
    pub fn last_endpoint(&self) -> Result<String, SocketError> {
        retry(|| self.raw.options.get_last_endpoint())
            .map(|text| text.unwrap_or_else(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
            .map_err(SocketError::of("read a socket's endpoint"))
    }

    /// The descriptor that becomes readable when [`events`](Self::events) may have changed.
    ///
    /// It tells of changes alone: read the events after every send and receive, too, and wait only
    /// when there are none. [`poll`] does all this.
    ///
    /// # Errors
    /// [`SocketError::Terminated`] when the context was shut down.
    pub fn fd(&self) -> Result<RawFd, SocketError> {
        retry(|| self.raw.options.get_fd()).map_err(SocketError::of("read a socket's descriptor"))
    }

    /// [`fd`](Self::fd), on loan, for queues that take descriptors by reference.
    ///
    /// # Errors
    /// [`SocketError::Terminated`] when the context was shut down.
    pub fn borrow_fd(&self) -> Result<BorrowedFd<'_>, SocketError> {
        Ok(raw::borrow_fd(&self.raw, self.fd()?))
    }

    /// Whether the socket has something to receive. `false`: its descriptor tells when it has.
    ///
    /// Asks libzmq, which asks the system, unless nothing was done since there was nothing.
    ///
    /// # Errors
    /// [`SocketError::Terminated`] when the context was shut down.
    pub fn has_message(&self) -> Result<bool, SocketError> {
        Ok(!self.is_drained.get() && self.events()?.readable)
    }

    /// Whether the socket has something to receive, and room to send.
    ///
    /// # Errors
    /// [`SocketError::Terminated`] when the context was shut down.
    pub fn events(&self) -> Result<Readiness, SocketError> {
        retry(|| self.raw.options.get_events())
            .map(|events| Readiness {
                readable: events.contains(zmq::POLLIN),
                writable: events.contains(zmq::POLLOUT),
            })
            .inspect(|readiness| self.is_drained.set(!readiness.readable))
            .map_err(SocketError::of("read a socket's events"))
    }

    /// Watches connections come and go, from now on. Start it before `bind` or `connect`; a second
    /// monitor replaces the first.
    ///
    /// # Errors
    /// [`SocketError::TooManyFiles`] when the sockets or files are used up.
    pub fn monitor(&self, watch: Watch) -> Result<Monitor, SocketError> {
        Monitor::open(self, watch)
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// What a socket can do without waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// There is a message to receive.
    pub readable: bool,
    /// There is room to send. A ROUTER always says so.
    pub writable: bool,
}

/// Copies messages between two sockets, both ways, until the context is shut down. This is libzmq's
/// own proxy, the yardstick of the benchmarks.
pub fn proxy(frontend: &Socket, backend: &Socket) -> SocketError {
    SocketError::of("proxy")(raw::proxy(&frontend.raw, &backend.raw))
}
