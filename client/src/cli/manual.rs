//! What the commands take that write manual pages and completions.

use clap::Args;
use muster_manual::Shell;
use std::path::PathBuf;

/// `muster completions`
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// For which shell
    pub shell: Shell,
    /// Of which program: muster, muster-broker or muster-worker
    #[arg(default_value = "muster", value_parser = ["muster", "muster-broker", "muster-worker"])]
    pub program: String,
}

/// `muster man`
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Where to, such as ~/.local/share/man/man1
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}
