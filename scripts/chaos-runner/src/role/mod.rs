//! What this program does in its other processes: workers and clients.

mod flooder;
mod lane;
mod library_client;
mod managed;
mod one_call;
mod stock_client;

use clap::{Args, Subcommand};
use muster_bench::process::{end_with_parent, ready};
use std::path::PathBuf;
use std::time::Duration;

/// A process of the run beside the one that directs it.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// Another program, for as long as this process runs.
    Keeper {
        /// The program and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        program: Vec<String>,
    },
    /// A worker made with the worker library.
    Managed {
        /// The broker's connection file.
        #[arg(long)]
        connection: PathBuf,
        /// Its name.
        #[arg(long)]
        name: String,
        /// Its slots, each with a thread.
        #[arg(long)]
        slots: u32,
        /// Where starts are written down.
        #[arg(long)]
        folder: PathBuf,
    },
    /// A stock REP socket that knows nothing of Muster.
    Lane {
        /// The broker's backend.
        #[arg(long)]
        endpoint: String,
        /// Where starts are written down.
        #[arg(long)]
        folder: PathBuf,
    },
    /// A client made with the client library.
    LibraryClient(ClientArgs),
    /// A client that is a bare DEALER with keys.
    StockClient(ClientArgs),
    /// A bare DEALER without keys that makes one call and prints the answer.
    OneCall {
        /// The broker's frontend.
        #[arg(long)]
        endpoint: String,
        /// The method.
        #[arg(long)]
        method: String,
        /// Its parameters as JSON.
        #[arg(long)]
        params: String,
    },
    /// A client that floods the broker.
    Flooder {
        /// The broker's frontend.
        #[arg(long)]
        endpoint: String,
        /// How many calls.
        #[arg(long)]
        calls: u64,
    },
}

/// What a client has to do.
#[derive(Clone, Debug, Args)]
pub struct ClientArgs {
    /// The broker's connection file.
    #[arg(long)]
    pub connection: PathBuf,
    /// Its log.
    #[arg(long)]
    pub log: PathBuf,
    /// The number of its first call.
    #[arg(long)]
    pub first: u64,
    /// How many calls.
    #[arg(long)]
    pub count: u64,
    /// How many calls a second.
    #[arg(long)]
    pub rate: f64,
    /// How many at once.
    #[arg(long)]
    pub in_flight: usize,
    /// How long it waits for an answer.
    #[arg(long)]
    pub patience_s: u64,
    /// What the calls are drawn from.
    #[arg(long)]
    pub seed: u64,
}

impl ClientArgs {
    fn patience(&self) -> Duration {
        Duration::from_secs(self.patience_s)
    }

    /// When the call of this place is due, counted from the start.
    fn due(&self, place: u64) -> Duration {
        Duration::from_secs_f64(place as f64 / self.rate)
    }
}

impl Role {
    /// Does it, until it is done or standard input ends.
    ///
    /// # Errors
    /// When a socket or a file fails.
    pub fn run(&self) -> anyhow::Result<()> {
        match self {
            Role::Keeper { program } => muster_bench::keeper::run(program),
            Role::Managed {
                connection,
                name,
                slots,
                folder,
            } => managed::run(connection, name, *slots, folder),
            Role::Lane { endpoint, folder } => lane::run(endpoint, folder),
            Role::LibraryClient(args) => library_client::run(args),
            Role::StockClient(args) => stock_client::run(args),
            Role::OneCall {
                endpoint,
                method,
                params,
            } => one_call::run(endpoint, method, params),
            Role::Flooder { endpoint, calls } => flooder::run(endpoint, *calls),
        }
    }
}
