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

    /// Runs both sides in every round, taking turns in who goes first, after a round that does not
    /// count. `side` gets 0 (Muster) or 1 (the reference).
    ///
    /// # Errors
    /// The first of `side`.
    pub fn interleaved<T>(
        &self,
        mut side: impl FnMut(usize) -> anyhow::Result<T>,
    ) -> anyhow::Result<Vec<[T; 2]>> {
        let mut rounds = Vec::new();
        for round in 0..=self.rounds {
            let pair = if round % 2 == 0 {
                let first = side(0)?;
                [first, side(1)?]
            } else {
                let first = side(1)?;
                [side(0)?, first]
            };
            if round > 0 {
                rounds.push(pair);
            }
        }
        Ok(rounds)
    }
}
