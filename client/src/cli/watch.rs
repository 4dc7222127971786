//! What the commands that look take.

use clap::Args;

/// `muster methods`
#[derive(Debug, Args)]
pub struct MethodsArgs {
    /// With signature and documentation
    #[arg(short, long)]
    pub long: bool,
}

/// `muster help`
#[derive(Debug, Args)]
pub struct HelpArgs {
    /// The method's name; without one, this program's own help
    pub method: Option<String>,
}

/// `muster status`
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Print the addresses of the broker's sockets instead
    #[arg(long)]
    pub endpoints: bool,
}

/// `muster workers`
#[derive(Debug, Args)]
pub struct WorkersArgs {
    /// One line per slot
    #[arg(long)]
    pub slots: bool,
}

/// `muster calls`
#[derive(Debug, Args)]
pub struct CallsArgs {
    /// Only those that run
    #[arg(long, conflicts_with = "queued")]
    pub running: bool,
    /// Only those that wait
    #[arg(long)]
    pub queued: bool,
    /// Only recent ones that failed
    #[arg(long, conflicts_with_all = ["running", "queued"])]
    pub failed: bool,
    /// Only the slowest recent ones
    #[arg(long, conflicts_with_all = ["running", "queued", "failed"])]
    pub slow: bool,
    /// How many at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
}
