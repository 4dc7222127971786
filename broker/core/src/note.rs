//! What happens, for those who watch: made only while somebody does.

use crate::action::{Action, Failure};
use crate::event::{EndReason, Reply, Request, Target};
use crate::{Core, SlotId};
use muster_proto::id::CallId;
use std::rc::Rc;
use std::time::Duration;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// A worker introduced itself.
    WorkerUp {
        /// Its name.
        worker: Rc<str>,
    },
    /// A worker takes no more calls.
    WorkerDraining {
        /// Its name.
        worker: Rc<str>,
    },
    /// A worker is gone.
    WorkerDown {
        /// Its name.
        worker: Rc<str>,
        /// How.
        reason: EndReason,
    },
    /// A call was taken on.
    Admitted {
        /// Which.
        call: CallId,
        /// Whom it is for.
        target: Rc<Target>,
    },
    /// A call was handed to a slot; a retry when `attempt` is over 1.
    Dispatched {
        /// Which.
        call: CallId,
        /// Whom it is for.
        target: Rc<Target>,
        /// Which try.
        attempt: u32,
        /// The worker's name.
        worker: Rc<str>,
        /// The slot.
        slot: SlotId,
    },
    /// A call was answered by its function.
    Answered {
        /// Which.
        call: CallId,
        /// Whom it was for.
        target: Rc<Target>,
        /// With an error.
        is_error: bool,
        /// From admission to answer.
        took: Duration,
    },
    /// A call ended otherwise, or was not taken on (then it has no id).
    Failed {
        /// Which, if it was taken on.
        call: Option<CallId>,
        /// Whom it was for.
        target: Rc<Target>,
        /// Why.
        failure: Failure,
    },
}

impl<Q: Request, R: Reply> Core<Q, R> {
    /// Whether [`Action::Note`]s are wanted.
    pub fn watch(&mut self, is_watched: bool) {
        self.is_watched = is_watched;
    }

    pub(crate) fn note(&mut self, note: impl FnOnce(&Self) -> Note) {
        if self.is_watched {
            let note = note(self);
            self.actions.push_back(Action::Note(note));
        }
    }
}
