//! Medians and spreads of rounds.

use serde::Serialize;

/// What the rounds of a row came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Half of the rounds are below.
    pub median: f64,
    /// A tenth is below.
    pub p10: f64,
    /// A tenth is above.
    pub p90: f64,
}

impl Summary {
    /// Of at least one round.
    ///
    /// # Panics
    /// Without a round.
    pub fn of(rounds: &[f64]) -> Self {
        assert!(!rounds.is_empty(), "a row has rounds");
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        Summary {
            median: quantile(&sorted, 0.5),
            p10: quantile(&sorted, 0.1),
            p90: quantile(&sorted, 0.9),
        }
    }
}

/// Between neighbours, by their distance.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * (at - low as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_the_median_and_the_outer_tenths() {
        let rounds: Vec<f64> = (0..=10).rev().map(f64::from).collect();
        let summary = Summary::of(&rounds);
        assert_eq!((summary.p10, summary.median, summary.p90), (1.0, 5.0, 9.0));
        assert_eq!(Summary::of(&[2.0]).median, 2.0);
        assert_eq!(Summary::of(&[1.0, 2.0]).median, 1.5);
    }
}
