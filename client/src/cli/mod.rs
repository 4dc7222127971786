//! What was typed: a file for each kind of command.

mod call;
mod care;
mod gateway;
mod keys;
mod logs;
mod manual;
mod run;
mod up;
mod watch;

pub use call::{CallArgs, MapArgs};
pub use care::{CallIdArgs, DownArgs, DrainArgs, ReloadArgs, ScaleArgs, WaitArgs, WorkerCommand};
pub use gateway::GatewayArgs;
pub use keys::{KeysCommand, NewKeyArgs, RevokeKeyArgs};
pub use logs::LogsArgs;
pub use manual::{CompletionsArgs, ManArgs};
pub use run::RunArgs;
pub use up::UpArgs;
pub use watch::{
    CallsArgs, EventsArgs, HelpArgs, MethodsArgs, StatusArgs, TopArgs, TraceArgs, WorkersArgs,
};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use muster_client::Target;
use muster_proto::settings::{Settings, SettingsError};
use std::path::PathBuf;
use std::time::Duration;

/// What somebody who has never used it is to try.
const START: &str = "\
First steps:
  muster up --detach -n 4        a broker and four slots on this machine
  muster call multiply 5 3       one call
  seq 100 | muster map is_even   many, spread over the slots
  muster top                     watch them
  muster down                    end it

`muster COMMAND --help` has the flags of a command.";

/// Calls on a Muster cluster, and the cluster's care.
#[derive(Debug, Parser)]
#[command(
    name = "muster",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    after_help = START
)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
    /// Which command.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads what was typed, with the environment and the user's settings behind it.
    ///
    /// # Errors
    /// When the settings can't be used. Wrong usage ends the program here.
    pub fn read() -> Result<Self, SettingsError> {
        let command = with_settings(Cli::command(), &Settings::load()?)?;
        let mut matches = command.get_matches();
        Ok(Cli::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.exit()))
    }
}

/// Puts the settings in the place of the flags' own defaults.
fn with_settings(
    command: clap::Command,
    settings: &Settings,
) -> Result<clap::Command, SettingsError> {
    let common: Vec<String> = command.get_arguments().filter_map(long).collect();
    // `[worker]` is the table of muster-worker, not of `muster worker`, which has no flags to set.
    let is_ours = |inner: &clap::Command| inner.get_name() != "worker";
    for inner in command.get_subcommands().filter(|inner| is_ours(inner)) {
        let own: Vec<String> = inner.get_arguments().filter_map(long).collect();
        let flags: Vec<&str> = own.iter().chain(&common).map(String::as_str).collect();
        settings.check(inner.get_name(), &flags)?;
    }
    // Global flags are given to the commands later on, so their defaults come from the top alone.
    let command = command.mut_args(|arg| with_default(arg, "", settings));
    Ok(command.mut_subcommands(|inner| {
        if !is_ours(&inner) {
            return inner;
        }
        let table = inner.get_name().to_owned();
        inner.mut_args(|arg| with_default(arg, &table, settings))
    }))
}

fn long(arg: &clap::Arg) -> Option<String> {
    arg.get_long().map(str::to_owned)
}

fn with_default(arg: clap::Arg, table: &str, settings: &Settings) -> clap::Arg {
    // `--timeout -1` is a wrong number, not a flag `-1`.
    let arg = match arg.get_long().is_some() && arg.get_action().takes_values() {
        true => arg.allow_negative_numbers(true),
        false => arg,
    };
    let values = arg
        .get_long()
        .map(|flag| settings.values(table, flag))
        .unwrap_or_default();
    if values.is_empty() {
        arg
    } else {
        arg.default_values(values)
    }
}

/// What every command takes.
#[derive(Debug, Args)]
pub struct Common {
    /// The cluster's name (default: default)
    #[arg(
        long,
        global = true,
        env = "MUSTER_CLUSTER",
        value_name = "NAME",
        display_order = 100
    )]
    pub cluster: Option<String>,
    /// Where the runtime directories of clusters are, instead of $XDG_RUNTIME_DIR/muster
    #[arg(
        long,
        global = true,
        env = "MUSTER_RUNTIME_DIR",
        value_name = "DIR",
        display_order = 100
    )]
    pub runtime_dir: Option<PathBuf>,
    /// A connection file to use, such as one copied from another machine
    #[arg(
        long,
        global = true,
        env = "MUSTER_CONNECTION",
        value_name = "FILE",
        display_order = 100
    )]
    pub connection: Option<PathBuf>,
    /// The frontend's address, such as tcp://HOST:PORT, instead of the connection file's
    #[arg(
        long,
        global = true,
        env = "MUSTER_ENDPOINT",
        value_name = "ADDRESS",
        display_order = 100
    )]
    pub endpoint: Option<String>,
    /// Print JSON, one object a line
    #[arg(long, global = true, display_order = 101)]
    pub json: bool,
    /// Say nothing that is neither a result nor an error
    #[arg(short, long, global = true, display_order = 101)]
    pub quiet: bool,
}

impl Common {
    /// The broker that is meant.
    pub fn target(&self) -> Target {
        Target {
            cluster: self.cluster.clone(),
            runtime_dir: self.runtime_dir.clone(),
            connection: self.connection.clone(),
            endpoint: self.endpoint.clone(),
        }
    }
}

/// The commands, one file each in `commands/`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a broker and a worker here; Ctrl-C ends both
    Up(UpArgs),
    /// End the cluster that runs here
    Down(DownArgs),
    /// Call a method and print its result
    Call(CallArgs),
    /// Apply a method to every line of a file or of standard input
    Map(MapArgs),
    /// Run a command for each item, on workers that allow it
    Run(RunArgs),
    /// List the methods on offer
    Methods(MethodsArgs),
    /// Show a method's signature and documentation
    #[command(name = "help")]
    Help(HelpArgs),
    /// Show the broker in numbers
    Status(StatusArgs),
    /// List the workers
    Workers(WorkersArgs),
    /// Show who ran how much, and what takes how long
    Stats,
    /// Watch the cluster live
    Top(TopArgs),
    /// Print what happens, as it happens
    Events(EventsArgs),
    /// Print each call as it ends: where it waited and ran, and for how long
    Trace(TraceArgs),
    /// List calls under way, or recent ones that failed or were slow
    Calls(CallsArgs),
    /// Say where a call is and why
    Explain(CallIdArgs),
    /// Cancel a call
    Cancel(CallIdArgs),
    /// Wait until slots are ready
    Wait(WaitArgs),
    /// Let a worker finish what it runs and leave
    Drain(DrainArgs),
    /// Set a worker's number of slots
    Scale(ScaleArgs),
    /// Have workers read their files again, slot by slot
    Reload(ReloadArgs),
    /// Show the log of a worker of this machine
    Logs(LogsArgs),
    /// Add or remove a stock REP server that listens itself
    #[command(subcommand)]
    Worker(WorkerCommand),
    /// Make, list and revoke the keys that let others in over TCP
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Offer the cluster over HTTP: JSON-RPC, XML-RPC, metrics and a page to watch it by
    Gateway(GatewayArgs),
    /// List the clusters found on this machine
    Ls,
    /// Say what was found where, and what is wrong
    Doctor,
    /// Print a script that completes commands and flags in a shell
    Completions(CompletionsArgs),
    /// Write the manual pages of Muster's programs
    Man(ManArgs),
}

/// Reads `30`, `0.5`, `500ms`, `2m` or `1h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let unit = units
        .iter()
        .find_map(|(unit, s)| Some((text.strip_suffix(unit)?, *s)));
    let (digits, unit_s) = unit.unwrap_or((text, 1.0));
    let number: f64 = digits
        .parse()
        .map_err(|_| "use seconds such as 0.5, or 500ms, 2m, 1h".to_owned())?;
    Duration::try_from_secs_f64(number * unit_s)
        .map_err(|_| "use a length of time from 0 on, such as 0.5, 500ms, 2m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn settings_stand_behind_what_is_typed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let text = "cluster = \"lab\"\nquiet = true\n[map]\ntimeout = \"2m\"\nspread = true\n\
                    [up]\npython = [\"a\", \"b\"]\n";
        std::fs::write(&path, text).unwrap();
        let settings = Settings::read(&path).unwrap();
        let read = |args: &[&str]| {
            let command = with_settings(Cli::command(), &settings).unwrap();
            Cli::from_arg_matches(&command.get_matches_from(args)).unwrap()
        };
        let cli = read(&["muster", "map", "m"]);
        assert_eq!(
            (cli.common.cluster.as_deref(), cli.common.quiet),
            (Some("lab"), true)
        );
        let Command::Map(map) = cli.command else {
            panic!()
        };
        assert_eq!((map.timeout, map.spread), (Duration::from_secs(120), true));
        let cli = read(&["muster", "map", "m", "--timeout", "1", "--cluster", "x"]);
        assert_eq!(cli.common.cluster.as_deref(), Some("x"));
        let Command::Map(map) = cli.command else {
            panic!()
        };
        assert_eq!(map.timeout, Duration::from_secs(1));
        let Command::Up(up) = read(&["muster", "up"]).command else {
            panic!()
        };
        assert_eq!(up.python, ["a", "b"]);
        std::fs::write(&path, "[map]\ntimout = 3\n").unwrap();
        let wrong = Settings::read(&path).unwrap();
        assert!(with_settings(Cli::command(), &wrong).is_err());
    }

    #[test]
    fn durations_take_units() {
        assert_eq!(duration("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["soon", "-1", "", "ms"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(duration("-1").unwrap_err().contains("from 0 on"));
    }

    #[test]
    fn up_refuses_a_number_of_slots_that_no_worker_can_have() {
        for (slots, is_fine) in [("0", false), ("1", true), ("4096", true), ("4097", false)] {
            let read = Cli::try_parse_from(["muster", "up", "-n", slots]);
            assert_eq!(read.is_ok(), is_fine, "{slots}");
        }
    }

    #[test]
    fn arguments_may_be_negative_numbers_and_flags_may_follow_them() {
        let cli = Cli::parse_from([
            "muster",
            "call",
            "add",
            "-1",
            "2.5",
            "--json",
            "--timeout",
            "2m",
        ]);
        let Command::Call(call) = cli.command else {
            panic!()
        };
        assert_eq!(call.args, ["-1", "2.5"]);
        assert!(cli.common.json);
        assert_eq!(call.timeout, Duration::from_secs(120));
    }
}
