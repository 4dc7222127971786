//! A stream socket that never blocks: one end of a link.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown, sockopt};

use crate::epoll::{Epoll, Interest};

/// Kernel keepalive: probes after 5 s of silence, three of them 2 s apart, so 11 s to the end.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_PROBES: u32 = 3;
/// Keepalive sleeps while sent bytes wait for their acknowledgement; this limit covers that.
const UNACKNOWLEDGED_MS_MAX: u32 = 10_000;
/// What a local socket holds on its way to libzmq's I/O thread. The kernel grants what its own
/// limit allows; more means fewer wake-ups per large frame.
const LOCAL_SEND_BYTES: usize = 512 << 10;

/// A connected socket, watched by a queue.
#[derive(Debug)]
pub(crate) struct Wire {
    fd: OwnedFd,
    token: u64,
    awaits_room: bool,
}

impl Wire {
    /// Watches a connected (or connecting) non-blocking socket under `token`.
    pub fn new(fd: OwnedFd, token: u64, interest: Interest, epoll: &Epoll) -> io::Result<Self> {
        epoll.add(&fd, token, interest)?;
        Ok(Wire {
            fd,
            token,
            awaits_room: interest == Interest::ReadWrite,
        })
    }

    /// Reads what is there; 0: the other end will send no more.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::io::read(&self.fd, &mut *buffer) {
                Err(Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// Writes what there is room for, at least one byte.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            // Without NOSIGNAL a write to a closed socket would end a process that has SIGPIPE on.
            match rustix::net::send(&self.fd, bytes, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// Writes what there is room for of several pieces, at least one byte.
    pub fn send_slices(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            let mut none = SendAncillaryBuffer::default();
            match rustix::net::sendmsg(&self.fd, slices, &mut none, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// Reads into a buffer's spare room; as [`recv`](Self::recv) otherwise.
    pub fn recv_more(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        loop {
            match rustix::io::read(&self.fd, rustix::buffer::spare_capacity(buffer)) {
                Err(Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// The socket itself, not watched any more.
    pub fn into_fd(self, epoll: &Epoll) -> io::Result<OwnedFd> {
        epoll.remove(&self.fd)?;
        Ok(self.fd)
    }

    /// Whether the queue shall tell when there is room to write again.
    pub fn await_room(&mut self, awaited: bool, epoll: &Epoll) -> io::Result<()> {
        if self.awaits_room != awaited {
            let interest = if awaited {
                Interest::ReadWrite
            } else {
                Interest::Read
            };
            epoll.modify(&self.fd, self.token, interest)?;
            self.awaits_room = awaited;
        }
        Ok(())
    }

    /// Tells the other end that nothing follows.
    pub fn end_sending(&self) {
        // Fails when the other end has gone, which is what it should come to know.
        let _ = rustix::net::shutdown(&self.fd, Shutdown::Write);
    }

    /// How a connection attempt ended.
    pub fn connect_result(&self) -> io::Result<()> {
        sockopt::socket_error(&self.fd)??;
        // Dialling a free port of this machine from that very port: TCP allows it.
        let own = rustix::net::getsockname(&self.fd)?;
        if rustix::net::getpeername(&self.fd)?.is_some_and(|peer| peer == own) {
            return Err(Errno::CONNREFUSED.into());
        }
        Ok(())
    }

    /// Bytes written that the other machine (TCP) or process (local) has not taken yet.
    pub fn unsent_bytes(&self) -> u64 {
        muster_proto::socket::unsent_bytes(self.fd.as_fd()).map_or(0, |bytes| bytes as u64)
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Makes a TCP socket send small frames at once and find a machine that is gone.
pub(super) fn set_up_tcp(fd: BorrowedFd<'_>) -> io::Result<()> {
    sockopt::set_tcp_nodelay(fd, true)?;
    sockopt::set_socket_keepalive(fd, true)?;
    sockopt::set_tcp_keepidle(fd, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(fd, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(fd, KEEPALIVE_PROBES)?;
    sockopt::set_tcp_user_timeout(fd, UNACKNOWLEDGED_MS_MAX)?;
    Ok(())
}

/// Gives a local socket towards libzmq room for large frames.
pub(super) fn set_up_local(fd: BorrowedFd<'_>) {
    // A smaller buffer is only slower.
    let _ = sockopt::set_socket_send_buffer_size(fd, LOCAL_SEND_BYTES);
}
