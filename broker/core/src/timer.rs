//! What is due when.

use crate::time::MonoTime;
use crate::{ClientId, SlotId, WorkerId};
use muster_proto::id::CallId;
use std::collections::BTreeSet;

/// What a point in time is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// A call's deadline.
    Deadline(CallId),
    /// A retried call may be queued again.
    Retry(CallId),
    /// A lost call waits for word of how its child ended, and no longer.
    Obituary(CallId),
    /// A slot's running call may have overrun its estimate.
    Overrun(SlotId),
    /// A worker may have missed its heartbeats.
    Heartbeat(WorkerId),
    /// A gone client's keyed calls are given up.
    Orphans(ClientId),
    /// The oldest kept answer may be forgotten.
    KeptAnswers,
    /// Calls that wait for a first worker are refused.
    Settle,
    /// The drain's grace is over.
    Grace,
}

/// Points in time with what is due then, earliest first.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeSet<(MonoTime, Due)>,
    /// The first of them, which every event asks for.
    next: Option<MonoTime>,
}

impl Timers {
    #[inline]
    pub(crate) fn arm(&mut self, at: MonoTime, due: Due) {
        if at != MonoTime::NEVER {
            self.due.insert((at, due));
            self.next = Some(self.next.map_or(at, |next| next.min(at)));
        }
    }

    #[inline]
    pub(crate) fn disarm(&mut self, at: MonoTime, due: Due) {
        if at != MonoTime::NEVER && self.due.remove(&(at, due)) && self.next == Some(at) {
            self.next = self.due.first().map(|&(at, _)| at);
        }
    }

    /// How many are armed.
    pub(crate) fn len(&self) -> usize {
        self.due.len()
    }

    /// How many gone clients are waited for.
    pub(crate) fn orphans(&self) -> usize {
        let is_client = |(_, due): &&(MonoTime, Due)| matches!(due, Due::Orphans(_));
        self.due.iter().filter(is_client).count()
    }

    /// Whether this is armed for then.
    pub(crate) fn has(&self, at: MonoTime, due: Due) -> bool {
        at == MonoTime::NEVER || self.due.contains(&(at, due))
    }

    #[inline]
    pub(crate) fn next(&self) -> Option<MonoTime> {
        self.next
    }

    /// Takes what is due at `now` or before.
    #[inline]
    pub(crate) fn pop(&mut self, now: MonoTime) -> Option<Due> {
        if self.next? > now {
            return None;
        }
        let (_, due) = self.due.pop_first()?;
        self.next = self.due.first().map(|&(at, _)| at);
        Some(due)
    }
}
