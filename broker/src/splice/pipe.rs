//! Moving bytes between two sockets inside the kernel.
//!
//! `splice(2)` moves references to the kernel's own pages through a pipe, so that the bytes of a
//! large frame are copied neither into this process nor out of it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// What a pipe may hold: the most that a process without privileges can have.
const PIPE_BYTES: usize = 1 << 20;

/// An empty pipe, or one that a flow holds because its sink is full.
#[derive(Debug)]
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    pub fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Over the user's share of pipe memory the kernel refuses; a small pipe works, too.
        let _ = fcntl_setpipe_size(&write, PIPE_BYTES);
        Ok(Pipe { read, write })
    }

    /// Moves up to `max` bytes from a socket into the empty pipe; 0: the socket has ended.
    pub fn fill(&self, source: impl AsFd, max: usize) -> io::Result<usize> {
        transfer(source, &self.write, max.min(PIPE_BYTES))
    }

    /// Moves up to `count` bytes out of the pipe into a socket.
    pub fn pour(&self, sink: impl AsFd, count: usize) -> io::Result<usize> {
        transfer(&self.read, sink, count)
    }
}

/// Writing to a socket that has ended raises SIGPIPE here, which every Rust program ignores.
fn transfer(from: impl AsFd, to: impl AsFd, max: usize) -> io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    loop {
        match splice(&from, None, &to, None, max, flags) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}
