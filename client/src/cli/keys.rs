//! What the commands about keys take.

use clap::{Args, Subcommand, ValueEnum};
use muster_proto::connection::Role;
use std::path::PathBuf;

/// `muster keys`
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key, and a connection file with it to copy to another machine
    New(NewKeyArgs),
    /// List the keys that were made
    List,
    /// Let a key open nothing any more, at once
    Revoke(RevokeKeyArgs),
}

/// `muster keys new`
#[derive(Debug, Args)]
pub struct NewKeyArgs {
    /// What its holder may do: client calls methods, worker joins the pool as well, admin does everything
    #[arg(long, value_name = "ROLE")]
    pub role: RoleArg,
    /// The only methods it may call, such as 'math.*'; may be repeated (default: all)
    #[arg(long, value_name = "GLOB", value_delimiter = ',')]
    pub methods: Vec<String>,
    /// What the key is called (default: its role, with a number)
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The connection file to write; - is standard output (default: NAME.json in this folder)
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `muster keys revoke`
#[derive(Debug, Args)]
pub struct RevokeKeyArgs {
    /// The key's name; `muster keys list` shows them
    pub name: String,
}

/// The roles as they are typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    /// Calls methods
    Client,
    /// Joins the pool as a worker, and calls methods
    Worker,
    /// Does everything, keys included
    Admin,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Client => Role::Client,
            RoleArg::Worker => Role::Worker,
            RoleArg::Admin => Role::Admin,
        }
    }
}
