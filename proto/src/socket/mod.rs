//! The one door to ZeroMQ: sockets that are set up right, and calls that cannot surprise.
//!
//! Every [`Socket`] is opened with a [`Profile`], which sets all options of its role. Every call
//! retries what a signal interrupts, never panics on an error number, and never waits unless its
//! name says so. Receiving and sending move whole messages ([`Frame`]s), all or nothing.
//!
//! `raw` is the only module of Muster with `unsafe`.

mod check;
mod context;
mod endpoint;
mod error;
mod frame;
mod key;
mod kind;
mod monitor;
mod poll;
mod profile;
mod raw;
mod security;
mod wake;

use std::cell::Cell;
use std::fmt;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use zmq_sys::errno;

pub use check::{Check, self_check};
pub use context::{Context, raise_file_limit};
pub use error::{Errno, SocketError};
pub use frame::Frame;
pub use key::{Keypair, Nonce, curve_keypair, random_bytes};
pub use kind::Kind;
pub use monitor::{LinkEvent, Monitor, Watch};
pub use poll::{Interest, PollItem, poll};
pub use profile::Profile;
pub use raw::{give_back_memory, keep_memory, limit_descriptors, newcomers_refused, unsent_bytes};
pub use wake::Wake;

use endpoint::End;
use raw::{RawContext, RawMessage, RawSocket, retry};

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

    /// Has the connections of every later endpoint served by the context's I/O thread of this
    /// number, from 0; without such a thread they could not be served.
    ///
    /// # Errors
    /// [`SocketError::System`].
    pub fn use_io_thread(&self, number: u32) -> Result<(), SocketError> {
        self.configure(|| self.raw.options.set_affinity(1 << number))
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

    /// Sets the routing id that a ROUTER will know this socket by, at its next connection.
    ///
    /// For tests and chained proxies: with a fixed id, a peer that restarts at once is ignored.
    ///
    /// # Errors
    /// [`SocketError::System`] when it is empty, over 255 bytes or starts with a zero byte.
    pub fn set_routing_id(&self, id: &[u8]) -> Result<(), SocketError> {
        self.configure(|| self.raw.options.set_identity(id))
    }

    /// Receives what starts with `prefix` (a SUB receives nothing else).
    ///
    /// # Errors
    /// [`SocketError::System`] when the socket is no SUB.
    pub fn subscribe(&self, prefix: &[u8]) -> Result<(), SocketError> {
        self.configure(|| self.raw.options.set_subscribe(prefix))
    }

    /// Takes one subscription back.
    ///
    /// # Errors
    /// [`SocketError::System`] when the socket is no SUB.
    pub fn unsubscribe(&self, prefix: &[u8]) -> Result<(), SocketError> {
        self.configure(|| self.raw.options.set_unsubscribe(prefix))
    }

    /// Replaces the profile's limits of messages kept (0: none), for later connections.
    ///
    /// # Errors
    /// [`SocketError::System`] when a number is over 2^31 - 1.
    pub fn set_queue_limits(&self, receive_max: u32, send_max: u32) -> Result<(), SocketError> {
        // Beyond the range it is negative, which libzmq refuses.
        self.configure(|| self.raw.options.set_rcvhwm(receive_max as i32))?;
        self.configure(|| self.raw.options.set_sndhwm(send_max as i32))
    }

    /// Whether only a living connection takes messages. When not, they queue for the connection to
    /// come, as a REQ needs that sends before its server is up.
    ///
    /// # Errors
    /// [`SocketError::Terminated`] when the context was shut down.
    pub fn set_immediate(&self, immediate: bool) -> Result<(), SocketError> {
        self.configure(|| self.raw.options.set_immediate(immediate))
    }

    /// How long what was sent may still go out once the socket is closed; the profiles say not at
    /// all. For the last answers of a program that leaves.
    ///
    /// # Errors
    /// [`SocketError::Terminated`] when the context was shut down.
    pub fn set_linger(&self, linger: Duration) -> Result<(), SocketError> {
        let ms = i32::try_from(linger.as_millis()).unwrap_or(i32::MAX);
        self.configure(|| self.raw.options.set_linger(ms))
    }

    /// Watches connections come and go, from now on. Start it before `bind` or `connect`; a second
    /// monitor replaces the first.
    ///
    /// # Errors
    /// [`SocketError::TooManyFiles`] when the sockets or files are used up.
    pub fn monitor(&self, watch: Watch) -> Result<Monitor, SocketError> {
        Monitor::open(self, watch)
    }

    fn set_ipv6(&self, on: bool) -> Result<(), SocketError> {
        self.configure(|| self.raw.options.set_ipv6(on))
    }

    /// Sets an option by one of the `zmq` crate's setters or ours.
    fn configure<E: Into<Errno>>(
        &self,
        set: impl FnMut() -> Result<(), E>,
    ) -> Result<(), SocketError> {
        retry(set).map_err(SocketError::of("set a socket's option"))
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
