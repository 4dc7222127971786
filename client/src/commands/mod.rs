//! The commands, one file each.

mod call;
mod calls;
mod complete;
mod control;
pub mod detach;
mod doctor;
mod down;
mod events;
mod gateway;
mod keys;
mod logs;
mod ls;
mod manual;
mod map;
mod methods;
pub mod report;
mod run;
mod stats;
mod status;
mod top;
mod trace;
mod up;
mod wait;
mod workers;

use crate::cli::{Cli, Command, Common};
use crate::joblog::JoblogError;
use crate::output::Output;
pub use ls::live_clusters;
use muster_client::{Client, ClientOptions, Error};
use muster_proto::exit::Exit;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::io;
use std::time::Duration;

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A call failed, or the broker can't be reached.
    #[error(transparent)]
    Client(#[from] Error),
    /// Standard output takes no more.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
    /// What was typed makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The cluster is not as the command needs it.
    #[error("{0}")]
    State(String),
    /// Nobody is there who could do it.
    #[error("{0}")]
    NoWorker(String),
    /// The joblog can't be used.
    #[error(transparent)]
    Joblog(#[from] JoblogError),
    /// It has been said already.
    #[error("")]
    Ended(Exit),
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// Doing what.
        what: String,
        /// What it said.
        source: io::Error,
    },
}

/// How a command ends.
pub type CommandResult = Result<Exit, Failure>;

impl Failure {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Failure::Client(error) => error.exit(),
            Failure::Usage(_) | Failure::Joblog(JoblogError::NotOurs { .. }) => Exit::Usage,
            Failure::NoWorker(_) => Exit::Unavailable,
            Failure::Joblog(_)
            | Failure::Output(_)
            | Failure::System { .. }
            | Failure::State(_) => Exit::Failed,
            Failure::Ended(exit) => *exit,
        }
    }
}

/// Carries out what was typed.
pub fn run(cli: &Cli) -> CommandResult {
    let common = &cli.common;
    let mut output = Output::new(common.json, common.quiet);
    let out = &mut output;
    let exit = match &cli.command {
        Command::Up(args) => up::run(common, args, out),
        Command::Down(args) => down::run(common, args, out),
        Command::Call(args) => call::run(common, args, out),
        Command::Map(args) => map::run(common, args, out),
        Command::Run(args) => run::run(common, args, out),
        Command::Methods(args) => methods::list(common, args, out),
        Command::Help(args) => methods::help(common, args, out),
        Command::Status(args) => status::run(common, args, out),
        Command::Workers(args) => workers::run(common, args, out),
        Command::Stats => stats::run(common, out),
        Command::Top(args) => top::run(common, args, out),
        Command::Events(args) => events::run(common, args, out),
        Command::Trace(args) => trace::run(common, args, out),
        Command::Calls(args) => calls::list(common, args, out),
        Command::Explain(args) => calls::explain(common, args, out),
        Command::Cancel(args) => calls::cancel(common, args, out),
        Command::Wait(args) => wait::run(common, args, out),
        Command::Drain(args) => control::drain(common, args, out),
        Command::Scale(args) => control::scale(common, args, out),
        Command::Reload(args) => control::reload(common, args, out),
        Command::Logs(args) => logs::run(common, args, out),
        Command::Worker(command) => control::worker(common, command, out),
        Command::Keys(command) => keys::run(common, command, out),
        Command::Gateway(args) => gateway::run(common, args, out),
        Command::Ls => ls::run(common, out),
        Command::Completions(args) => manual::completions(args, out),
        Command::Man(args) => manual::pages(args, out),
        Command::Doctor => doctor::run(common, out),
    }?;
    output.flush()?;
    Ok(exit)
}

/// Connects to the broker that was named.
fn connect(common: &Common) -> Result<Client, Failure> {
    Ok(Client::connect(&common.target())?)
}

/// The same, for work that waits this long for a broker that went away.
fn connect_patiently(common: &Common, patience: Duration) -> Result<Client, Failure> {
    let options = ClientOptions {
        patience,
        ..ClientOptions::default()
    };
    Ok(Client::connect_with(&common.target(), &options)?)
}

/// Asks the broker for an object.
fn ask(client: &Client, method: &str, params: &impl Serialize) -> Result<Value, Failure> {
    Ok(client.call(method, params)?.json()?)
}

/// Asks the broker for a list of objects, each as JSON and as a value.
fn ask_list(
    client: &Client,
    method: &str,
    params: &impl Serialize,
) -> Result<Vec<(Box<RawValue>, Value)>, Failure> {
    let objects: Vec<Box<RawValue>> = client.call(method, params)?.json()?;
    let read = |raw: Box<RawValue>| {
        let value = serde_json::from_str(raw.get()).unwrap_or(Value::Null);
        (raw, value)
    };
    Ok(objects.into_iter().map(read).collect())
}

/// Prints a list of objects: as they are with `--json`, else these members as a table.
fn print_list(
    out: &mut Output,
    objects: &[(Box<RawValue>, Value)],
    columns: &[(&str, &str)],
) -> io::Result<()> {
    if out.json {
        return objects.iter().try_for_each(|(raw, _)| out.line(raw.get()));
    }
    let (header, members): (Vec<&str>, Vec<&str>) = columns.iter().copied().unzip();
    let row = |(_, value): &(_, Value)| members.iter().map(|name| value[*name].clone()).collect();
    let rows: Vec<Vec<Value>> = objects.iter().map(row).collect();
    out.table(&header, &rows)
}

/// Runs `stop` at the first SIGINT, SIGTERM or SIGHUP, on a thread of its own.
fn on_interrupt(stop: impl Fn() + Send + 'static) -> Result<(), Failure> {
    ctrlc::set_handler(stop).map_err(|error| Failure::System {
        what: "signal handler".into(),
        source: io::Error::other(error),
    })
}
