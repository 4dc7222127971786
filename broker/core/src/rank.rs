//! Where slots stand: who has credit, and who has so much parked that an idle one should help.

use crate::event::WorkerKind;
use crate::group::Rank;
use crate::slot::Slot;
use crate::{Config, Core, Reply, Request, SlotId};

/// An idle slot takes parked calls back from one expected to be busy for longer than this.
pub(crate) const DEEP_US: u64 = 1_000;

/// What every look at a slot asks of the configuration, worked out once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Up to this backlog a busy slot has credit, and up to this length a call is parked behind
    /// others: together they stay within the window.
    pub parked_us_max: u64,
    slot_calls_max: usize,
    lane_calls_max: usize,
}

impl Limits {
    pub fn new(config: &Config) -> Self {
        let half = config.window.as_micros() / 2;
        Limits {
            parked_us_max: u64::try_from(half).unwrap_or(u64::MAX),
            slot_calls_max: config.slot_calls_max,
            lane_calls_max: config.lane_calls_max,
        }
    }
}

impl Slot {
    /// Where the slot stands now, if it has credit.
    #[inline]
    pub fn rank_now(&self, id: SlotId, limits: &Limits) -> Option<Rank> {
        if self.is_down || self.is_leaving || self.nest.is_some() {
            return None;
        }
        let Some(front) = self.in_flight.front() else {
            return Some(Rank::idle(id, self.since));
        };
        let calls_max = match self.kind {
            WorkerKind::Managed => limits.slot_calls_max,
            WorkerKind::Lane => limits.lane_calls_max,
        };
        let is_full = self.is_exclusive
            || self.is_on_probation
            || self.is_overrun
            || front.expected_us.is_none()
            || self.backlog_us > limits.parked_us_max
            || self.in_flight.len() >= calls_max;
        (!is_full).then(|| Rank::busy(id, self.free_at()))
    }
}

impl<Q: Request, R: Reply> Core<Q, R> {
    /// Places a slot in its group by what it can take.
    pub(crate) fn rank(&mut self, slot_id: SlotId) -> &Slot {
        let slot = self.slots.get_mut(&slot_id).expect("the caller holds it");
        let rank = slot.rank_now(slot_id, &self.limits);
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
        slot
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
}
