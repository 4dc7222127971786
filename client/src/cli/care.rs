//! What the commands that change the cluster, or wait for it, take.

use super::duration;
use clap::{Args, Subcommand};
use std::time::Duration;

/// `muster down`
#[derive(Debug, Args)]
pub struct DownArgs {
    /// How long calls under way may go on, in seconds or like 500ms, 2m
    #[arg(long, value_name = "SECONDS", value_parser = duration, default_value = "15")]
    pub timeout: Duration,
}

/// `muster explain`, `muster cancel`
#[derive(Debug, Args)]
pub struct CallIdArgs {
    /// The call's id, such as c123
    pub id: String,
}

/// `muster wait`
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// How many slots, of any workers, lanes included
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub slots: u32,
    /// For how long, in seconds or like 500ms, 2m; 0: for ever, but the broker must be there
    #[arg(long, value_name = "SECONDS", value_parser = duration, default_value = "0")]
    pub timeout: Duration,
}

/// `muster drain`
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// The worker's name
    pub worker: String,
}

/// `muster scale`
#[derive(Debug, Args)]
pub struct ScaleArgs {
    /// The worker's name, unless there is only one, and the number of slots
    #[arg(value_name = "[WORKER] N", num_args = 1..=2, required = true)]
    pub words: Vec<String>,
}

/// `muster reload`
#[derive(Debug, Args)]
pub struct ReloadArgs {
    /// The worker's name; without one, all
    pub worker: Option<String>,
}

/// `muster worker`
#[derive(Debug, Subcommand)]
pub enum WorkerCommand {
    /// Have the broker connect to a REP server
    Add {
        /// Its address, such as tcp://HOST:5555
        // Not `endpoint`: clap would take it for the flag of that name, the frontend's address.
        #[arg(value_name = "ENDPOINT")]
        server: String,
        /// The only methods to send there
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        methods: Vec<String>,
    },
    /// Have the broker leave a REP server
    Remove {
        /// Its address
        #[arg(value_name = "ENDPOINT")]
        server: String,
    },
}
