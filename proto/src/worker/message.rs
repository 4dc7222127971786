//! What is said as JSON: who a worker is, and what became of its slots.

use serde::{Deserialize, Serialize};

/// One parameter of a method.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Param {
    /// Its name.
    pub name: String,
    /// Whether a call may leave it out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// A method on offer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Method {
    /// The name callers use.
    pub name: String,
    /// Its parameters in order; `None` when they are unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Vec<Param>>,
    /// Its documentation, or "".
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doc: String,
    /// Whether a call that may have run already must not run again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
    /// Whether it takes map chunks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub chunks: bool,
    /// Whether it takes attachments from the broker's shelf.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
}

/// What a worker says of itself, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Lowest and highest protocol version it speaks.
    pub protocol: (u8, u8),
    /// Random, 32 hex digits: what its slots' data links join with.
    pub token: String,
    /// The worker's name, unique in the cluster.
    pub name: String,
    /// Its host.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// How many slots it has.
    pub slots: u32,
    /// The program's version.
    #[serde(default)]
    pub version: String,
    /// What it offers.
    pub methods: Vec<Method>,
    /// Whether it takes raw bodies.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub raw: bool,
    /// Whether it runs commands of clients (`--allow-run`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_run: bool,
    /// Whether it runs functions shipped by clients (`--allow-apply`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_apply: bool,
}

/// The broker's answer to a registration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The name it goes by; another one if the wished name was taken.
    pub name: String,
    /// The broker's run, 16 hex digits.
    pub epoch: String,
    /// How often a heartbeat is due.
    pub heartbeat_ms: u64,
}

/// Why the broker does not take a worker or a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// A number of the code table.
    pub code: i64,
    /// In words.
    pub message: String,
}

/// A data link's first message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The worker's token.
    pub token: String,
    /// Which slot, from 1.
    pub slot: u32,
    /// The process that runs the slot's calls, as far as known.
    #[serde(default)]
    pub pid: u32,
    /// What it was opened for, if it serves only the calls inside another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nest: Option<Nest>,
}

/// One run of a call that others are made inside of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nest {
    /// The call, as `c123`.
    pub call: String,
    /// Which of its attempts.
    pub attempt: u32,
}

/// A worker has as many slots open for calls inside others as it allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotOpened {
    /// What a slot was asked for.
    pub nest: Nest,
    /// How many it opens at most.
    pub max: u32,
}

/// The child that ran a slot died, or was killed for a deadline or a cancel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotLost {
    /// Which slot, from 1.
    pub slot: u32,
    /// Its process.
    pub pid: u32,
    /// The exit code, when it exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal, when one ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Whether it was the kernel's memory killer or the worker's own limit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub out_of_memory: bool,
    /// The last lines of its standard error.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stderr_tail: String,
    /// The supervisor ended it on purpose (deadline, cancel, recycle): no crash.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_purpose: bool,
    /// How long until its successor is started, in ms.
    #[serde(default)]
    pub backoff_ms: u64,
}

/// The slot serves again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotReady {
    /// Which slot, from 1.
    pub slot: u32,
    /// Its new process.
    pub pid: u32,
}
