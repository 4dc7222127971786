//! Chance, from a seed that is passed in.

use std::time::Duration;

/// SplitMix64: enough for jitter, and the same on every machine.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator that always gives the same sequence for `seed`.
    pub const fn new(seed: u64) -> Self {
        Rng(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Between half of `length` and all of it: retries that were lost together spread out.
    pub fn jitter(&mut self, length: Duration) -> Duration {
        let half = u64::try_from(length.as_micros() / 2).unwrap_or(u64::MAX / 2);
        Duration::from_micros(half + self.next_u64() % (half + 1))
    }
}
