//! Short calls that leave together: what comes in one turn of the caller's loop goes to one slot,
//! as long as that is sooner than to wake another.
//!
//! Dispatches are on their way when the caller says so ([`Core::sent`]). Until then those for one
//! slot make up one message and one wake-up. An idle slot for each of a thousand tiny calls would
//! cost a thousand of both, on both sides, and every call behind them waits for that.

use crate::dispatch::Need;
use crate::group::Group;
use crate::{Core, Reply, Request, SlotId};

/// What calls that leave together take at most: about as long as it takes until a slot that slept
/// begins, on a machine that has something to do.
const TOGETHER_US_MAX: u64 = 100;
/// A longer call is worth a wake-up of its own.
const JOINING_US_MAX: u64 = 25;

/// A slot that was given something in this turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Departing {
    slot: SlotId,
    turn: u64,
    /// What it was given is expected to take.
    given_us: u64,
}

impl Group {
    /// A slot is given a call that is expected to take this long.
    #[inline]
    pub fn board(&mut self, slot: SlotId, turn: u64, expected_us: u64) {
        let before_us = match self.departing {
            Some(departing) if departing.slot == slot && departing.turn == turn => {
                departing.given_us
            }
            _ => 0,
        };
        self.departing = Some(Departing {
            slot,
            turn,
            given_us: before_us.saturating_add(expected_us),
        });
    }
}

impl<Q: Request, R: Reply> Core<Q, R> {
    /// The dispatches so far are on their way: a call from now on wakes a slot of its own.
    #[inline]
    pub fn sent(&mut self) {
        self.turn += 1;
    }

    /// The slot of the group that a call may join, if it has credit.
    #[inline]
    pub(crate) fn joinable(&self, group: &Group, need: Need) -> Option<SlotId> {
        let departing = group.departing.filter(|d| d.turn == self.turn)?;
        let expected_us = need.expected_us.filter(|&us| us <= JOINING_US_MAX)?;
        if need.idle || departing.given_us.saturating_add(expected_us) > TOGETHER_US_MAX {
            return None;
        }
        let rank = self.slots.get(&departing.slot)?.rank?;
        Some(rank.slot)
    }
}
