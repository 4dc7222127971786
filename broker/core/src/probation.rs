//! Probation: a lane that has just come may be a worker that lost its connection and came back.
//!
//! Such a worker may still execute a call from before. It looks idle, and what it is given waits
//! behind that call where nobody sees it. So a fresh lane gets one call at a time, and when its
//! first one overruns, and may run twice, the next idle slot gets it, too: whoever answers first
//! is heard. Its first answer ends the probation; so does an answer to a call from before, since
//! only then does it begin with the one it was given.

use crate::call::CallState;
use crate::event::Verdict;
use crate::slot::DispatchedState;
use crate::{Core, Reply, Request, SlotId};
use muster_proto::id::CallId;

/// The first call of a fresh lane has not overrun before this long: most fresh lanes are what they
/// seem, and to run a call twice for a hiccup costs more than to wait for a moment.
pub(crate) const PROBATION_MIN_US: u64 = 100_000;

impl<Q: Request, R: Reply> Core<Q, R> {
    /// A slot's running call has overrun. On a fresh lane it may not have begun.
    pub(crate) fn doubt_fresh(&mut self, slot_id: SlotId) {
        let slot = &self.slots[&slot_id];
        let Some(front) = slot.in_flight.front().filter(|_| slot.is_on_probation) else {
            return;
        };
        let (id, class) = (front.call, front.class);
        // A call is doubled once: it may simply take longer than others.
        let may_double = front.state == DispatchedState::Open
            && self
                .calls
                .get(id)
                .is_some_and(|call| !call.alone && call.attempts_max > 1 && !self.runs_once(call));
        if !may_double {
            return;
        }
        let slot = self.slots.get_mut(&slot_id).expect("it was there above");
        slot.in_flight[0].state = DispatchedState::Doubted;
        let call = self.calls.get_mut(id).expect("it was there above");
        call.alone = true;
        self.enqueue(id);
        self.offer(class);
    }

    /// A lane answered a call from before: it begins with the one it was given only now.
    pub(crate) fn caught_up(&mut self, slot_id: SlotId) {
        let now = self.now;
        let Some(slot) = self.slots.get_mut(&slot_id) else {
            return;
        };
        if !slot.is_on_probation {
            return;
        }
        slot.is_on_probation = false;
        slot.since = now;
        slot.is_overrun = false;
        self.feed(slot_id);
        self.watch_overrun(slot_id);
    }

    /// A doubted lane answered. Whether it is the first to do so, and the answer one to keep; then
    /// the call is nowhere else any more.
    pub(crate) fn win_back(&mut self, slot_id: SlotId, id: CallId, verdict: Verdict) -> bool {
        let is_answer = matches!(verdict, Verdict::Result | Verdict::Error);
        if !is_answer || self.calls.get(id).is_none() {
            return false;
        }
        self.abandon(id);
        let call = self.calls.get_mut(id).expect("it was there above");
        if matches!(call.state, CallState::Dispatched { .. }) {
            call.state = CallState::Dispatched { slot: slot_id };
        }
        true
    }
}
