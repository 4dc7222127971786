//! Deadlines and cancellation: calls that end before their function does.

use crate::call::CallState;
use crate::event::CancelTarget;
use crate::slot::{Dispatched, DispatchedState};
use crate::{Action, Core, Failure, Outcome, Reply, Request, SlotId, WorkerKind};
use muster_proto::id::{CallId, DispatchId};

impl<Q: Request, R: Reply> Core<Q, R> {
    /// The deadline of a call passed.
    pub(crate) fn expire(&mut self, id: CallId) {
        if self.calls.get(id).is_none() {
            return;
        }
        let was_running = self.abandon(id);
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

    /// Takes a call off its slot, so that it can be finished at once: a running one is cancelled on
    /// its worker. `true`: it had been handed over.
    pub(crate) fn abandon(&mut self, id: CallId) -> bool {
        let state = self.calls.get(id).map(|call| call.state);
        let Some(CallState::Dispatched { slot: slot_id }) = state else {
            return false;
        };
        let slot = self.slots.get_mut(&slot_id);
        let slot = slot.expect("a dispatched call's slot exists");
        let holds = |d: &Dispatched| d.call == id && d.state.holds_call();
        let at = slot.in_flight.iter().position(holds);
        let at = at.expect("a dispatched call is held by its slot");
        if self.withdraw(slot_id, at) {
            return false;
        }
        let slot = self.slots.get_mut(&slot_id).expect("it was there above");
        let held = &mut slot.in_flight[at];
        // Its answer will only free the slot.
        held.state = DispatchedState::Abandoned;
        if slot.kind == WorkerKind::Managed {
            let (seq, attempt) = (held.seq, held.attempt);
            let dispatch = DispatchId {
                epoch: self.config.epoch,
                call: id,
                attempt,
            };
            self.actions.push_back(Action::Cancel {
                slot: slot_id,
                seq,
                dispatch,
            });
        }
        true
    }

    /// Undoes a dispatch that the caller has not seen yet.
    fn withdraw(&mut self, slot_id: SlotId, at: usize) -> bool {
        let held = self.slots[&slot_id].in_flight[at];
        if !self.unsend(&held) {
            return false;
        }
        let slot = self.slots.get_mut(&slot_id).expect("it was there above");
        slot.take(at, self.now);
        self.unfed.push(slot_id);
        self.rank(slot_id);
        true
    }

    /// Takes the action of a dispatch back, if the caller has not seen it yet. Once its call or its
    /// slot is gone it could not be performed any more.
    pub(crate) fn unsend(&mut self, held: &Dispatched) -> bool {
        if held.at != self.now {
            return false;
        }
        let is_it = |action: &Action<Q, R>| {
            matches!(action, Action::Dispatch { dispatch, .. }
                if dispatch.call == held.call && dispatch.attempt == held.attempt)
        };
        let pending = self.actions.iter().rposition(is_it);
        pending.is_some_and(|pending| self.actions.remove(pending).is_some())
    }
}
