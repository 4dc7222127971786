//! What the loop's half of the splice and its thread share.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Mutex, PoisonError};

use muster_proto::socket::Wake;

use super::address::Address;
use super::event::{DialId, Events, LinkId};

/// What the loop asks of the thread.
pub(super) enum Command {
    Close(LinkId),
    /// The loop has closed a connection that was handed to it.
    Release(LinkId),
    Dial {
        id: DialId,
        endpoint: String,
        address: Address,
        curve: bool,
    },
    Undial(DialId),
    Resolved {
        id: DialId,
        found: Vec<SocketAddr>,
    },
}

/// Both ways, and how much there is to do.
pub(super) struct Shared {
    pub events: Events,
    commands: Mutex<Vec<Command>>,
    /// Tells the thread of commands, and to stop.
    pub wake: Wake,
    pub is_stopped: AtomicBool,
    pub links: AtomicUsize,
    pub strangers: AtomicU64,
}

impl Shared {
    /// Nothing has happened yet.
    pub fn new() -> io::Result<Self> {
        Ok(Shared {
            events: Events::new()?,
            commands: Mutex::default(),
            wake: Wake::new()?,
            is_stopped: AtomicBool::new(false),
            links: AtomicUsize::new(0),
            strangers: AtomicU64::new(0),
        })
    }

    pub fn command(&self, command: Command) {
        // A panic elsewhere leaves a whole list behind.
        self.commands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(command);
        self.wake.wake();
    }

    pub fn take_commands(&self) -> Vec<Command> {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *commands)
    }
}
