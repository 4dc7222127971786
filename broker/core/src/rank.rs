//! Where slots stand: who has credit, and who has so much parked that an idle one should help.

use crate::event::WorkerKind;
use crate::group::Rank;
use crate::{Core, Reply, Request, SlotId};

/// An idle slot takes parked calls back from one expected to be busy for longer than this.
pub(crate) const DEEP_US: u64 = 1_000;

impl<Q: Request, R: Reply> Core<Q, R> {
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
            || slot.backlog_us > self.parked_us_max()
            || slot.in_flight.len() >= calls_max;
        (!is_full).then(|| Rank {
            is_busy: true,
            at: slot.free_at(),
            slot: slot_id,
        })
    }

    /// Up to this backlog a busy slot has credit, and up to this length a call is parked behind
    /// others: together they stay within the window.
    pub(crate) fn parked_us_max(&self) -> u64 {
        u64::try_from(self.config.window.as_micros() / 2).unwrap_or(u64::MAX)
    }
}
