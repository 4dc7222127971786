//! Calls that take longer than expected, and the recall of what is parked behind them.

use crate::event::WorkerKind;
use crate::probation::PROBATION_MIN_US;
use crate::rank::DEEP_US;
use crate::route::is_addressed;
use crate::slot::{Dispatched, DispatchedState, Slot};
use crate::timer::Due;
use crate::{Action, Core, MonoTime, Reply, Request, SlotId};
use muster_proto::id::DispatchId;

/// A running call has overrun after this many times its estimate,
const OVERRUN_FACTOR: u64 = 4;
/// and not before this long: shorter hiccups are the scheduler's.
const OVERRUN_MIN_US: u64 = 2_000;
/// Nor before this many times what all the calls on its slot take together: a slot that has enough
/// to do sends the answers of short ones in one message, and until then seems to run the first.
const BACKLOG_FACTOR: u64 = 2;
/// What a call costs its slot beside the function's own time, which is all that estimates know.
const HANDLING_US: u64 = 20;

impl<Q: Request, R: Reply> Core<Q, R> {
    /// Sees to it that an overrun of the slot's running call is noticed.
    pub(crate) fn watch_overrun(&mut self, slot_id: SlotId) {
        let slot = self.slots.get_mut(&slot_id).expect("the caller holds it");
        if slot.is_overrun {
            return;
        }
        // A timer that goes off early finds out and is armed anew: cheaper than moving it with
        // every answer. One that would go off late has to be moved.
        if let Some(at) = overrun_at(slot).filter(|&at| at < slot.overrun_timer) {
            self.timers
                .disarm(slot.overrun_timer, Due::Overrun(slot_id));
            slot.overrun_timer = at;
            self.timers.arm(at, Due::Overrun(slot_id));
        }
    }

    /// The timer of a slot went off: its running call has overrun, or an earlier one would have.
    pub(crate) fn overrun_due(&mut self, slot_id: SlotId) {
        let Some(slot) = self.slots.get_mut(&slot_id) else {
            return;
        };
        slot.overrun_timer = MonoTime::NEVER;
        match overrun_at(slot) {
            None => {}
            Some(at) if at > self.now => self.watch_overrun(slot_id),
            Some(_) => {
                slot.is_overrun = true;
                self.rank(slot_id);
                self.recall_parked(slot_id);
                self.doubt_fresh(slot_id);
            }
        }
    }

    fn recall_parked(&mut self, slot_id: SlotId) {
        let slot = self.slots.get_mut(&slot_id).expect("the caller holds it");
        if slot.kind != WorkerKind::Managed {
            return;
        }
        for parked in slot.in_flight.iter_mut().skip(1) {
            if parked.state == DispatchedState::Open {
                parked.state = DispatchedState::Recalled;
                let dispatch = DispatchId {
                    epoch: self.config.epoch,
                    call: parked.call,
                    attempt: parked.attempt,
                };
                self.actions.push_back(Action::Recall {
                    slot: slot_id,
                    seq: parked.seq,
                    dispatch,
                });
            }
        }
    }

    /// An idle slot without work asks for the last call parked on the slot of its group that is
    /// expected to be busy the longest.
    pub(crate) fn recall_for_idle(&mut self, slot_id: SlotId) {
        let group = &self.groups[self.slots[&slot_id].group];
        let Some(&(free_at, deep)) = group.deep.last() else {
            return;
        };
        let slot = self.slots.get_mut(&deep).expect("a deep slot exists");
        let Some(parked) = slot.in_flight.iter_mut().skip(1).next_back() else {
            return;
        };
        // Its bytes would have to travel once more.
        let worth_us = DEEP_US + 2 * u64::from(parked.transit_us);
        if free_at.micros_since(self.now) < worth_us {
            return;
        }
        if parked.state != DispatchedState::Open || is_addressed(&self.classes[parked.class].target)
        {
            return;
        }
        parked.state = DispatchedState::Recalled;
        let epoch = self.config.epoch;
        let dispatch = DispatchId {
            epoch,
            call: parked.call,
            attempt: parked.attempt,
        };
        self.actions.push_back(Action::Recall {
            slot: deep,
            seq: parked.seq,
            dispatch,
        });
    }

    /// A worker says what became of a recalled call.
    pub(crate) fn recalled(&mut self, slot_id: SlotId, dispatch: DispatchId, given_back: bool) {
        let Some(slot) = self.slots.get_mut(&slot_id) else {
            return;
        };
        // Nobody asked for an open one: it may be running.
        let held = |d: &Dispatched| {
            d.call == dispatch.call
                && d.attempt == dispatch.attempt
                && matches!(
                    d.state,
                    DispatchedState::Recalled | DispatchedState::Abandoned
                )
        };
        let at = slot.in_flight.iter().position(held);
        let Some(at) = at.filter(|_| dispatch.epoch == self.config.epoch) else {
            // That it was too late is no news when its answer overtook the word of it.
            self.totals.fenced += u64::from(given_back);
            return;
        };
        if !given_back {
            if slot.in_flight[at].state == DispatchedState::Recalled {
                slot.in_flight[at].state = DispatchedState::Open;
            }
            return;
        }
        let taken = slot.take(at, self.now);
        self.rank(slot_id);
        if taken.state == DispatchedState::Recalled {
            self.totals.recalled += 1;
            if let Some(call) = self.calls.get_mut(taken.call) {
                call.returns = call.returns.saturating_add(1);
            }
            self.enqueue(taken.call);
            // The slot it comes from is fed last, or it would have it back at once.
            self.offer(taken.class);
        }
        self.feed(slot_id);
        self.watch_overrun(slot_id);
    }
}

#[inline]
fn overrun_at(slot: &Slot) -> Option<MonoTime> {
    let expected_us = slot.in_flight.front()?.occupies_us()?;
    let min_us = match slot.is_on_probation {
        true => PROBATION_MIN_US,
        false => OVERRUN_MIN_US,
    };
    let handling_us = HANDLING_US * slot.in_flight.len() as u64;
    let alone_us = OVERRUN_FACTOR.saturating_mul(expected_us);
    let together_us = BACKLOG_FACTOR.saturating_mul(slot.backlog_us.saturating_add(handling_us));
    let patience_us = alone_us.max(together_us).max(min_us);
    Some(slot.since.after_micros(patience_us))
}
