//! Which calls of a slot may start: where the slot and the control link meet.
//!
//! The broker numbers the calls it gives to a slot. A recall or a cancel names such a number, comes
//! by the control link and may overtake the call. Whoever takes the lock first decides: a number
//! that has started is too late to recall; one that has not is marked, and skipped when it comes.

use crate::cancel::CancelFlag;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The gate of one slot.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    /// Set while the running call is cancelled.
    pub cancel: CancelFlag,
}

#[derive(Debug, Default)]
struct State {
    /// The highest number that started, or was skipped.
    started: u32,
    /// The highest number that ended: calls end in the order in which they start.
    ended: u32,
    /// Numbers to come that must not run.
    withdrawn: BTreeMap<u32, Withdrawn>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Withdrawn {
    Recalled,
    Cancelled,
}

/// Whether a call may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// It runs now; [`Gate::end`] follows.
    Run,
    /// It was given back: nobody waits for an answer.
    Skip,
    /// It was cancelled: the broker waits for an answer of any kind.
    Refuse,
}

/// What a cancel met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancel {
    /// The call runs, and has been told.
    Running,
    /// It has not started and will not.
    Prevented,
    /// It has ended.
    TooLate,
}

impl Gate {
    /// The call with this number is next.
    pub fn start(&self, seq: u32) -> Start {
        let mut state = self.lock();
        if state.ended == state.started {
            self.cancel.clear();
        }
        state.started = state.started.max(seq);
        if state.withdrawn.is_empty() {
            return Start::Run;
        }
        // Those before it will not come any more.
        state.withdrawn = state.withdrawn.split_off(&seq);
        let withdrawn = state.withdrawn.remove(&seq);
        match withdrawn {
            None => Start::Run,
            Some(reason) => {
                if state.ended + 1 == seq {
                    state.ended = seq;
                }
                if reason == Withdrawn::Recalled {
                    Start::Skip
                } else {
                    Start::Refuse
                }
            }
        }
    }

    /// The call with this number, which had started, has ended.
    pub fn end(&self, seq: u32) {
        let mut state = self.lock();
        state.ended = state.ended.max(seq);
    }

    /// Gives a call back to the broker; false when it is too late.
    pub fn recall(&self, seq: u32) -> bool {
        let mut state = self.lock();
        if seq <= state.started {
            return false;
        }
        state.withdrawn.insert(seq, Withdrawn::Recalled);
        true
    }

    /// Cancels a call.
    pub fn cancel(&self, seq: u32) -> Cancel {
        let mut state = self.lock();
        if seq > state.started {
            state.withdrawn.insert(seq, Withdrawn::Cancelled);
            Cancel::Prevented
        } else if seq > state.ended {
            self.cancel.set();
            Cancel::Running
        } else {
            Cancel::TooLate
        }
    }

    /// Whether the call with this number runs.
    pub fn is_running(&self, seq: u32) -> bool {
        let state = self.lock();
        seq <= state.started && seq > state.ended
    }

    /// The slot joins anew: numbers start at 1 again.
    pub fn reset(&self) {
        *self.lock() = State::default();
        self.cancel.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two lines above: a panic leaves nothing half-done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_recall_that_overtakes_its_call_holds() {
        let gate = Gate::default();
        assert!(gate.recall(2));
        assert_eq!(gate.start(1), Start::Run);
        gate.end(1);
        assert_eq!(gate.start(2), Start::Skip);
        assert!(!gate.recall(2));
        assert_eq!(gate.start(3), Start::Run);
        assert!(!gate.recall(3));
    }

    #[test]
    fn a_cancel_meets_its_call_wherever_it_is() {
        let gate = Gate::default();
        assert_eq!(gate.cancel(2), Cancel::Prevented);
        assert_eq!(gate.start(1), Start::Run);
        assert_eq!(gate.cancel(1), Cancel::Running);
        assert!(gate.cancel.is_set() && gate.is_running(1));
        gate.end(1);
        assert_eq!(gate.cancel(1), Cancel::TooLate);
        assert_eq!(gate.start(2), Start::Refuse);
        assert_eq!(gate.cancel(2), Cancel::TooLate);
        assert_eq!(gate.start(3), Start::Run);
        assert!(
            !gate.cancel.is_set(),
            "the next call starts with a clear flag"
        );
    }

    #[test]
    fn a_cancel_of_one_of_several_running_calls_is_not_forgotten() {
        let gate = Gate::default();
        assert_eq!(gate.start(1), Start::Run);
        assert_eq!(gate.cancel(1), Cancel::Running);
        assert_eq!(gate.start(2), Start::Run);
        assert!(gate.cancel.is_set());
    }

    #[test]
    fn numbers_that_never_came_are_forgotten() {
        let gate = Gate::default();
        for seq in 1..=100 {
            assert!(gate.recall(seq));
        }
        assert_eq!(gate.start(101), Start::Run);
        assert!(gate.lock().withdrawn.is_empty());
        gate.reset();
        assert!(gate.recall(1));
    }

    #[test]
    fn a_call_is_either_recalled_or_run_however_they_race() {
        let gate = Arc::new(Gate::default());
        let recaller = Arc::clone(&gate);
        let count = 20_000;
        let thread = std::thread::spawn(move || {
            (1..=count)
                .rev()
                .filter(|&seq| recaller.recall(seq))
                .collect::<Vec<u32>>()
        });
        let mut ran = Vec::new();
        for seq in 1..=count {
            if gate.start(seq) == Start::Run {
                ran.push(seq);
                gate.end(seq);
            }
        }
        let mut all = thread.join().unwrap();
        all.extend(ran);
        all.sort_unstable();
        assert_eq!(all, (1..=count).collect::<Vec<u32>>());
    }
}
