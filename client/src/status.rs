//! What the broker tells of itself, as far as the library acts on it.

use crate::error::Error;
use crate::pending::Outcome;
use serde::Deserialize;

/// The part of `broker.status` that matters here.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The broker's run: another one knows nothing of the calls before it. Empty when the peer is
    /// no Muster broker.
    pub epoch: String,
    /// The workers' slots.
    pub slots: Slots,
}

/// Slots by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Slots {
    /// All of them.
    pub total: u32,
    /// Waiting for calls.
    pub ready: u32,
    /// Running one.
    pub busy: u32,
}

/// One method of `broker.methods`.
#[derive(Clone, Debug, Deserialize)]
pub struct MethodEntry {
    /// Its name.
    pub name: String,
    /// It must not be started twice.
    #[serde(default)]
    pub once: bool,
    /// Its workers take map chunks.
    #[serde(default)]
    pub chunks: bool,
    /// The slots that offer it.
    #[serde(default)]
    pub slots: u32,
    /// How long one call takes, in microseconds, once that is known.
    #[serde(default)]
    pub service_us: Option<f64>,
}

#[derive(Deserialize)]
struct Members {
    epoch: serde_json::Value,
    #[serde(default)]
    slots: Slots,
}

impl Status {
    /// Reads the answer to `broker.status`. Whatever answers with something else is there, too.
    pub(crate) fn read(outcome: Outcome) -> Self {
        let members = outcome.and_then(|answer| answer.json::<Members>());
        members.map_or_else(
            |_: Error| Status::default(),
            |members| Status {
                epoch: members.epoch.to_string(),
                slots: members.slots,
            },
        )
    }
}
