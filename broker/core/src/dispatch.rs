//! Handing calls to slots: to the one expected to be free first, ties to the longest idle.
//!
//! An idle slot takes anything. A busy one is given more only while everything on it is known to
//! be short and its expected backlog stays under a small window, so that a no-op is pipelined and
//! a long call never has another stuck behind it.

use crate::call::CallState;
use crate::class::ClassId;
use crate::event::{Target, WorkerKind};
use crate::group::Rank;
use crate::route::is_addressed;
use crate::slot::{Dispatched, DispatchedState, Slot};
use crate::timer::Due;
use crate::{Action, Core, MonoTime, Reply, Request, SlotId};
use muster_proto::id::{CallId, DispatchId};

/// Waiting classes that a busy slot looks at for one short enough to park on it.
const PREFETCH_CLASSES_MAX: usize = 8;

/// A running call has overrun after this many times its estimate,
const OVERRUN_FACTOR: u64 = 4;
/// and not before this long: shorter hiccups are the scheduler's.
const OVERRUN_MIN_US: u64 = 2_000;

/// A call expected to take this long is handed over at once, with everything before it.
const LONG_CALL_US: u64 = 1_000;

/// An idle slot takes parked calls back from one expected to be busy for longer than this.
const DEEP_US: u64 = 1_000;

/// What a call asks of a slot.
#[derive(Clone, Copy, Debug)]
struct Need {
    /// Nothing else may be on the slot.
    idle: bool,
    /// What it is expected to take.
    expected_us: Option<u64>,
    /// The class is JSON: not for a lane that answers JSON with something else.
    json: bool,
}

impl<Q: Request, R: Reply> Core<Q, R> {
    /// Dispatches an admitted call, or queues it behind those of its class.
    pub(crate) fn start_or_queue(&mut self, id: CallId) {
        let call = self.calls.get(id).expect("the caller holds it");
        let class = call.class;
        if self.classes[class].queue.is_empty() {
            if let Some(slot) = self.pick(class, self.need_of(id)) {
                self.dispatch(slot, id);
                return;
            }
        }
        self.enqueue(id, false);
    }

    /// Queues a call: behind the others, or in front when it was started before.
    pub(crate) fn enqueue(&mut self, id: CallId, in_front: bool) {
        let call = self.calls.get_mut(id).expect("the caller holds it");
        call.state = CallState::Queued;
        self.queued_calls += 1;
        self.queued_bytes += call.bytes as usize;
        let (client, priority, class_id) = (call.client, call.priority, call.class);
        let class = &mut self.classes[class_id];
        let was_empty = class.queue.is_empty();
        if in_front {
            class.queue.push_front(client, priority, id);
        } else {
            class.queue.push_back(client, priority, id);
        }
        if was_empty {
            // A class that was away owes nothing for it and has nothing saved up.
            class.served = class.served.max(self.class_clock);
            self.list(class_id);
        }
    }

    /// Takes a waiting call out of its queue.
    pub(crate) fn dequeue(&mut self, id: CallId) {
        let call = self.calls.get(id).expect("the caller holds it");
        self.queued_calls -= 1;
        self.queued_bytes -= call.bytes as usize;
        let (client, priority, class_id) = (call.client, call.priority, call.class);
        let was_there = self.classes[class_id].queue.remove(client, priority, id);
        debug_assert!(was_there, "a queued call is in its class's queue");
        if self.classes[class_id].queue.is_empty() {
            self.unlist(class_id);
        }
    }

    /// Gives waiting calls of a class to the slots that can take them.
    pub(crate) fn offer(&mut self, class: ClassId) {
        while let Some((_, call)) = self.classes[class].queue.first() {
            let Some(slot) = self.pick(class, self.need_of(call)) else {
                return;
            };
            self.take_and_dispatch(class, slot);
        }
    }

    /// Gives a slot that has credit what it can take, and places it anew in its group.
    pub(crate) fn feed(&mut self, slot_id: SlotId) {
        self.rank(slot_id);
        while let Some(class) = self.next_class_for(slot_id) {
            self.take_and_dispatch(class, slot_id);
        }
        if self.slots[&slot_id].is_idle() && self.slots[&slot_id].rank.is_some() {
            self.recall_for_idle(slot_id);
        }
    }

    fn take_and_dispatch(&mut self, class_id: ClassId, slot: SlotId) {
        let class = &self.classes[class_id];
        let (_, call) = class.queue.first().expect("the caller saw a waiting call");
        let items = self.calls.get(call).map_or(1, |call| call.items);
        let cost = class
            .estimate
            .micros(items)
            .unwrap_or(u64::from(items))
            .max(1);
        self.unlist(class_id);
        let class = &mut self.classes[class_id];
        class.queue.pop(cost);
        self.class_clock = class.served;
        class.served = class.served.saturating_add(cost);
        self.list(class_id);
        let bytes = self.calls.get(call).map_or(0, |call| call.bytes as usize);
        self.queued_calls -= 1;
        self.queued_bytes -= bytes;
        self.dispatch(slot, call);
    }

    /// The class whose turn it is among those with a call that the slot can take now.
    fn next_class_for(&self, slot_id: SlotId) -> Option<ClassId> {
        let slot = &self.slots[&slot_id];
        let rank = slot.rank?;
        let fits = |class: ClassId| {
            let (_, call) = self.classes[class].queue.first()?;
            self.fits(class, self.need_of(call), rank, slot)
                .then_some(class)
        };
        if !self.classes_at.is_empty() {
            let name = self.workers[&slot.worker].spec.name.as_str();
            let addressed = self.classes_at.get(name).into_iter().flatten().copied();
            let here = addressed.filter(|&class| self.classes[class].groups.contains(&slot.group));
            if let Some(class) = here
                .filter_map(fits)
                .min_by_key(|&c| self.classes[c].served)
            {
                return Some(class);
            }
        }
        let waiting = self.groups[slot.group]
            .waiting
            .iter()
            .map(|&(_, class)| class);
        if rank.is_busy {
            return waiting.take(PREFETCH_CLASSES_MAX).find_map(fits);
        }
        waiting.into_iter().find_map(fits)
    }

    /// The slot for a call of `class`, if one has credit for it.
    fn pick(&self, class: ClassId, need: Need) -> Option<SlotId> {
        let fits = |rank: &Rank| {
            let slot = &self.slots[&rank.slot];
            self.fits(class, need, *rank, slot).then_some(*rank)
        };
        let target = &self.classes[class].target;
        if let Target::MethodAt { worker, .. } | Target::RawAt(worker) = target {
            if self.classes[class].groups.is_empty() {
                return None;
            }
            let worker = self.workers.get(self.worker_names.get(worker)?)?;
            let ranks = worker
                .slots
                .values()
                .filter_map(|slot| self.slots[slot].rank);
            return ranks
                .filter(|rank| fits(rank).is_some())
                .min()
                .map(|rank| rank.slot);
        }
        let groups = self.classes[class].groups.iter();
        // Idle slots come first in a group, so a call that needs one looks no further.
        let firsts = groups.filter_map(|&group| {
            let ready = self.groups[group].ready.iter();
            ready
                .take_while(|rank| !need.idle || !rank.is_busy)
                .find_map(fits)
        });
        firsts.min().map(|rank| rank.slot)
    }

    /// Whether a slot could take the waiting call now.
    pub(crate) fn has_slot_for(&self, class: ClassId, call: CallId) -> bool {
        self.pick(class, self.need_of(call)).is_some()
    }

    fn need_of(&self, id: CallId) -> Need {
        let call = self.calls.get(id).expect("a queued call is held");
        let class = &self.classes[call.class];
        let expected_us = class.estimate.micros(call.items);
        let window = self.window_us();
        let idle = call.once || call.alone || expected_us.is_none_or(|us| us > window);
        let json = matches!(class.target, Target::Method(_) | Target::MethodAt { .. });
        Need {
            idle,
            expected_us,
            json,
        }
    }

    fn fits(&self, class: ClassId, need: Need, rank: Rank, slot: &Slot) -> bool {
        let has_room = !rank.is_busy
            || (!need.idle && slot.backlog_us + need.expected_us.unwrap_or(0) <= self.window_us());
        has_room
            && !(need.json && slot.no_json)
            && (slot.kind == WorkerKind::Managed
                || !self.classes[class].refused_by.contains(&rank.slot))
    }

    fn dispatch(&mut self, slot_id: SlotId, id: CallId) {
        let need = self.need_of(id);
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
        slot.backlog_us += need.expected_us.unwrap_or(0);
        slot.in_flight.push_back(Dispatched {
            call: id,
            attempt,
            seq: slot.seq,
            class: call.class,
            at: self.now,
            expected_us: need.expected_us,
            state: DispatchedState::Open,
        });
        let seq = slot.seq;
        if attempt > 1 {
            self.totals.retried += 1;
        }
        self.rank(slot_id);
        self.watch_overrun(slot_id);
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

    /// Places a slot in its group by what it can take.
    pub(crate) fn rank(&mut self, slot_id: SlotId) {
        let rank = self.rank_of(slot_id);
        let slot = self.slots.get_mut(&slot_id).expect("the caller holds it");
        let group = &mut self.groups[slot.group];
        if rank != slot.rank {
            if let Some(old) = slot.rank {
                group.ready.remove(&old);
            }
            if let Some(new) = rank {
                group.ready.insert(new);
            }
            slot.rank = rank;
        }
        let is_deep = slot.kind == WorkerKind::Managed
            && slot.in_flight.len() > 1
            && slot.backlog_us > DEEP_US;
        let deep_at = is_deep.then(|| slot.free_at());
        if deep_at != slot.deep_at {
            if let Some(old) = slot.deep_at {
                group.deep.remove(&(old, slot_id));
            }
            if let Some(new) = deep_at {
                group.deep.insert((new, slot_id));
            }
            slot.deep_at = deep_at;
        }
    }

    /// Takes a slot out of its group's order, before it goes or changes group.
    pub(crate) fn unrank(&mut self, slot_id: SlotId) {
        let slot = self.slots.get_mut(&slot_id).expect("the caller holds it");
        let group = &mut self.groups[slot.group];
        if let Some(rank) = slot.rank.take() {
            group.ready.remove(&rank);
        }
        if let Some(at) = slot.deep_at.take() {
            group.deep.remove(&(at, slot_id));
        }
    }

    fn rank_of(&self, slot_id: SlotId) -> Option<Rank> {
        let slot = &self.slots[&slot_id];
        if slot.is_down || self.workers[&slot.worker].is_draining {
            return None;
        }
        let Some(front) = slot.in_flight.front() else {
            return Some(Rank {
                is_busy: false,
                at: slot.since,
                slot: slot_id,
            });
        };
        let calls_max = match slot.kind {
            WorkerKind::Managed => self.config.slot_calls_max,
            WorkerKind::Lane => self.config.lane_calls_max,
        };
        let is_full = slot.is_exclusive
            || slot.is_overrun
            || front.expected_us.is_none()
            || slot.backlog_us >= self.window_us()
            || slot.in_flight.len() >= calls_max;
        (!is_full).then(|| Rank {
            is_busy: true,
            at: slot.free_at(),
            slot: slot_id,
        })
    }

    fn window_us(&self) -> u64 {
        u64::try_from(self.config.window.as_micros()).unwrap_or(u64::MAX)
    }

    /// Sees to it that an overrun of the slot's running call is noticed.
    pub(crate) fn watch_overrun(&mut self, slot_id: SlotId) {
        let slot = self.slots.get_mut(&slot_id).expect("the caller holds it");
        if slot.overrun_timer != MonoTime::NEVER || slot.is_overrun {
            return;
        }
        if let Some(at) = overrun_at(slot) {
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
    fn recall_for_idle(&mut self, slot_id: SlotId) {
        let group = &self.groups[self.slots[&slot_id].group];
        let Some(&(free_at, deep)) = group.deep.last() else {
            return;
        };
        if free_at.since(self.now).as_micros() < u128::from(DEEP_US) {
            return;
        }
        let slot = self.slots.get_mut(&deep).expect("a deep slot exists");
        let Some(parked) = slot.in_flight.iter_mut().skip(1).next_back() else {
            return;
        };
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
        let Some(at) = slot
            .in_flight
            .iter()
            .position(|d| d.call == dispatch.call && d.attempt == dispatch.attempt)
        else {
            return;
        };
        if dispatch.epoch != self.config.epoch {
            return;
        }
        if !given_back {
            if slot.in_flight[at].state == DispatchedState::Recalled {
                slot.in_flight[at].state = DispatchedState::Open;
            }
            return;
        }
        let taken = slot.take(at, self.now);
        if taken.state != DispatchedState::Abandoned {
            self.totals.recalled += 1;
            self.enqueue(taken.call, true);
        }
        self.feed(slot_id);
        if taken.state != DispatchedState::Abandoned {
            self.offer(taken.class);
        }
    }
}

fn overrun_at(slot: &Slot) -> Option<MonoTime> {
    let expected_us = slot.in_flight.front()?.expected_us?;
    Some(
        slot.since
            .after_micros((OVERRUN_FACTOR * expected_us).max(OVERRUN_MIN_US)),
    )
}
