//! What every row is given, and the interleaving that they share.

use std::path::PathBuf;

/// The settings of a run.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The broker's program.
    pub broker: PathBuf,
    /// A second broker to be the reference of the echo rows, instead of the proxy.
    pub against: Option<PathBuf>,
    /// Rounds of each row.
    pub rounds: usize,
    /// How long each side is loaded in a round.
    pub window_ms: u64,
    /// Whether everything is to be smaller.
    pub is_quick: bool,
}

impl Bench {
    /// The full amount of work, or the small one of a quick run.
    pub fn amount<T>(&self, full: T, quick: T) -> T {
        if self.is_quick { quick } else { full }
    }

    /// Runs both sides in every round, taking turns in who goes first. `side` gets the round and 0
    /// (Muster) or 1 (the reference); `warm_up` adds a round in front that does not count.
    ///
    /// # Errors
    /// The first of `side`.
    pub fn interleaved<T>(
        &self,
        warm_up: bool,
        mut side: impl FnMut(usize, usize) -> anyhow::Result<T>,
    ) -> anyhow::Result<Vec<[T; 2]>> {
        let mut rounds = Vec::new();
        for round in usize::from(!warm_up)..=self.rounds {
            let pair = if round % 2 == 0 {
                let first = side(round, 0)?;
                [first, side(round, 1)?]
            } else {
                let first = side(round, 1)?;
                [side(round, 0)?, first]
            };
            if round > 0 {
                rounds.push(pair);
            }
        }
        Ok(rounds)
    }
}
