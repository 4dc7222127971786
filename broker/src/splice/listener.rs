//! The sockets that workers dial.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{SocketFlags, sockopt};

use super::address::{self, Address};
use super::event::PeerProcess;
use super::{Listen, SpliceError, wire};

/// One listening socket. Its ipc file goes with it.
pub(super) struct Listener {
    fd: OwnedFd,
    address: Address,
    /// The endpoint with its real port.
    bound: String,
    pub curve: bool,
    /// Connections may be waiting.
    pub may_accept: bool,
}

/// A connection that came in.
pub(super) struct Accepted {
    pub fd: OwnedFd,
    pub address: String,
    pub process: Option<PeerProcess>,
}

/// Why nothing came in.
#[derive(Debug)]
pub(super) enum Nothing {
    /// Nobody is waiting.
    Idle,
    /// No descriptor or memory is left for whoever may be waiting.
    Exhausted(io::Error),
    /// Another user's process was waiting; it was hung up on.
    OtherUser(u32),
}

impl Listener {
    pub fn open(listen: &Listen) -> Result<Self, SpliceError> {
        let address = Address::parse(&listen.endpoint)?;
        let (fd, bound) = address.listen(&listen.endpoint)?;
        Ok(Listener {
            fd,
            address,
            bound,
            curve: listen.curve,
            may_accept: true,
        })
    }

    /// Where it really listens.
    pub fn bound(&self) -> &str {
        &self.bound
    }

    /// Takes the next connection.
    pub fn accept(&mut self) -> Result<Accepted, Nothing> {
        loop {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let (fd, from) = match rustix::net::acceptfrom_with(&self.fd, flags) {
                Ok(accepted) => accepted,
                Err(Errno::AGAIN) => {
                    self.may_accept = false;
                    return Err(Nothing::Idle);
                }
                // The connection broke while it waited, or a signal came: on to the next one.
                Err(
                    Errno::INTR
                    | Errno::CONNABORTED
                    | Errno::PROTO
                    | Errno::NETDOWN
                    | Errno::HOSTDOWN
                    | Errno::HOSTUNREACH
                    | Errno::NETUNREACH
                    | Errno::PERM,
                ) => continue,
                // Mostly descriptors or memory; whatever it is, it must not make us spin.
                Err(error) => return Err(Nothing::Exhausted(error.into())),
            };
            let accepted = match &self.address {
                Address::Tcp { .. } => {
                    let Some(from) = from.and_then(|from| SocketAddr::try_from(from).ok()) else {
                        continue;
                    };
                    // Fails only when the peer has left already, which reading will show.
                    let _ = wire::set_up_tcp(fd.as_fd());
                    Accepted {
                        fd,
                        address: address::tcp_endpoint(from),
                        process: None,
                    }
                }
                Address::Ipc(_) => {
                    let Ok(peer) = sockopt::socket_peercred(&fd) else {
                        continue;
                    };
                    let uid = peer.uid.as_raw();
                    // Whoever opens a socket's folder to others still has to use TCP and keys.
                    if ![rustix::process::geteuid().as_raw(), 0].contains(&uid) {
                        return Err(Nothing::OtherUser(uid));
                    }
                    let pid = peer.pid.as_raw_nonzero().get().unsigned_abs();
                    let process = Some(PeerProcess { pid, uid });
                    Accepted {
                        fd,
                        address: self.bound.clone(),
                        process,
                    }
                }
            };
            return Ok(accepted);
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Address::Ipc(path) = &self.address {
            let _ = std::fs::remove_file(path);
        }
    }
}
