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
    /// More of a gone client's calls are to be given up.
    Leaving(ClientId),
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
        let is_client =
            |(_, due): &&(MonoTime, Due)| matches!(due, Due::Orphans(_) | Due::Leaving(_));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: u64) -> MonoTime {
        MonoTime::from_micros(us)
    }

    #[test]
    fn what_is_due_comes_earliest_first_and_not_before_its_time() {
        let mut timers = Timers::default();
        assert_eq!((timers.next(), timers.pop(at(9))), (None, None));
        timers.arm(at(5), Due::Deadline(CallId(2)));
        timers.arm(at(3), Due::Settle);
        timers.arm(at(5), Due::Deadline(CallId(1)));
        assert_eq!(timers.next(), Some(at(3)));
        assert_eq!(timers.pop(at(2)), None);
        assert_eq!(timers.pop(at(5)), Some(Due::Settle));
        assert_eq!(timers.next(), Some(at(5)));
        assert_eq!(timers.pop(at(5)), Some(Due::Deadline(CallId(1))));
        assert_eq!(timers.pop(at(5)), Some(Due::Deadline(CallId(2))));
        assert_eq!((timers.next(), timers.pop(at(9))), (None, None));
    }

    #[test]
    fn a_disarmed_timer_does_not_go_off_and_the_next_is_known() {
        let mut timers = Timers::default();
        timers.arm(at(3), Due::Settle);
        timers.arm(at(4), Due::Grace);
        timers.disarm(at(3), Due::Grace);
        assert_eq!(timers.next(), Some(at(3)), "another one");
        timers.disarm(at(3), Due::Settle);
        assert_eq!((timers.next(), timers.len()), (Some(at(4)), 1));
        assert!(timers.has(at(4), Due::Grace) && !timers.has(at(3), Due::Settle));
        timers.disarm(at(4), Due::Grace);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn never_is_not_waited_for() {
        let mut timers = Timers::default();
        timers.arm(MonoTime::NEVER, Due::Settle);
        timers.disarm(MonoTime::NEVER, Due::Settle);
        assert_eq!((timers.next(), timers.len()), (None, 0));
        assert!(timers.has(MonoTime::NEVER, Due::Settle));
    }
}
