//! The clock: the core's points in time, and wall time for people.

use muster_core::MonoTime;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Counts from the broker's start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    start_wall: Duration,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        let start_wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Clock {
            start: Instant::now(),
            start_wall,
        }
    }

    /// The present.
    pub fn now(&self) -> MonoTime {
        MonoTime::ZERO.after(self.start.elapsed())
    }

    /// A point in time as seconds since 1970.
    pub fn wall_seconds(&self, at: MonoTime) -> f64 {
        (self.start_wall + at.since(MonoTime::ZERO)).as_secs_f64()
    }

    /// When the broker started, in whole seconds since 1970.
    pub fn started(&self) -> u64 {
        self.start_wall.as_secs()
    }

    /// How long it has been running.
    pub fn uptime(&self) -> Duration {
        self.start.elapsed()
    }
}
