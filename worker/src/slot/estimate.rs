//! How long a method's calls take, as this slot has seen them.

/// Calls expected to take longer are not kept waiting for: the replies before them go out first.
pub(crate) const LONG_US: f32 = 1_000.0;

/// A running average of one method's service time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Estimate {
    mean_us: Option<f32>,
}

impl Estimate {
    /// Takes in the service time of one call.
    pub fn add(&mut self, service_us: u32) {
        // The latest call counts an eighth: some calls show a change, one does not.
        let sample = service_us as f32;
        self.mean_us = Some(match self.mean_us {
            None => sample,
            Some(mean) => mean + (sample - mean) / 8.0,
        });
    }

    /// Whether the next call may take long: unknown ones may.
    pub fn is_long(&self) -> bool {
        self.mean_us.is_none_or(|mean| mean > LONG_US)
    }

    /// The expected service time, in µs; 0 when it is unknown.
    pub fn mean_us(&self) -> f32 {
        self.mean_us.unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_method_counts_as_long_until_it_is_known() {
        let mut estimate = Estimate::default();
        assert!(estimate.is_long());
        estimate.add(10);
        assert!(!estimate.is_long());
        for _ in 0..3 {
            estimate.add(10_000);
        }
        assert!(estimate.is_long() && estimate.mean_us() > LONG_US);
    }
}
