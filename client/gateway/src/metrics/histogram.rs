//! How long calls took, in buckets.

use std::time::Duration;

/// Upper bounds in microseconds: from a call answered on the spot to one that computes for long.
const BOUNDS_US: [u64; 17] = [
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    120_000_000,
];

/// Counts by bucket; the last one has no bound.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    counts: [u64; BOUNDS_US.len() + 1],
    sum: Duration,
}

impl Histogram {
    pub(super) fn add(&mut self, duration: Duration) {
        let us = u64::try_from(duration.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX);
        self.counts[BOUNDS_US.partition_point(|&bound| bound < us)] += 1;
        self.sum = self.sum.saturating_add(duration);
    }

    /// Bounds in seconds with how many were at most so long; their sum in seconds; their number.
    pub(super) fn cumulative(&self) -> (Vec<(f64, u64)>, f64, u64) {
        let mut total = 0;
        let buckets = BOUNDS_US.iter().zip(&self.counts).map(|(&bound, count)| {
            total += count;
            (bound as f64 / 1e6, total)
        });
        let buckets = buckets.collect();
        (buckets, self.sum.as_secs_f64(), self.counts.iter().sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_every_bucket_that_holds_it() {
        let mut histogram = Histogram::default();
        for us in [250, 251, 3_600_000_000] {
            histogram.add(Duration::from_micros(us));
        }
        histogram.add(Duration::from_nanos(250_001));
        let (buckets, sum_s, count) = histogram.cumulative();
        assert_eq!(buckets[0], (0.00025, 1));
        assert_eq!(buckets[1], (0.0005, 3));
        assert_eq!(buckets.last(), Some(&(120.0, 3)));
        assert_eq!(count, 4);
        assert!((3600.0..3600.1).contains(&sum_s));
    }
}
