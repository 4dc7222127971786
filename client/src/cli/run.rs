//! What `muster run` takes, and what it shares with `muster map`.

use super::duration;
use crate::joblog::{Done, Joblog, JoblogError, Resume};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// `muster run`
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub joblog: JoblogArgs,
    /// Without ::: a NUL byte ends an item of standard input, as from `find -print0`
    #[arg(short = '0', long)]
    pub null: bool,
    /// Print what jobs write as they end, not in the order of the items
    #[arg(long)]
    pub unordered: bool,
    /// Start a job up to N times, when it fails or its worker is lost; else none is started twice
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub retries: u32,
    /// How long a job may take, waiting included, in seconds, or like 500ms, 2m; 0: for ever
    #[arg(long, value_name = "SECONDS", value_parser = duration, default_value = "0")]
    pub timeout: Duration,
    /// Where jobs work; by default in the current directory, which the worker's machine has to have;
    /// -: in the worker's own directory
    #[arg(long, value_name = "DIR")]
    pub chdir: Option<PathBuf>,
    /// Jobs under way at most; by default as many as keep the slots busy
    #[arg(short = 'j', long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub in_flight: Option<u32>,
    /// Only this worker
    #[arg(long, value_name = "WORKER")]
    pub to: Option<String>,
    /// From -10 to 10: the higher one is the first among your own calls
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(i8).range(-10..=10))]
    pub priority: Option<i8>,
    /// Return when the broker has the jobs, without what they write
    #[arg(long, conflicts_with_all = ["joblog", "retries", "unordered"])]
    pub no_wait: bool,
    /// Draw no progress bar
    #[arg(long)]
    pub no_progress: bool,
    /// Print the commands and run none
    #[arg(long)]
    pub dry_run: bool,
    /// How long to wait for a broker that went away, in seconds
    #[arg(long, value_name = "SECONDS", value_parser = duration, default_value = "60")]
    pub reconnect: Duration,
    /// The command, behind all flags: one word is a line for the shell, several are a program and
    /// its arguments. {} is the item, {.} without its suffix, {/} its name, {//} its folder, {/.}
    /// the name without suffix, {#} its number. Behind ::: stand the items
    #[arg(
        value_name = "COMMAND [::: ITEM...]",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub words: Vec<String>,
}

/// The joblog of `run` and `map`.
#[derive(Debug, Args)]
pub struct JoblogArgs {
    /// Write a line for each job that ended, in GNU parallel's columns
    #[arg(long, value_name = "FILE")]
    pub joblog: Option<PathBuf>,
    /// Leave out what ended before, by the joblog, and go on with the rest
    #[arg(long, requires = "joblog")]
    pub resume: bool,
    /// Leave out only what ended well
    #[arg(long, requires = "joblog", conflicts_with = "resume")]
    pub resume_failed: bool,
}

impl JoblogArgs {
    /// Opens the log that was asked for, if one was.
    ///
    /// # Errors
    /// When it can't be used.
    pub fn open(&self) -> Result<Option<(Joblog, Done)>, JoblogError> {
        let resume = match (self.resume, self.resume_failed) {
            (_, true) => Resume::Succeeded,
            (true, _) => Resume::Ended,
            _ => Resume::No,
        };
        let path = self.joblog.as_ref();
        path.map(|path| Joblog::open(path, resume)).transpose()
    }
}
