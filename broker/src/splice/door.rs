//! The private endpoint at which the broker's DEALER meets one link.
//!
//! The splice listens and the DEALER connects, rather than the other way round: a connecting socket
//! needs one descriptor less, has one peer for certain, and makes its connection in libzmq's own
//! thread. The path is gone as soon as the two have met.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::wire;
use crate::epoll::{Epoll, Interest};

/// What the files of doors start with.
const PREFIX: &str = "lane-";
/// `/lane-` and the longest number.
const NAME_BYTES_MAX: usize = 26;

/// A listening socket for one connection, and its file.
#[derive(Debug)]
pub(super) struct Door {
    fd: OwnedFd,
    path: PathBuf,
}

impl Door {
    /// Whether doors in this folder have paths that a socket address holds.
    pub fn fits(folder: &Path) -> bool {
        folder.as_os_str().len() + NAME_BYTES_MAX <= muster_proto::runtime::IPC_PATH_BYTES_MAX
    }

    /// Removes what a killed broker left in the folder.
    pub fn sweep(folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)?.flatten() {
            if entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.starts_with(PREFIX))
            {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    pub fn open(folder: &Path, number: u64, token: u64, epoll: &Epoll) -> io::Result<Self> {
        let path = folder.join(format!("{PREFIX}{number}"));
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::bind(&fd, &SocketAddrUnix::new(&path)?)?;
        let door = Door { fd, path };
        rustix::net::listen(&door.fd, 1)?;
        epoll.add(&door.fd, token, Interest::Read)?;
        Ok(door)
    }

    /// What the DEALER connects to.
    pub fn endpoint(&self) -> String {
        format!("ipc://{}", self.path.display())
    }

    /// The DEALER's connection, if it has come.
    pub fn accept(&self) -> io::Result<Option<OwnedFd>> {
        loop {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let fd = match rustix::net::accept_with(&self.fd, flags) {
                Ok(fd) => fd,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(error) => return Err(error.into()),
            };
            // The folder keeps other users out; this keeps out whoever can read a path.
            let peer = sockopt::socket_peercred(&fd)?;
            if peer.pid == rustix::process::getpid() {
                wire::set_up_local(fd.as_fd());
                return Ok(Some(fd));
            }
            log::warn!(
                "{}: process {} is not the broker",
                self.path.display(),
                peer.pid
            );
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
