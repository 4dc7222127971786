//! What the feeding thread and the consuming one share: how much is under way, and whether to stop.

use super::pace::Pace;
use crate::error::Error;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Requests sent and not yet consumed as outcomes, at most. One slow item in front keeps this many
/// outcomes waiting behind it.
const HELD_UNITS_MAX: usize = 1 << 16;
/// Bytes of the same.
const HELD_BYTES_MAX: usize = 64 << 20;

/// Bounds a map's memory.
pub(super) struct Flow {
    state: Mutex<State>,
    room: Condvar,
}

pub(super) struct State {
    pub(super) pace: Pace,
    /// Requests without an answer.
    pub(super) units: usize,
    /// Requests without an answer, and outcomes not yet consumed.
    held_units: usize,
    held_bytes: usize,
    /// Items taken from the source.
    pub(super) fed: u64,
    /// The source has ended.
    pub(super) is_fed: bool,
    pub(super) is_stopped: bool,
    /// Why the source ended early.
    pub(super) failure: Option<Error>,
    is_waited_for: bool,
}

impl Flow {
    pub(super) fn new(pace: Pace) -> Self {
        let state = State {
            pace,
            units: 0,
            held_units: 0,
            held_bytes: 0,
            fed: 0,
            is_fed: false,
            is_stopped: false,
            failure: None,
            is_waited_for: false,
        };
        Flow {
            state: Mutex::new(state),
            room: Condvar::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room for one more request; `None`: stop.
    pub(super) fn wait_for_room(&self) -> Option<MutexGuard<'_, State>> {
        let mut state = self.lock();
        loop {
            if state.is_stopped {
                return None;
            }
            if state.has_room() {
                return Some(state);
            }
            state.is_waited_for = true;
            state = self
                .room
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A request was answered; its outcomes wait to be consumed.
    pub(super) fn answered(&self, state: &mut State, request_bytes: usize, reply_bytes: usize) {
        state.units -= 1;
        state.held_bytes = state.held_bytes.saturating_sub(request_bytes) + reply_bytes;
        self.tell(state);
    }

    /// Outcomes were consumed.
    pub(super) fn consumed(&self, bytes: usize) {
        let mut state = self.lock();
        state.held_units = state.held_units.saturating_sub(1);
        state.held_bytes = state.held_bytes.saturating_sub(bytes);
        self.tell(&mut state);
    }

    pub(super) fn stop(&self) {
        self.lock().is_stopped = true;
        self.room.notify_all();
    }

    /// Waking costs a system call, so only a waiting feeder is woken, and only for real room.
    fn tell(&self, state: &mut State) {
        if state.is_waited_for && state.has_room() {
            state.is_waited_for = false;
            self.room.notify_all();
        }
    }
}

impl State {
    /// A request is sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.units += 1;
        self.held_units += 1;
        self.held_bytes += bytes;
    }

    /// A request was answered and became `pieces` others, each sent on its own.
    pub(super) fn replaced(&mut self, bytes: usize) {
        self.units -= 1;
        self.held_units = self.held_units.saturating_sub(1);
        self.held_bytes = self.held_bytes.saturating_sub(bytes);
    }

    fn has_room(&self) -> bool {
        self.units < self.pace.units_max()
            && self.held_units < HELD_UNITS_MAX
            && (self.held_bytes < HELD_BYTES_MAX || self.held_units == 0)
    }
}
