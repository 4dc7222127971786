//! The loop's own time: whose PING is due, and on whom judgement is due.
//!
//! Counted in ticks. However late one comes it is one, so that what passed while the whole process
//! was frozen is nobody's silence.

use crate::splice::{LinkId, TICK};
use muster_core::MonoTime;
use std::collections::VecDeque;

/// A line whose peer answers PINGs is sent one so often.
const PING_TICKS: u64 = 4;

/// Ticks, while there are lines that depend on them.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    tick: u64,
    next: Option<MonoTime>,
    /// When the next PING of each line is due, the next one first.
    pings: VecDeque<(u64, LinkId)>,
    /// Lines that time may end.
    watched: Vec<LinkId>,
}

impl Pulse {
    /// The present, in ticks.
    pub fn tick(&self) -> u64 {
        self.tick
    }

    /// When the next tick is due.
    pub fn next(&self) -> Option<MonoTime> {
        self.next
    }

    /// From here on a line is sent PINGs.
    pub fn ping(&mut self, link: LinkId, now: MonoTime) {
        self.pings.push_back((self.tick + PING_TICKS, link));
        self.next.get_or_insert(now.after(TICK));
    }

    /// A line is to be judged at the next tick.
    pub fn watch(&mut self, link: LinkId) {
        self.watched.push(link);
    }

    /// Begins a tick. Gives the lines to be judged, which are watched no more.
    pub fn beat(&mut self) -> Vec<LinkId> {
        self.tick += 1;
        std::mem::take(&mut self.watched)
    }

    /// The next line whose PING is due; one that is still there is to be [pinged](Self::ping) again.
    pub fn next_ping(&mut self) -> Option<LinkId> {
        let &(due, link) = self.pings.front()?;
        if due > self.tick {
            return None;
        }
        self.pings.pop_front();
        Some(link)
    }

    /// Ends a tick.
    pub fn rest(&mut self, now: MonoTime) {
        let is_needed = !self.pings.is_empty() || !self.watched.is_empty();
        self.next = is_needed.then(|| now.after(TICK));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: MonoTime = MonoTime::ZERO;

    #[test]
    fn each_line_is_pinged_every_second_and_time_stands_when_there_is_none() {
        let mut pulse = Pulse::default();
        assert_eq!(pulse.next(), None);
        let [first, second] = [1, 2].map(LinkId::of_token);
        let mut pinged = Vec::new();
        pulse.ping(first, NOW);
        for tick in 1..=12 {
            assert_eq!(pulse.next(), Some(NOW.after(TICK)));
            assert!(pulse.beat().is_empty());
            while let Some(link) = pulse.next_ping() {
                pinged.push((tick, link));
                if tick < 9 {
                    pulse.ping(link, NOW);
                }
            }
            if tick == 1 {
                pulse.ping(second, NOW);
            }
            pulse.rest(NOW);
        }
        let expected = [
            (4, first),
            (5, second),
            (8, first),
            (9, second),
            (12, first),
        ];
        assert_eq!(pinged, expected);
        assert_eq!(pulse.next(), None);
    }

    #[test]
    fn who_is_watched_is_judged_once() {
        let mut pulse = Pulse::default();
        let link = LinkId::of_token(1);
        pulse.watch(link);
        pulse.rest(NOW);
        assert!(pulse.next().is_some());
        assert_eq!(pulse.beat(), [link]);
        assert!(pulse.beat().is_empty());
    }
}
