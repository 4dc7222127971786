//! What a child says once it has loaded its modules, or why it has not.

use muster_proto::socket::SocketError;
use muster_proto::worker::Method;
use serde::Deserialize;
use std::fmt;
use std::io;

/// What a child offers, once it has loaded its modules.
#[derive(Debug, Deserialize)]
pub(crate) struct Hello {
    /// The interpreter's version.
    pub python: String,
    /// The functions.
    pub methods: Vec<Method>,
}

/// Why modules cannot be hosted.
#[derive(Debug, Deserialize)]
pub struct LoadFailure {
    /// The exception's type and text.
    pub message: String,
    #[serde(default)]
    file: Option<String>,
    #[serde(default)]
    line: Option<u32>,
    /// The traceback, for an exception of the module's own.
    #[serde(default)]
    pub traceback: String,
}

impl fmt::Display for LoadFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{file}, line {line}: {}", self.message),
            (Some(file), None) => write!(f, "{file}: {}", self.message),
            _ => f.write_str(&self.message),
        }
    }
}

/// Why a child did not come up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The interpreter could not be started.
    #[error("cannot start the Python interpreter `{interpreter}`: {source}")]
    Spawn {
        /// As configured.
        interpreter: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The modules could not be loaded.
    #[error("{0}")]
    Load(LoadFailure),
    /// The child ended before it had loaded them.
    #[error("the Python interpreter ended while it loaded ({ended}): {stderr_tail}")]
    Ended {
        /// Its exit code or signal, in words.
        ended: String,
        /// Somebody killed it: another one may fare better.
        is_killed: bool,
        /// The last of what it wrote.
        stderr_tail: String,
    },
    /// Waiting for it failed.
    #[error(transparent)]
    Wait(#[from] SocketError),
}
