//! Deadlines and cancellation: calls that end before their function does.

use crate::call::CallState;
use crate::event::CancelTarget;
use crate::slot::DispatchedState;
use crate::{Action, Core, Failure, Outcome, Reply, Request, SlotId, WorkerKind};
use muster_proto::id::{CallId, DispatchId};

impl<Q: Request, R: Reply> Core<Q, R> {
    /// The deadline of a call passed.
    pub(crate) fn expire(&mut self, id: CallId) {
        let Some(call) = self.calls.get(id) else {
            return;
        };
        let was_running = matches!(call.state, CallState::Dispatched { .. });
        self.abandon(id);
        self.finish(
            id,
            Outcome::Failed(Failure::DeadlineExceeded { was_running }),
        );
    }

    /// Somebody cancels a call, or the one with a key.
    pub(crate) fn cancel(&mut self, target: &CancelTarget, by: Box<str>) {
        let id = match target {
            CancelTarget::Call(id) => Some(*id),
            CancelTarget::Key(key) => self.keys.live(key),
        };
        if let Some(id) = id.filter(|&id| self.calls.get(id).is_some()) {
            self.abandon(id);
            self.finish(id, Outcome::Failed(Failure::Cancelled { by }));
        }
    }

    /// Leaves a dispatch to its slot: its answer will only free the slot.
    pub(crate) fn abandon_dispatch(&mut self, slot_id: SlotId, call: CallId) {
        let Some(slot) = self.slots.get_mut(&slot_id) else {
            return;
        };
        let Some(held) = slot
            .in_flight
            .iter_mut()
            .find(|d| d.call == call && d.state != DispatchedState::Abandoned)
        else {
            return;
        };
        held.state = DispatchedState::Abandoned;
        if slot.kind == WorkerKind::Managed {
            let (seq, attempt) = (held.seq, held.attempt);
            let dispatch = DispatchId {
                epoch: self.config.epoch,
                call,
                attempt,
            };
            self.actions.push_back(Action::Cancel {
                slot: slot_id,
                seq,
                dispatch,
            });
        }
    }
}
