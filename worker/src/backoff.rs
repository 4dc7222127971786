//! How long to wait before a child that crashed is started again.
//!
//! A crash alone costs nothing: the successor starts at once. Only a loop is slowed down, crashes
//! in a row without an answered call between them, and one that goes on is given up but for a try
//! every half minute, with a complaint that a person hears.

use muster_proto::socket::random_bytes;
use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
/// So many crashes within [`LOOP_WITHIN`] are a loop.
const LOOP_CRASHES: usize = 3;
const LOOP_WITHIN: Duration = Duration::from_secs(5);
/// A child that lived this long has shown that it works: the loop is over.
const HEALTHY: Duration = Duration::from_secs(10);
/// So many crashes within [`GIVE_UP_WITHIN`], and it waits the longest time from then on.
const GIVE_UP_CRASHES: usize = 5;
const GIVE_UP_WITHIN: Duration = Duration::from_secs(60);

/// Backoff of one slot: none for a crash alone, from 0.1 s to 30 s in a loop, with jitter so that
/// slots that crash together do not start together.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    /// Waits in a row.
    doublings: u32,
    recent: Vec<Instant>,
    has_given_up: bool,
}

/// What a crash means for the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rest {
    /// How long to wait.
    pub wait: Duration,
    /// It is time to complain: the slot is as good as given up.
    pub is_loud: bool,
}

impl Backoff {
    /// A child that started at `started` crashed `now`.
    pub fn crashed(&mut self, started: Instant, now: Instant) -> Rest {
        if now.saturating_duration_since(started) >= HEALTHY {
            (self.doublings, self.has_given_up) = (0, false);
        }
        self.recent
            .retain(|&at| now.saturating_duration_since(at) < GIVE_UP_WITHIN);
        self.recent.push(now);
        let is_among = |&&at: &&Instant| now.saturating_duration_since(at) < LOOP_WITHIN;
        let is_loop = self.recent.iter().filter(is_among).count() >= LOOP_CRASHES;
        let is_loud = self.recent.len() >= GIVE_UP_CRASHES && !self.has_given_up;
        self.has_given_up |= is_loud;
        let wait = if self.has_given_up {
            jittered(LONGEST)
        } else if is_loop || self.doublings > 0 {
            let doubled = FIRST.saturating_mul(1 << self.doublings.min(16));
            self.doublings += 1;
            jittered(doubled.min(LONGEST))
        } else {
            Duration::ZERO
        };
        Rest { wait, is_loud }
    }

    /// A child answered a call: what crashed before it was no loop.
    pub fn answered(&mut self) {
        if !self.recent.is_empty() {
            self.forgive();
        }
    }

    /// Somebody changed what runs: all is forgiven.
    pub fn forgive(&mut self) {
        *self = Backoff::default();
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

    /// Waits in seconds of children that crash as soon as they start.
    fn waits(count: usize, apart: Duration) -> Vec<f64> {
        let mut backoff = Backoff::default();
        let mut now = Instant::now();
        let crashes = (0..count).map(|_| {
            now += apart;
            backoff.crashed(now, now).wait.as_secs_f64()
        });
        crashes.collect()
    }

    fn assert_about(waits: &[f64], expected: &[f64]) {
        assert_eq!(waits.len(), expected.len());
        for (wait, expected) in waits.iter().zip(expected) {
            let range = 0.74 * expected..=1.26 * expected;
            assert!(range.contains(wait), "{waits:?}, expected {expected}");
        }
    }

    #[test]
    fn a_crash_alone_waits_for_nothing_and_a_loop_waits_longer_each_time() {
        let quick = waits(7, Duration::from_millis(10));
        assert_about(&quick, &[0.0, 0.0, 0.1, 0.2, 30.0, 30.0, 30.0]);
        assert_about(&waits(5, Duration::from_secs(20)), &[0.0; 5]);
    }

    #[test]
    fn the_fifth_crash_within_a_minute_is_told_once_and_waits_the_longest() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        let loud: Vec<bool> = (0..7).map(|_| backoff.crashed(now, now).is_loud).collect();
        assert_eq!(loud, [false, false, false, false, true, false, false]);
        let slow = waits(6, Duration::from_secs(11));
        assert_about(&slow, &[0.0, 0.0, 0.0, 0.0, 30.0, 30.0]);
    }

    #[test]
    fn crashes_between_which_calls_are_answered_are_no_loop() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        for _ in 0..20 {
            let rest = backoff.crashed(now, now);
            assert_eq!((rest.wait, rest.is_loud), (Duration::ZERO, false));
            backoff.crashed(now, now);
            backoff.answered();
        }
        // The two after the last answer, and a third.
        assert_about(&[backoff.crashed(now, now).wait.as_secs_f64()], &[0.0]);
        assert_about(&[backoff.crashed(now, now).wait.as_secs_f64()], &[0.0]);
        assert_about(&[backoff.crashed(now, now).wait.as_secs_f64()], &[0.1]);
    }

    #[test]
    fn health_and_a_pardon_begin_anew() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        for _ in 0..6 {
            backoff.crashed(now, now);
        }
        backoff.forgive();
        assert_eq!(backoff.crashed(now, now).wait, Duration::ZERO);
        for _ in 0..6 {
            backoff.crashed(now, now);
        }
        let later = now + 2 * GIVE_UP_WITHIN;
        assert_eq!(backoff.crashed(now, later).wait, Duration::ZERO);
    }
}
