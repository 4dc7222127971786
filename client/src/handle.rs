//! What the callers' threads share with the transport's.

use crate::entry::Entry;
use crate::error::Error;
use crate::status::Status;
use muster_proto::limits;
use muster_proto::socket::Wake;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a caller wants of the thread.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every command is a call, and a box would be an allocation for each"
)]
pub(crate) enum Command {
    Submit(Entry),
    Cancel(u64),
    CancelGroup(u64),
    Stop,
}

/// The callers' side.
pub(crate) struct Handle {
    /// `None`: the thread has ended.
    commands: Mutex<Option<Vec<Command>>>,
    pub(crate) wake: Wake,
    is_sleeping: AtomicBool,
    next_id: AtomicU64,
    calls: AtomicUsize,
    key_prefix: String,
    presence: Mutex<Presence>,
    changed: Condvar,
}

/// What is known of the broker.
#[derive(Default)]
struct Presence {
    /// The last status, while the link is up.
    status: Option<Status>,
    /// Why there is no link, when that is known.
    reason: Option<Error>,
}

impl Handle {
    pub(crate) fn new(wake: Wake, key_prefix: String) -> Self {
        Handle {
            commands: Mutex::new(Some(Vec::new())),
            wake,
            is_sleeping: AtomicBool::new(false),
            next_id: AtomicU64::new(1),
            calls: AtomicUsize::new(0),
            key_prefix,
            presence: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Numbers for `count` calls; the first of them.
    pub(crate) fn ids(&self, count: u64) -> u64 {
        self.next_id.fetch_add(count, Ordering::Relaxed)
    }

    /// The key of the call numbered `id`: random for the client, so that nobody guesses it.
    pub(crate) fn key(&self, id: u64) -> String {
        format!("{}.{id}", self.key_prefix)
    }

    pub(crate) fn submit(&self, entry: Entry) -> Result<(), Error> {
        let max = limits::CLIENT_CALLS_MAX;
        if self.calls.fetch_add(1, Ordering::Relaxed) >= max {
            self.calls.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::TooManyCalls { max });
        }
        self.command(Command::Submit(entry))
    }

    pub(crate) fn cancel(&self, id: u64) {
        let _ = self.command(Command::Cancel(id));
    }

    pub(crate) fn cancel_group(&self, group: u64) {
        let _ = self.command(Command::CancelGroup(group));
    }

    pub(crate) fn stop(&self) {
        let _ = self.command(Command::Stop);
    }

    /// The broker's last status, if it is there.
    pub(crate) fn status(&self) -> Option<Status> {
        self.lock_presence().status.clone()
    }

    /// Waits until the broker has told its status.
    pub(crate) fn wait_for_broker(&self, timeout: Duration) -> Result<(), Option<Error>> {
        let deadline = Instant::now() + timeout;
        let mut presence = self.lock_presence();
        loop {
            if presence.status.is_some() {
                return Ok(());
            }
            if let Some(error @ (Error::KeyRefused { .. } | Error::Closed)) = &presence.reason {
                return Err(Some(error.clone()));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(presence.reason.clone());
            }
            let waited = self.changed.wait_timeout(presence, left);
            presence = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn command(&self, command: Command) -> Result<(), Error> {
        match self.lock_commands().as_mut() {
            Some(commands) => commands.push(command),
            None => return Err(Error::Closed),
        }
        // Pairs with `fall_asleep`, which says that it sleeps before it looks for commands.
        if self.is_sleeping.swap(false, Ordering::SeqCst) {
            self.wake.wake();
        }
        Ok(())
    }

    /// Gives the thread the new commands for its empty buffer.
    pub(crate) fn swap_commands(&self, buffer: &mut Vec<Command>) {
        if let Some(commands) = self.lock_commands().as_mut() {
            std::mem::swap(commands, buffer);
        }
    }

    /// The thread says that it is about to wait; false: there is something to do.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.is_sleeping.store(true, Ordering::SeqCst);
        self.lock_commands().as_ref().is_some_and(Vec::is_empty)
    }

    pub(crate) fn wake_up(&self) {
        self.is_sleeping.store(false, Ordering::SeqCst);
        self.wake.drain();
    }

    /// Takes no more commands; what was left of them.
    pub(crate) fn close(&self) -> Vec<Command> {
        let left = self.lock_commands().take().unwrap_or_default();
        self.set_presence(None, Some(Error::Closed));
        left
    }

    /// A submitted call has its outcome.
    pub(crate) fn forget(&self, entry: &Entry) {
        if !entry.is_own() {
            self.calls.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn lock_commands(&self) -> MutexGuard<'_, Option<Vec<Command>>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_presence(&self) -> MutexGuard<'_, Presence> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_presence(&self, status: Option<Status>, reason: Option<Error>) {
        *self.lock_presence() = Presence { status, reason };
        self.changed.notify_all();
    }
}
