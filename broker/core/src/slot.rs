//! Workers and their slots: room for one running call each, and what is parked behind it.

use crate::class::ClassId;
use crate::event::Ending;
use crate::event::WorkerKind;
use crate::group::{GroupId, Rank};
use crate::time::MonoTime;
use crate::transit::Transit;
use crate::{NestId, SlotId, WorkerId};
use muster_proto::id::CallId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

/// How long an unreadable or forged answer counts against a slot.
pub(crate) const STRIKES_WINDOW: Duration = Duration::from_secs(60);

/// A worker that introduced itself.
#[derive(Debug)]
pub(crate) struct Worker {
    /// The name in `spec`, shared.
    pub name: Rc<str>,
    pub spec: crate::event::WorkerSpec,
    pub group: GroupId,
    /// Its linked slots by number.
    pub slots: BTreeMap<u32, SlotId>,
    pub heard: MonoTime,
    /// Since when it may be dying: a link of its slots ended, and it has said nothing since.
    pub doubted_since: Option<MonoTime>,
    pub is_draining: bool,
    pub calls: u64,
    pub failures: u64,
    /// When the heartbeat's timer goes off.
    pub silence_timer: MonoTime,
    /// Slots by number whose link closed a moment ago, until word of their child's end comes.
    pub mourned: BTreeMap<u32, Mourned>,
    /// Word of a child's end that came before its link closed.
    pub obituaries: BTreeMap<u32, Ending>,
}

/// A slot's end that nothing is known of yet.
#[derive(Debug)]
pub(crate) struct Mourned {
    /// Later word is of its successor.
    pub until: MonoTime,
    /// The calls charged with it, and which of their attempts it was.
    pub calls: Vec<(CallId, usize)>,
}

/// A slot whose link is up.
#[derive(Debug)]
pub(crate) struct Slot {
    pub worker: WorkerId,
    pub kind: WorkerKind,
    pub group: GroupId,
    pub number: u32,
    pub pid: Option<u32>,
    /// It was opened for the calls inside this one and runs no others.
    pub nest: Option<NestId>,
    /// Its child is dead and not replaced yet.
    pub is_down: bool,
    /// Its worker takes no more calls.
    pub is_leaving: bool,
    /// Dispatched and unanswered, the running one in front.
    pub in_flight: VecDeque<Dispatched>,
    /// Since when the front runs (as far as the broker can tell), or the slot is idle.
    pub since: MonoTime,
    /// What everything in flight is expected to take, unknown ones not counted.
    pub backlog_us: u64,
    /// What bytes on their way to it take.
    pub transit: Transit,
    /// What runs must run alone: it is long, unknown, suspect or must not run twice.
    pub is_exclusive: bool,
    /// Its rank while it has credit.
    pub rank: Option<Rank>,
    /// Its place among the deep slots of its group.
    pub deep_at: Option<MonoTime>,
    /// The front took four times its estimate: no credit until it ends.
    pub is_overrun: bool,
    /// When the overrun timer is armed for.
    pub overrun_timer: MonoTime,
    /// The number of the last call given to it.
    pub seq: u32,
    pub calls: u64,
    pub failures: u64,
    /// Service time given, in microseconds.
    pub service_us: u64,
    /// Unreadable or forged answers since `struck`.
    pub strikes: u32,
    /// The first of them that still counts.
    pub struck: MonoTime,
    /// Classes whose method it said not to know.
    pub refused: BTreeSet<ClassId>,
    /// A lane that answered JSON with something else.
    pub no_json: bool,
    /// A lane that has answered nothing yet and may be busy with a call from before.
    pub is_on_probation: bool,
}

/// One call on a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dispatched {
    pub call: CallId,
    pub attempt: u32,
    pub seq: u32,
    pub class: ClassId,
    pub at: MonoTime,
    /// Service time in microseconds; `None`: unknown, and nothing is parked behind it.
    pub expected_us: Option<u64>,
    /// Items of a map chunk; 1: a plain call.
    pub items: u32,
    /// What its bytes are expected to take, on top of that.
    pub transit_us: u32,
    /// Its bytes.
    pub bytes: u32,
    pub state: DispatchedState,
}

/// What the broker waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DispatchedState {
    /// The answer.
    Open,
    /// The answer, or the call itself.
    Recalled,
    /// The answer, if it comes first: a fresh lane is slow, so the call was given to another slot,
    /// too.
    Doubted,
    /// Nothing but the slot's release: the call is resolved, or runs elsewhere.
    Abandoned,
}

impl Dispatched {
    /// For how long it keeps its slot, as far as that is known.
    #[inline]
    pub fn occupies_us(&self) -> Option<u64> {
        let service_us = self.expected_us?;
        Some(service_us.saturating_add(u64::from(self.transit_us)))
    }
}

impl DispatchedState {
    /// Whether the call is nowhere else and not resolved.
    #[inline]
    pub fn holds_call(self) -> bool {
        matches!(self, Self::Open | Self::Recalled)
    }
}

impl Slot {
    /// Notes one more unreadable or forged answer; how many there were lately.
    pub fn strike(&mut self, now: MonoTime) -> u32 {
        if self.strikes == 0 || now.since(self.struck) > STRIKES_WINDOW {
            (self.strikes, self.struck) = (0, now);
        }
        self.strikes += 1;
        self.strikes
    }

    /// Whether nothing runs or waits on it and it can be given a call.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && !self.is_down
    }

    /// When everything on it is expected to be done.
    #[inline]
    pub fn free_at(&self) -> MonoTime {
        self.since.after_micros(self.backlog_us)
    }

    /// Takes a dispatch off, wherever it stands.
    #[inline]
    pub fn take(&mut self, at: usize, now: MonoTime) -> Dispatched {
        let taken = match at {
            0 => self.in_flight.pop_front(),
            _ => self.in_flight.remove(at),
        };
        let dispatched = taken.expect("the caller found it there");
        let occupied_us = dispatched.occupies_us().unwrap_or(0);
        self.backlog_us = self.backlog_us.saturating_sub(occupied_us);
        if at == 0 {
            self.since = now;
            self.is_overrun = false;
        }
        if self.in_flight.is_empty() {
            self.is_exclusive = false;
        }
        dispatched
    }
}
