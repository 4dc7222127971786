//! Latencies by the million: counts in buckets 1.6 % wide.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Buckets per doubling, as a power of two.
const FINE_BITS: u32 = 6;

/// Counts of durations. Kept sparse: it travels between processes as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram(BTreeMap<u32, u64>);

impl Histogram {
    /// Counts one.
    pub fn add(&mut self, value: Duration) {
        let ns = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX);
        *self.0.entry(bucket(ns)).or_default() += 1;
    }

    /// Takes another's counts in.
    pub fn merge(&mut self, other: &Histogram) {
        for (&bucket, &count) in &other.0 {
            *self.0.entry(bucket).or_default() += count;
        }
    }

    /// The duration that `share` (0 to 1) of all are at most, in µs; 0 without any.
    pub fn quantile_us(&self, share: f64) -> f64 {
        let total: u64 = self.0.values().sum();
        let rank = (total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (&bucket, &count) in &self.0 {
            seen += count;
            if seen >= rank {
                return floor_ns(bucket) as f64 / 1e3;
            }
        }
        0.0
    }
}

fn bucket(ns: u64) -> u32 {
    let ns = ns.max(1 << FINE_BITS);
    let exponent = ns.ilog2() - FINE_BITS;
    let fine = (ns >> exponent) as u32 - (1 << FINE_BITS);
    (exponent << FINE_BITS) + fine
}

fn floor_ns(bucket: u32) -> u64 {
    let (exponent, fine) = (bucket >> FINE_BITS, bucket & ((1 << FINE_BITS) - 1));
    u64::from((1 << FINE_BITS) + fine) << exponent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_bucket_of_the_truth() {
        let mut histogram = Histogram::default();
        for us in 1..=1_000 {
            histogram.add(Duration::from_micros(us));
        }
        for (share, expected) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1_000.0)] {
            let found = histogram.quantile_us(share);
            assert!(
                (expected * 0.98..=expected).contains(&found),
                "{share}: {found}"
            );
        }
    }

    #[test]
    fn merged_histograms_count_both() {
        let (mut a, mut b) = (Histogram::default(), Histogram::default());
        a.add(Duration::from_micros(10));
        b.add(Duration::from_micros(1_000));
        a.merge(&b);
        assert!(a.quantile_us(0.5) < 11.0 && a.quantile_us(1.0) > 980.0);
    }
}
