//! What the commands that look take.

use clap::Args;
use std::time::Duration;

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

/// `muster top`
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Seconds between two looks
    #[arg(long, value_name = "TIME", default_value = "1", value_parser = super::duration)]
    pub interval: Duration,
    /// Print one look and end; so it is without a terminal, too
    #[arg(long)]
    pub once: bool,
}

/// `muster events`
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Only events whose name starts so, such as `call.` or `worker.up`; may be repeated
    #[arg(long, value_name = "PREFIX")]
    pub filter: Vec<String>,
    /// Ask the broker's status each second instead of subscribing
    #[arg(long)]
    pub poll: bool,
    /// End after so many events
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<u64>,
}

/// `muster trace`
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// A call's id (`c123`), to follow it until it ends, or a method, to see each of its calls;
    /// without one, every call
    #[arg(value_name = "ID|METHOD")]
    pub subject: Option<String>,
    /// End after so many calls
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<u64>,
}
