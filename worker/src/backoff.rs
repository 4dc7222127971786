//! How long to wait before a child that crashed is started again.

use muster_proto::socket::random_bytes;
use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
/// A child that lived this long has shown that it works: the next crash counts as the first.
const HEALTHY: Duration = Duration::from_secs(10);
/// So many crashes within [`LOUD_WITHIN`] are told as an error.
const LOUD_CRASHES: usize = 5;
const LOUD_WITHIN: Duration = Duration::from_secs(60);

/// Exponential backoff of one slot, from 0.1 s to 30 s, with jitter so that slots that crash
/// together do not start together.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    recent: Vec<Instant>,
}

impl Backoff {
    /// A child that started at `started` crashed `now`: how long to wait, and whether it is time to
    /// complain.
    pub fn crashed(&mut self, started: Instant, now: Instant) -> (Duration, bool) {
        if now.saturating_duration_since(started) >= HEALTHY {
            self.failures = 0;
        }
        let doubled = FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST);
        self.failures += 1;
        self.recent
            .retain(|&at| now.saturating_duration_since(at) < LOUD_WITHIN);
        self.recent.push(now);
        let is_loud = self.recent.len() == LOUD_CRASHES;
        (jittered(doubled), is_loud)
    }
}

/// Between three quarters and five quarters of `duration`.
fn jittered(duration: Duration) -> Duration {
    let random = random_bytes::<1>().map_or(128, |[byte]| byte);
    duration.mul_f64(0.75 + f64::from(random) / 510.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_from_a_tenth_to_thirty_seconds_and_start_anew_after_health() {
        let mut backoff = Backoff::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..12 {
            waits.push(backoff.crashed(now, now).0.as_secs_f64());
            now += Duration::from_secs(1);
        }
        for (at, wait) in waits.iter().enumerate() {
            let expected = (0.1 * f64::powi(2.0, at as i32)).min(30.0);
            assert!(
                (0.74 * expected..=1.26 * expected).contains(wait),
                "{at}: {wait}"
            );
        }
        let (wait, _) = backoff.crashed(now, now + HEALTHY);
        assert!(wait < Duration::from_millis(130), "{wait:?}");
    }

    #[test]
    fn the_fifth_crash_within_a_minute_is_told_once() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        let loud: Vec<bool> = (0..7).map(|_| backoff.crashed(now, now).1).collect();
        assert_eq!(loud, [false, false, false, false, true, false, false]);
    }
}
