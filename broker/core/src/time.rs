//! Points in time, as the caller's monotonic clock counts them.

use std::time::Duration;

/// A point in time: microseconds on a clock that never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonoTime(u64);

impl MonoTime {
    /// The clock's start.
    pub const ZERO: MonoTime = MonoTime(0);
    /// Later than every event.
    pub const NEVER: MonoTime = MonoTime(u64::MAX);

    /// The point this many microseconds after the clock's start.
    #[inline]
    pub const fn from_micros(micros: u64) -> Self {
        MonoTime(micros)
    }

    /// Microseconds since the clock's start.
    #[inline]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The point `length` later; the far future saturates to [`MonoTime::NEVER`].
    #[must_use]
    #[inline]
    pub fn after(self, length: Duration) -> Self {
        self.after_micros(u64::try_from(length.as_micros()).unwrap_or(u64::MAX))
    }

    /// The point this many microseconds later.
    #[must_use]
    #[inline]
    pub const fn after_micros(self, micros: u64) -> Self {
        MonoTime(self.0.saturating_add(micros))
    }

    /// How many microseconds ago `earlier` was; zero if it lies ahead.
    #[inline]
    pub const fn micros_since(self, earlier: MonoTime) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    #[inline]
    pub const fn since(self, earlier: MonoTime) -> Duration {
        Duration::from_micros(self.micros_since(earlier))
    }
}

/// The whole microseconds of a length of time, without the wide arithmetic of
/// [`Duration::as_micros`].
#[inline]
pub(crate) fn micros(length: Duration) -> u64 {
    let seconds_us = length.as_secs().saturating_mul(1_000_000);
    seconds_us.saturating_add(u64::from(length.subsec_micros()))
}
