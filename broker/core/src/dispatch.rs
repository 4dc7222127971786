//! Handing calls to slots: to the one expected to be free first, ties to the longest idle.
//!
//! An idle slot takes anything. A busy one is given more only while everything on it is known to
//! be short and its expected backlog stays under a small window, so that a no-op is pipelined and
//! a long call never has another stuck behind it. And a busy slot is given only the class whose
//! turn it is: when that one needs an idle slot, slots run dry until one of them is idle. Else a
//! flood of short calls would keep every slot busy for ever.

use crate::call::{Call, CallState};
use crate::class::ClassId;
use crate::event::WorkerKind;
use crate::group::{GroupId, Rank};
use crate::note::Note;
use crate::refusal::can_run;
use crate::slot::{Dispatched, DispatchedState, Slot};
use crate::transit::Transit;
use crate::{Action, Core, MonoTime, Reply, Request, SlotId};
use muster_proto::id::{CallId, DispatchId};

/// A call expected to take this long is handed over at once, with everything before it.
const LONG_CALL_US: u64 = 1_000;

/// A call that came back unstarted so often is not parked again: to move it on and on costs more
/// than to wait for an idle slot.
const RETURNS_MAX: u8 = 2;

/// What a call asks of a slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    /// Nothing else may be on the slot.
    pub idle: bool,
    /// What it is expected to take.
    pub expected_us: Option<u64>,
}

impl<Q: Request, R: Reply> Core<Q, R> {
    /// Dispatches an admitted call, or queues it behind those of its class.
    pub(crate) fn start_or_queue(&mut self, id: CallId) {
        let call = self.calls.get(id).expect("the caller holds it");
        let class = call.class;
        if self.classes[class].queue.is_empty() {
            let need = self.need_of(call);
            if let Some(slot) = self.pick(class, need) {
                let cost = cost_of(need, call.items);
                self.charge_class(class, slot, self.present(class), cost);
                self.dispatch(slot, id, need);
                self.rank(slot);
                return;
            }
        }
        self.enqueue(id);
    }

    /// The first call of these classes is another one, and may be one that busy slots can take,
    /// or makes room for such a one of another class.
    pub(crate) fn settle_stirred(&mut self) {
        while let Some(slot) = self.unfed.pop() {
            if self.slots.contains_key(&slot) {
                self.feed(slot);
            }
        }
        while let Some(class) = self.stirred.pop() {
            if self.classes.get(class).is_none() {
                continue;
            }
            self.offer(class);
            for at in 0..self.classes[class].groups.len() {
                let group = self.classes[class].groups[at];
                self.fill(group);
            }
        }
    }

    /// Gives waiting calls of a class to the slots that can take them.
    pub(crate) fn offer(&mut self, class: ClassId) {
        while let Some(call) = self.classes[class].queue.first() {
            let Some(slot) = self.pick(class, self.need_of_queued(call)) else {
                return;
            };
            self.take_and_dispatch(class, slot);
            self.rank(slot);
        }
    }

    /// Gives a slot that has credit what it can take, and places it anew in its group.
    pub(crate) fn feed(&mut self, slot_id: SlotId) {
        while let Some(class) = self.next_class_for(slot_id) {
            self.take_and_dispatch(class, slot_id);
        }
        let slot = self.rank(slot_id);
        if !slot.is_idle() {
            return;
        }
        match (slot.nest, slot.rank) {
            (Some(nest), _) => self.stirred_nests.push(nest),
            (None, Some(_)) => self.recall_for_idle(slot_id),
            (None, None) => {}
        }
    }

    /// Gives the slots of a group what they can take.
    pub(crate) fn fill(&mut self, group: GroupId) {
        loop {
            let held = &self.groups[group];
            // Slots of one group can run the same, but for what lanes refused and what is
            // addressed to their workers: where the first can take nothing, none can.
            let is_uniform = held.kind == WorkerKind::Managed && self.addressed_waiting == 0;
            let looked_at = if is_uniform { 1 } else { usize::MAX };
            let mut ready = held.ready.iter().take(looked_at);
            let found = ready.find_map(|rank| Some((rank.slot, self.next_class_for(rank.slot)?)));
            let Some((slot, class)) = found else {
                return;
            };
            self.take_and_dispatch(class, slot);
            self.rank(slot);
        }
    }

    /// Gives a slot the first call of a class. The caller places the slot anew.
    fn take_and_dispatch(&mut self, class_id: ClassId, slot: SlotId) {
        let queue = &self.classes[class_id].queue;
        let id = queue.first().expect("the caller saw a waiting call");
        let call = self.calls.get(id).expect("a queued call is held");
        if self.is_abandoned(call) {
            self.give_up(id);
            return;
        }
        let need = self.need_of(call);
        let (cost, bytes) = (cost_of(need, call.items), call.bytes as usize);
        if let Some(nested) = call.nested() {
            self.leave_nest(id, class_id, nested);
        }
        self.unlist(class_id);
        self.classes[class_id].queue.pop(cost);
        // Charged from where it stood, not from the present, else it would pay for its wait.
        self.charge_class(class_id, slot, self.classes[class_id].served, cost);
        self.list(class_id);
        self.queued_calls -= 1;
        self.queued_bytes -= bytes;
        self.dispatch(slot, id, need);
        if need.idle {
            // Busy slots were kept from what comes next.
            self.stirred.push(class_id);
        }
    }

    /// Gives the slot of a nest, which is idle, a waiting call that was made inside it.
    pub(crate) fn run_nested(&mut self, slot: SlotId, id: CallId) {
        let call = self.calls.get(id).expect("a waiting call is held");
        if self.is_abandoned(call) {
            self.give_up(id);
            return;
        }
        let need = self.need_of(call);
        self.dequeue(id);
        self.dispatch(slot, id, need);
    }

    /// Books the service that a class is given.
    fn charge_class(&mut self, class: ClassId, slot: SlotId, start: u64, cost: u64) {
        let clock = &mut self.groups[self.slots[&slot].group].clock;
        *clock = start.max(*clock);
        self.classes[class].served = start.saturating_add(cost);
    }

    /// The virtual time at which a class stands, or would stand if it began to wait now.
    pub(crate) fn present(&self, class: ClassId) -> u64 {
        let class = &self.classes[class];
        let clocks = class.groups.iter().map(|&group| self.groups[group].clock);
        clocks.fold(class.served, u64::max)
    }

    /// The class whose turn it is among those that the slot can run, if it can take a call now.
    fn next_class_for(&self, slot_id: SlotId) -> Option<ClassId> {
        let slot = &self.slots[&slot_id];
        let (_, class) = self.turn_on(slot_id, slot)?;
        let rank = slot.rank_now(slot_id, &self.limits)?;
        let can_take = !rank.is_busy() || {
            let call = self.classes[class].queue.first()?;
            !self.need_of_queued(call).idle
        };
        can_take.then_some(class)
    }

    /// The class whose turn it is among those that the slot can run.
    fn turn_on(&self, slot_id: SlotId, slot: &Slot) -> Option<(u64, ClassId)> {
        let waiting = &self.groups[slot.group].waiting;
        let anybodys = match slot.kind {
            WorkerKind::Managed => waiting.first(),
            WorkerKind::Lane => waiting
                .iter()
                .find(|(_, class)| can_run(&self.classes[*class], slot_id, slot)),
        };
        let turn = anybodys.copied();
        if self.addressed_waiting == 0 {
            return turn;
        }
        let name = self.workers[&slot.worker].spec.name.as_str();
        let own = self.addressed.get(name).and_then(|addressed| {
            let mut waiting = addressed.waiting.iter();
            waiting.find(|(_, class)| {
                let class = &self.classes[*class];
                class.groups.contains(&slot.group) && can_run(class, slot_id, slot)
            })
        });
        turn.into_iter().chain(own.copied()).min()
    }

    /// The slot for a call of `class`, if one has credit for it.
    fn pick(&self, class_id: ClassId, need: Need) -> Option<SlotId> {
        let class = &self.classes[class_id];
        let turn = || (self.present(class_id), class_id);
        let fits = |rank: &&Rank| {
            let slot = &self.slots[&rank.slot];
            if !can_run(class, rank.slot, slot) {
                return false;
            }
            if !rank.is_busy() {
                return true;
            }
            let is_its_turn = || {
                let first = self.turn_on(rank.slot, slot);
                first.is_none_or(|first| first.1 == class_id || turn() <= first)
            };
            !need.idle && is_its_turn()
        };
        if let Some(worker) = class.target.worker() {
            if class.groups.is_empty() {
                return None;
            }
            let worker = self.workers.get(self.worker_names.get(worker)?)?;
            let slots = worker.slots.values();
            let ranks = slots.filter_map(|slot| self.slots[slot].rank.as_ref());
            return ranks.filter(fits).min().map(|rank| rank.slot);
        }
        if let ([group], 0) = (&class.groups[..], self.addressed_waiting) {
            let group = &self.groups[*group];
            if group.kind == WorkerKind::Managed {
                // The most travelled path: all slots are alike, so the first one decides.
                let is_its_turn = || {
                    let first = group.waiting.first();
                    first.is_none_or(|first| first.1 == class_id || turn() <= *first)
                };
                if let Some(slot) = self.joinable(group, need).filter(|_| is_its_turn()) {
                    return Some(slot);
                }
                let rank = group.ready.first()?;
                let can_take = !rank.is_busy() || (!need.idle && is_its_turn());
                return can_take.then_some(rank.slot);
            }
        }
        let groups = class.groups.iter();
        // Idle slots come first in a group, so a call that needs one looks no further.
        let firsts = groups.filter_map(|&group| {
            let ready = self.groups[group].ready.iter();
            ready
                .take_while(|rank| !need.idle || !rank.is_busy())
                .find(fits)
        });
        firsts.min().map(|rank| rank.slot)
    }

    /// Whether a slot could take the waiting call now.
    pub(crate) fn has_slot_for(&self, class: ClassId, call: CallId) -> bool {
        self.pick(class, self.need_of_queued(call)).is_some()
    }

    /// Whether the call of the class whose turn it is can't be parked behind others.
    pub(crate) fn first_needs_idle(&self, class: ClassId) -> bool {
        let first = self.classes[class].queue.first();
        first.is_some_and(|call| self.need_of_queued(call).idle)
    }

    /// Whether a call must never be started a second time.
    pub(crate) fn runs_once(&self, call: &Call<Q>) -> bool {
        call.once || self.classes[call.class].once
    }

    fn need_of_queued(&self, id: CallId) -> Need {
        self.need_of(self.calls.get(id).expect("a queued call is held"))
    }

    fn need_of(&self, call: &Call<Q>) -> Need {
        let expected_us = self.classes[call.class].estimate.micros(call.items);
        let occupies_us = expected_us.map(|us| us.saturating_add(Transit::local_us(call.bytes)));
        let is_long = occupies_us.is_none_or(|us| us > self.limits.parked_us_max);
        let is_restless = call.returns >= RETURNS_MAX;
        Need {
            idle: is_long || is_restless || call.alone || self.runs_once(call),
            expected_us,
        }
    }

    fn dispatch(&mut self, slot_id: SlotId, id: CallId, need: Need) {
        let call = self.calls.get_mut(id).expect("the caller holds it");
        call.state = CallState::Dispatched { slot: slot_id };
        call.dispatches += 1;
        let attempt = call.dispatches;
        let remaining = (call.deadline != MonoTime::NEVER).then(|| call.deadline.since(self.now));
        let slot = self.slots.get_mut(&slot_id).expect("a ranked slot exists");
        slot.seq = slot.seq.wrapping_add(1);
        if slot.in_flight.is_empty() {
            slot.since = self.now;
            slot.is_exclusive = need.idle;
        }
        let transit_us = match slot.kind {
            WorkerKind::Managed => slot.transit.micros(call.bytes),
            // Nobody tells a lane's service time from what its bytes take: estimates have both.
            WorkerKind::Lane => 0,
        };
        let dispatched = Dispatched {
            call: id,
            attempt,
            seq: slot.seq,
            class: call.class,
            at: self.now,
            expected_us: need.expected_us,
            items: call.items,
            transit_us,
            bytes: call.bytes,
            state: DispatchedState::Open,
        };
        let occupied_us = dispatched.occupies_us().unwrap_or(0);
        self.groups[slot.group].board(slot_id, self.turn, occupied_us);
        slot.backlog_us = slot.backlog_us.saturating_add(occupied_us);
        slot.in_flight.push_back(dispatched);
        let seq = slot.seq;
        if attempt > 1 {
            self.totals.retried += 1;
        }
        let class = call.class;
        if slot.in_flight.len() == 1 {
            self.watch_overrun(slot_id);
        }
        self.note(|core| Note::Dispatched {
            call: id,
            target: core.classes[class].target.clone(),
            attempt,
            worker: core.workers[&core.slots[&slot_id].worker].name.clone(),
            slot: slot_id,
        });
        self.actions.push_back(Action::Dispatch {
            slot: slot_id,
            dispatch: DispatchId {
                epoch: self.config.epoch,
                call: id,
                attempt,
            },
            seq,
            remaining,
            is_long: need.expected_us.is_none_or(|us| us >= LONG_CALL_US),
        });
    }
}

fn cost_of(need: Need, items: u32) -> u64 {
    need.expected_us.unwrap_or(u64::from(items)).max(1)
}
