//! The function that every worker runs, and the calls that clients make of it.

use crate::rng::Rng;

/// The value of `mix(n)`: depends on every bit, and is exact as a JSON number.
pub fn mix(n: u64) -> u64 {
    let mut x = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x ^= x >> 29;
    x.wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 11
}

/// What managed workers offer. Lanes offer [`LANE_METHOD`]: nobody registers it.
pub const METHOD: &str = "mix";
/// What stock REP workers offer.
pub const LANE_METHOD: &str = "lane_mix";

/// One call as its number and the run's seed draw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// For stock REP workers.
    pub is_for_lane: bool,
    /// It must not be started twice.
    pub is_once: bool,
    /// How long its function takes.
    pub nap_ms: u64,
}

impl Draw {
    /// Most calls are short, some long enough to be caught at work.
    pub fn of(seed: u64, n: u64) -> Self {
        let mut rng = Rng::new(seed ^ mix(n));
        let is_for_lane = rng.chance(0.25);
        Draw {
            is_for_lane,
            is_once: !is_for_lane && rng.chance(0.05),
            nap_ms: match rng.below(1000) {
                0..800 => 0,
                800..950 => 1 + rng.below(3),
                950..995 => 5 + rng.below(15),
                _ => 100,
            },
        }
    }

    /// The method that it calls.
    pub fn method(self) -> &'static str {
        match self.is_for_lane {
            true => LANE_METHOD,
            false => METHOD,
        }
    }
}
