//! Waking a thread that waits in [`poll`](super::poll()).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

/// A descriptor that another thread, or a signal handler's thread, makes readable.
///
/// Wakes add up: any number of them before a [`drain`](Self::drain) count as one.
#[derive(Debug, Clone)]
pub struct Wake(Arc<OwnedFd>);

impl Wake {
    /// A wake-up that has not been used.
    ///
    /// # Errors
    /// The system's, when no descriptor is left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?)))
    }

    /// Makes the descriptor readable. Never blocks.
    pub fn wake(&self) {
        // Full means that 2^64 - 2 wakes are pending, which wakes as well as one more.
        while rustix::io::write(&*self.0, &1u64.to_ne_bytes()) == Err(Errno::INTR) {}
    }

    /// Makes it unreadable again; true if it had been woken.
    pub fn drain(&self) -> bool {
        let mut count = [0u8; 8];
        loop {
            match rustix::io::read(&*self.0, &mut count) {
                Ok(_) => return true,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    /// The descriptor to poll for reading.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
