//! Waiting for several sockets and descriptors at once.

use std::ffi::c_long;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use zmq_sys::{ZMQ_POLLERR, ZMQ_POLLIN, ZMQ_POLLOUT, errno, zmq_pollitem_t};

use super::Socket;
use super::error::SocketError;
use super::raw::{self, Errno};

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Something to receive or read.
    Read,
    /// Room to send or write.
    Write,
    /// Either.
    Both,
    /// Nothing: the item keeps its place and stays silent.
    Nothing,
}

impl Interest {
    fn bits(self) -> i16 {
        let bits = match self {
            Self::Read => ZMQ_POLLIN,
            Self::Write => ZMQ_POLLOUT,
            Self::Both => ZMQ_POLLIN | ZMQ_POLLOUT,
            Self::Nothing => 0,
        };
        bits as i16
    }
}

/// A socket or descriptor with what to wait for and, after [`poll`], what happened.
#[repr(transparent)]
pub struct PollItem<'a> {
    item: zmq_pollitem_t,
    source: PhantomData<&'a Socket>,
}

impl<'a> PollItem<'a> {
    /// Waits for a socket.
    pub fn socket(socket: &'a Socket, interest: Interest) -> Self {
        // The poll takes in word of messages.
        socket.is_drained.set(false);
        Self {
            item: socket.raw.poll_item(interest.bits()),
            source: PhantomData,
        }
    }

    /// Waits for the descriptor of a socket ([`Socket::fd`]): cheaper than the socket itself, and
    /// only right when the caller has seen by [`Socket::has_message`], or by receiving until there
    /// was nothing left and sending nothing since, that there is nothing to receive.
    ///
    /// # Errors
    /// [`SocketError::Terminated`] when the context was shut down.
    pub fn wake_of(socket: &'a Socket) -> Result<Self, SocketError> {
        let item = zmq_pollitem_t {
            socket: std::ptr::null_mut(),
            fd: socket.fd()?,
            events: Interest::Read.bits(),
            revents: 0,
        };
        Ok(Self {
            item,
            source: PhantomData,
        })
    }

    /// Waits for a descriptor, such as a [`Wake`](super::Wake) or a pipe.
    pub fn fd(source: &'a impl AsFd, interest: Interest) -> Self {
        let fd = source.as_fd().as_raw_fd();
        let item = zmq_pollitem_t {
            socket: std::ptr::null_mut(),
            fd,
            events: interest.bits(),
            revents: 0,
        };
        Self {
            item,
            source: PhantomData,
        }
    }

    /// Whether there is something to receive or read.
    pub fn is_readable(&self) -> bool {
        self.has(ZMQ_POLLIN)
    }

    /// Whether the descriptor failed or its other end is gone.
    pub fn is_broken(&self) -> bool {
        self.has(ZMQ_POLLERR)
    }

    fn has(&self, bit: u32) -> bool {
        self.item.revents & bit as i16 != 0
    }
}

/// Waits until an item has an event or the timeout has passed (None: for ever).
///
/// Returns how many items have one. The timeout is rounded up to a millisecond, so a wait for a
/// deadline never ends just before it; a signal does not shorten it.
///
/// # Errors
/// [`SocketError::Terminated`] when a socket's context was shut down.
pub fn poll(items: &mut [PollItem<'_>], timeout: Option<Duration>) -> Result<usize, SocketError> {
    // A timeout too long for the clock is for ever.
    let deadline = match timeout {
        Some(Duration::ZERO) | None => None,
        Some(timeout) => Instant::now().checked_add(timeout),
    };
    let mut wait_ms = timeout.map_or(-1, ceil_ms);
    loop {
        match raw::poll(items, wait_ms) {
            // The longest single wait is shorter than some timeouts.
            Ok(0) if deadline.is_some_and(|deadline| Instant::now() < deadline) => {}
            Err(Errno(errno::EINTR)) => {}
            result => return result.map_err(SocketError::of("poll")),
        }
        if let Some(deadline) = deadline {
            wait_ms = ceil_ms(deadline.saturating_duration_since(Instant::now()));
        }
    }
}

fn ceil_ms(timeout: Duration) -> c_long {
    let ms = timeout.as_nanos().div_ceil(1_000_000);
    // libzmq counts in an int.
    c_long::from(i32::try_from(ms).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::Wake;
    use super::*;

    #[test]
    fn timeouts_are_rounded_up_to_whole_milliseconds() {
        assert_eq!(ceil_ms(Duration::ZERO), 0);
        assert_eq!(ceil_ms(Duration::from_nanos(1)), 1);
        assert_eq!(ceil_ms(Duration::from_millis(5)), 5);
        assert_eq!(ceil_ms(Duration::from_micros(5_001)), 6);
        assert_eq!(ceil_ms(Duration::MAX), c_long::from(i32::MAX));
    }

    #[test]
    fn a_wait_never_ends_before_its_timeout() {
        let wake = Wake::new().unwrap();
        let timeout = Duration::from_micros(2_300);
        let start = Instant::now();
        assert_eq!(
            poll(&mut [PollItem::fd(&wake, Interest::Read)], Some(timeout)).unwrap(),
            0
        );
        assert!(start.elapsed() >= timeout);
    }

    #[test]
    fn a_wake_from_another_thread_ends_an_endless_wait_once() {
        let wake = Wake::new().unwrap();
        let waker = wake.clone();
        let thread = std::thread::spawn(move || {
            waker.wake();
            waker.wake();
        });
        let mut items = [PollItem::fd(&wake, Interest::Read)];
        assert_eq!(poll(&mut items, None).unwrap(), 1);
        assert!(items[0].is_readable());
        thread.join().unwrap();
        assert!(wake.drain());
        assert!(!wake.drain());
        assert_eq!(poll(&mut items, Some(Duration::ZERO)).unwrap(), 0);
        assert!(!items[0].is_readable());
    }

    #[test]
    fn an_item_of_no_interest_stays_silent() {
        let wake = Wake::new().unwrap();
        wake.wake();
        let mut items = [PollItem::fd(&wake, Interest::Nothing)];
        assert_eq!(poll(&mut items, Some(Duration::ZERO)).unwrap(), 0);
    }
}
