//! How many items travel together, and how many requests at once.

use std::time::Duration;

/// The work of one chunk: long beside the cost of a message, short beside what a person or another
/// client notices, and little enough to be run again.
const CHUNK_SECONDS: f64 = 0.004;
/// Longer chunks of trivial items win nothing and balance worse.
const CHUNK_ITEMS_MAX: u32 = 16_384;
/// A chunk may be this much larger than any before it: the first estimates are mostly latency.
const GROWTH: u32 = 8;
/// Chunks under way for each slot: one runs, one waits at the worker, one is on its way.
const CHUNKS_PER_SLOT: u32 = 3;
/// The same for single calls, of which the broker prefetches as many as a slot can use.
const CALLS_PER_SLOT: u32 = 96;
/// Enough single calls to keep some slots busy that are not known of yet.
const CALLS_MIN: u32 = 256;

/// Estimates the time of an item from the answers, and sizes chunks by it.
#[derive(Debug)]
pub(super) struct Pace {
    /// Whether the method's workers take chunks.
    pub(super) is_chunked: bool,
    /// The slots that offer the method.
    slots: u32,
    item_seconds: Option<f64>,
    largest: u32,
    units_max: Option<u32>,
}

impl Pace {
    /// `units_max`: the caller's own bound of requests under way.
    pub(super) fn new(units_max: Option<u32>) -> Self {
        Pace {
            is_chunked: false,
            slots: 1,
            item_seconds: None,
            largest: 1,
            units_max,
        }
    }

    /// What the broker says of the method.
    pub(super) fn learn(&mut self, is_chunked: bool, slots: u32, service_us: Option<f64>) {
        self.is_chunked = is_chunked;
        self.slots = slots.max(1);
        if self.item_seconds.is_none() && is_chunked {
            self.item_seconds = service_us.map(|us| us * 1e-6);
            if self.item_seconds.is_some() {
                self.largest = CHUNK_ITEMS_MAX / GROWTH;
            }
        }
    }

    /// How many items the next request may carry.
    pub(super) fn chunk_items(&self) -> u32 {
        let Some(seconds) = self.item_seconds.filter(|_| self.is_chunked) else {
            return 1;
        };
        let fitting = (CHUNK_SECONDS / seconds.max(1e-9)) as u32;
        let max = CHUNK_ITEMS_MAX.min(self.largest.saturating_mul(GROWTH));
        fitting.clamp(1, max)
    }

    /// How many requests may be under way.
    pub(super) fn units_max(&self) -> usize {
        let usual = match self.is_chunked {
            true => self.slots * CHUNKS_PER_SLOT + 1,
            false => (self.slots * CALLS_PER_SLOT).max(CALLS_MIN),
        };
        self.units_max.unwrap_or(usual).max(1) as usize
    }

    /// A request of `items` was answered after `elapsed`; `units` were under way when it was sent.
    pub(super) fn observe(&mut self, items: u32, elapsed: Duration, units: u32) {
        // Little's law: of the time under way, this share was service; the rest was the queue.
        let share = f64::from(self.slots) / f64::from(units.max(1));
        let seconds = elapsed.as_secs_f64() * share.min(1.0) / f64::from(items.max(1));
        self.item_seconds = Some(match self.item_seconds {
            // Latency weighs less the more items share it.
            Some(before) if items <= self.largest => 0.5 * before + 0.5 * seconds,
            _ => seconds,
        });
        self.largest = self.largest.max(items);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(item_us: f64, latency_us: f64) -> Vec<u32> {
        let mut pace = Pace::new(None);
        pace.learn(true, 4, None);
        (0..8)
            .map(|_| {
                let items = pace.chunk_items();
                let service = latency_us + item_us * f64::from(items);
                // Thirteen requests queue for four slots.
                let elapsed = Duration::from_secs_f64(service * 13.0 / 4.0 * 1e-6);
                pace.observe(items, elapsed, 13);
                items
            })
            .collect()
    }

    #[test]
    fn chunks_of_trivial_items_grow_fast_and_slow_items_travel_alone() {
        let trivial = run(0.1, 100.0);
        assert_eq!(trivial[0], 1);
        assert!(trivial[7] > 8_000, "{trivial:?}");
        assert_eq!(run(20_000.0, 100.0), [1; 8]);
        let middle = run(100.0, 100.0);
        assert!((20..=40).contains(&middle[7]), "{middle:?}");
    }

    #[test]
    fn a_method_without_chunks_gets_single_calls_and_more_of_them() {
        let mut pace = Pace::new(None);
        pace.learn(false, 8, Some(0.1));
        assert_eq!((pace.chunk_items(), pace.units_max()), (1, 768));
        pace.learn(true, 8, None);
        assert_eq!(pace.units_max(), 25);
        assert_eq!(Pace::new(Some(3)).units_max(), 3);
    }

    #[test]
    fn a_known_service_time_is_used_from_the_first_chunk() {
        let mut pace = Pace::new(None);
        pace.learn(true, 4, Some(40.0));
        assert_eq!(pace.chunk_items(), 100);
    }
}
