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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        // Its author's reference implementation, from the seed 1234567.
        let mut rng = Rng::new(1_234_567);
        let numbers: Vec<u64> = (0..3).map(|_| rng.next_u64()).collect();
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(numbers, expected);
    }

    #[test]
    fn jitter_is_between_half_and_all_and_reaches_both() {
        let mut rng = Rng::new(1);
        let us = |rng: &mut Rng| rng.jitter(Duration::from_micros(4)).as_micros();
        let drawn: std::collections::BTreeSet<u128> = (0..100).map(|_| us(&mut rng)).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(rng.jitter(Duration::ZERO), Duration::ZERO);
        let longest = rng.jitter(Duration::MAX).as_micros();
        assert!(longest >= u128::from(u64::MAX / 2), "{longest}");
    }
}
