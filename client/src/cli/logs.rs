//! What `muster logs` takes.

use clap::Args;

/// `muster logs`
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The worker's name, or `up` for what `muster up --detach` wrote; without one, every log of
    /// the cluster on this machine
    pub worker: Option<String>,
    /// Go on with what is added, until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
    /// How many of the last lines of each log; 0: all
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    pub lines: usize,
}
