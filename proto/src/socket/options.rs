//! Options that belong to one socket and not to all of its role.

use std::time::Duration;

use super::Socket;
use super::error::{Errno, SocketError};
use super::raw::retry;

impl Socket {
    /// Has the connections of every later endpoint served by the context's I/O thread of this
    /// number, from 0; without such a thread they could not be served.
    ///
    /// # Errors
    /// [`SocketError::System`].
    pub fn use_io_thread(&self, number: u32) -> Result<(), SocketError> {
        self.configure(|| self.raw.options.set_affinity(1 << number))
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

    pub(super) fn set_ipv6(&self, on: bool) -> Result<(), SocketError> {
        self.configure(|| self.raw.options.set_ipv6(on))
    }

    /// Sets an option by one of the `zmq` crate's setters or ours.
    pub(super) fn configure<E: Into<Errno>>(
        &self,
        set: impl FnMut() -> Result<(), E>,
    ) -> Result<(), SocketError> {
        retry(set).map_err(SocketError::of("set a socket's option"))
    }
}
