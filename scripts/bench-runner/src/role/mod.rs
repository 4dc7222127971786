//! What this program does in its other processes: proxy, workers and clients.

mod client;
mod http_client;
mod idle_clients;
mod managed_worker;
mod proxy;
mod rep_worker;

use clap::Subcommand;
use muster_bench::keeper;
use muster_bench::process::{end_with_parent, ready};
use std::path::PathBuf;

pub use client::{Outcome, Shape};
pub use managed_worker::monotonic_ns;

/// A process of the benchmark beside the one that measures.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// libzmq's own `zmq_proxy` between a ROUTER and a DEALER.
    Proxy {
        /// Where clients connect.
        #[arg(long)]
        frontend: String,
        /// Where REP workers connect.
        #[arg(long)]
        backend: String,
    },
    /// A stock REP socket that parses JSON-RPC and runs the functions.
    RepWorker {
        /// Where it connects.
        #[arg(long)]
        endpoint: String,
        /// Its sockets, each with a thread.
        #[arg(long, default_value_t = 1)]
        sockets: u32,
    },
    /// A worker of the broker, with the same functions.
    ManagedWorker {
        /// The broker's connection file.
        #[arg(long)]
        connection: PathBuf,
        /// Its name; of several, each has its number behind it.
        #[arg(long)]
        name: String,
        /// How many workers, all in this process.
        #[arg(long, default_value_t = 1)]
        workers: u32,
        /// Its slots, each with a thread.
        #[arg(long, default_value_t = 1)]
        slots: u32,
    },
    /// Clients that have called once and stay connected.
    IdleClients {
        /// Where they connect.
        #[arg(long)]
        endpoint: String,
        /// How many.
        #[arg(long)]
        sockets: usize,
    },
    /// A client of the gateway that keeps its connection.
    HttpClient {
        /// Where the gateway listens.
        #[arg(long)]
        address: String,
    },
    /// Another program, for as long as this process runs.
    Keeper {
        /// The program and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        program: Vec<String>,
    },
    /// A client with a socket for each endpoint, told over standard input what to do.
    Client {
        /// REQ instead of DEALER.
        #[arg(long)]
        req: bool,
        /// Where it connects, in the order the commands number them.
        #[arg(long)]
        endpoint: Vec<String>,
    },
}

impl Role {
    /// Does it, until standard input ends.
    ///
    /// # Errors
    /// When a socket fails or a reply is wrong or missing.
    pub fn run(&self) -> anyhow::Result<()> {
        match self {
            Role::Proxy { frontend, backend } => proxy::run(frontend, backend),
            Role::RepWorker { endpoint, sockets } => rep_worker::run(endpoint, *sockets),
            Role::ManagedWorker {
                connection,
                name,
                workers,
                slots,
            } => managed_worker::run(connection, name, *workers, *slots),
            Role::HttpClient { address } => http_client::run(address),
            Role::IdleClients { endpoint, sockets } => idle_clients::run(endpoint, *sockets),
            Role::Keeper { program } => keeper::run(program),
            Role::Client { req, endpoint } => client::run(*req, endpoint),
        }
    }
}
