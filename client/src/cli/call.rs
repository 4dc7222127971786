//! What the commands that make calls take.

use super::duration;
use super::run::JoblogArgs;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// `muster call`
#[derive(Debug, Args)]
pub struct CallArgs {
    /// The method's name
    #[arg(required_unless_present = "raw")]
    pub method: Option<String>,
    /// Arguments: each JSON, else a string
    #[arg(value_name = "ARG", allow_negative_numbers = true)]
    pub args: Vec<String>,
    /// A named argument instead; may be given several times
    #[arg(
        short = 'p',
        long = "param",
        value_name = "NAME=VALUE",
        conflicts_with = "args"
    )]
    pub params: Vec<String>,
    /// Every argument is a string
    #[arg(long)]
    pub text: bool,
    /// Print a string result without quotes
    #[arg(short = 'r', long = "raw-output")]
    pub raw_output: bool,
    /// Send these bytes as they are, to a worker that takes raw bodies; print its answer likewise
    #[arg(long, value_name = "BYTES", conflicts_with_all = ["method", "args", "params", "to", "all"])]
    pub raw: Option<String>,
    /// Use a plain REQ socket, as any ZeroMQ client would
    #[arg(long)]
    pub req: bool,
    /// The call's deadline in seconds, or like 500ms, 2m; 0: none
    #[arg(long, value_name = "SECONDS", value_parser = duration, default_value = "0")]
    pub timeout: Duration,
    /// Only this worker
    #[arg(long, value_name = "WORKER")]
    pub to: Option<String>,
    /// Every worker that offers the method; prints a list of results
    #[arg(long, conflicts_with_all = ["to", "req", "no_wait"])]
    pub all: bool,
    /// Return when the broker has the call, without its result
    #[arg(long, conflicts_with_all = ["req", "raw"])]
    pub no_wait: bool,
    /// From -10 to 10: the higher one is the first among your own calls
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(i8).range(-10..=10))]
    pub priority: Option<i8>,
    /// How often it may be started; 1: it never runs twice
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub attempts: Option<u32>,
}

/// `muster map`
#[derive(Debug, Args)]
pub struct MapArgs {
    /// The method's name
    pub method: String,
    /// The file to read; - or nothing: standard input
    pub file: Option<PathBuf>,
    /// Every line is a string, even one that is JSON
    #[arg(long)]
    pub text: bool,
    /// A NUL byte ends a line, as from `find -print0`
    #[arg(short = '0', long)]
    pub null: bool,
    /// Print string results without quotes
    #[arg(short = 'r', long = "raw-output")]
    pub raw_output: bool,
    /// A line that is an array is the list of arguments
    #[arg(long)]
    pub spread: bool,
    /// Print results as they come, not in the order of the lines
    #[arg(long)]
    pub unordered: bool,
    /// The deadline of each item in seconds, or like 500ms, 2m; 0: none
    #[arg(long, value_name = "SECONDS", value_parser = duration, default_value = "0")]
    pub timeout: Duration,
    /// Requests under way at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub in_flight: Option<u32>,
    /// Send items one by one, never in chunks
    #[arg(long)]
    pub single: bool,
    /// How often an item may be started; 1: it never runs twice
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub attempts: Option<u32>,
    /// Only this worker
    #[arg(long, value_name = "WORKER")]
    pub to: Option<String>,
    /// From -10 to 10: the higher one is the first among your own calls
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(i8).range(-10..=10))]
    pub priority: Option<i8>,
    /// How long to wait for a broker that went away, in seconds
    #[arg(long, value_name = "SECONDS", value_parser = duration, default_value = "60")]
    pub reconnect: Duration,
    #[command(flatten)]
    pub joblog: JoblogArgs,
    /// Draw no progress bar
    #[arg(long)]
    pub no_progress: bool,
}
