//! Waiting for many descriptors at a cost that does not grow with the idle ones.
//!
//! Edge-triggered: an event tells that something changed, once. Whoever uses it goes on until the
//! descriptor would block, or remembers that it did not get that far.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

/// Events taken in one wait.
const BATCH_MAX: usize = 256;

/// The kernel's queue of descriptors that changed.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

/// What a descriptor is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Something to read.
    Read,
    /// That, and room to write. Costs a wake-up for whatever the other end takes, so only for who
    /// has found none.
    ReadWrite,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The number that the descriptor was added with.
    pub token: u64,
    /// There may be something to read, an end or an error included.
    pub readable: bool,
    /// There may be room to write, or an error.
    pub writable: bool,
    /// The other end has gone, or will send no more.
    pub closed: bool,
}

/// The changes of one wait, kept between waits for their memory.
#[derive(Default)]
pub struct Changes(Vec<epoll::Event>);

impl Changes {
    /// Each change.
    pub fn iter(&self) -> impl Iterator<Item = Change> {
        self.0.iter().map(|event| {
            let flags = event.flags;
            let broken = EventFlags::HUP | EventFlags::ERR;
            let closed = flags.intersects(broken | EventFlags::RDHUP);
            Change {
                token: event.data.u64(),
                readable: closed || flags.contains(EventFlags::IN),
                writable: flags.intersects(EventFlags::OUT | broken),
                closed,
            }
        })
    }

    /// Whether more changes may be waiting behind these.
    pub fn is_full(&self) -> bool {
        self.0.len() >= BATCH_MAX
    }
}

impl Epoll {
    /// An empty queue.
    ///
    /// # Errors
    /// The system's, when no descriptor is left.
    pub fn new() -> io::Result<Self> {
        Ok(Epoll(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Watches a descriptor until it is closed.
    ///
    /// # Errors
    /// The system's, when it is out of watches.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(
            &self.0,
            fd,
            EventData::new_u64(token),
            flags(interest),
        )?)
    }

    /// Watches it for something else, and tells at once what is there already.
    ///
    /// # Errors
    /// The system's, when the descriptor was not added.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(
            &self.0,
            fd,
            EventData::new_u64(token),
            flags(interest),
        )?)
    }

    /// Stops watching a descriptor that somebody else will close.
    ///
    /// # Errors
    /// The system's, when the descriptor was not added.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.0, fd)?)
    }

    /// Waits until something changed or the timeout has passed (`None`: for ever).
    ///
    /// # Errors
    /// The system's; a signal is none.
    pub fn wait(&self, changes: &mut Changes, timeout: Option<Duration>) -> io::Result<()> {
        changes.0.clear();
        changes.0.reserve(BATCH_MAX);
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs().min(1 << 30) as i64,
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let room = rustix::buffer::spare_capacity(&mut changes.0);
        match epoll::wait(&self.0, room, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn flags(interest: Interest) -> EventFlags {
    let read = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
    match interest {
        Interest::Read => read,
        Interest::ReadWrite => read | EventFlags::OUT,
    }
}
