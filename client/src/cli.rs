//! What was typed.

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use muster_client::Target;
use muster_manual::Shell;
use muster_proto::settings::{Settings, SettingsError};
use std::path::PathBuf;
use std::time::Duration;

/// Calls on a Muster cluster, and the cluster's care.
#[derive(Debug, Parser)]
#[command(
    name = "muster",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
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
    /// List the methods on offer
    Methods(MethodsArgs),
    /// Show a method's signature and documentation
    #[command(name = "help")]
    Help(HelpArgs),
    /// Show the broker in numbers
    Status(StatusArgs),
    /// List the workers
    Workers(WorkersArgs),
    /// Show who ran how much
    Stats,
    /// List calls under way
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
    /// Add or remove a stock REP server that listens itself
    #[command(subcommand)]
    Worker(WorkerCommand),
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

/// `muster up`. Without --python and --command the worker offers its built-in functions.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// How many calls run at once; by default one for each core
    #[arg(short = 'n', long, value_name = "N")]
    pub slots: Option<u32>,
    /// Offer the functions of a Python file or module; may be given several times
    #[arg(long, value_name = "FILE|MODULE")]
    pub python: Vec<String>,
    /// Put this in front of the names of Python functions
    #[arg(long, value_name = "TEXT")]
    pub prefix: Option<String>,
    /// The Python interpreter
    #[arg(long, value_name = "PATH")]
    pub interpreter: Option<String>,
    /// Offer a command, run without a shell; {} takes the parameters; may be given several times
    #[arg(long = "command", value_name = "NAME=COMMAND")]
    pub commands: Vec<String>,
    /// Commands get their first parameter on standard input
    #[arg(long)]
    pub stdin: bool,
    /// Commands write JSON
    #[arg(long)]
    pub command_json: bool,
    /// Offer the built-in functions, too
    #[arg(long)]
    pub builtin: bool,
    /// Never run a call of methods that fit this pattern twice; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub once: Vec<String>,
    /// The worker's name; by default host and process id
    #[arg(long)]
    pub name: Option<String>,
    /// The directory the worker works in
    #[arg(long, value_name = "DIR")]
    pub chdir: Option<String>,
    /// Have the broker listen on TCP, too: clients at PORT, workers and events above it
    #[arg(long, value_name = "tcp://ADDR:PORT")]
    pub listen: Option<String>,
    /// The host that other machines are told to connect to
    #[arg(long, value_name = "HOST")]
    pub advertise: Option<String>,
    /// Ask for keys on loopback addresses, too
    #[arg(long)]
    pub curve: bool,
    /// Ask for no keys on any address
    #[arg(long)]
    pub insecure: bool,
    /// Have the broker connect to a REP server that listens itself; may be given several times
    #[arg(long = "worker", value_name = "ENDPOINT[,methods=a,b]")]
    pub workers: Vec<String>,
    /// How often a call may be started
    #[arg(long, value_name = "N")]
    pub attempts: Option<u32>,
    /// Return when the slots are ready, and go on in the background
    #[arg(long)]
    pub detach: bool,
    /// Further flags of muster-worker, as it has them
    #[arg(last = true, value_name = "WORKER FLAGS")]
    pub more: Vec<String>,
}

impl UpArgs {
    /// What of it is the broker's.
    pub fn broker_flags(&self) -> Vec<String> {
        let mut flags = Flags::default();
        flags.value("--listen", self.listen.as_ref());
        flags.value("--advertise", self.advertise.as_ref());
        flags.switch("--curve", self.curve);
        flags.switch("--insecure", self.insecure);
        flags.values("--worker", &self.workers);
        flags.value("--attempts", self.attempts.map(|n| n.to_string()).as_ref());
        flags.0
    }

    /// What of it is the worker's.
    pub fn worker_flags(&self) -> Vec<String> {
        let mut flags = Flags::default();
        flags.value("--slots", self.slots.map(|n| n.to_string()).as_ref());
        flags.values("--python", &self.python);
        flags.value("--prefix", self.prefix.as_ref());
        flags.value("--interpreter", self.interpreter.as_ref());
        flags.values("--command", &self.commands);
        flags.switch("--stdin", self.stdin);
        flags.switch("--command-json", self.command_json);
        flags.switch("--builtin", self.builtin);
        flags.values("--once", &self.once);
        flags.value("--name", self.name.as_ref());
        flags.value("--chdir", self.chdir.as_ref());
        flags.0.extend_from_slice(&self.more);
        flags.0
    }
}

/// Flags to hand on. `--flag=value` holds whatever the value begins with.
#[derive(Default)]
struct Flags(Vec<String>);

impl Flags {
    fn switch(&mut self, name: &str, is_on: bool) {
        self.0.extend(is_on.then(|| name.to_owned()));
    }

    fn value(&mut self, name: &str, value: Option<&String>) {
        self.0.extend(value.map(|value| format!("{name}={value}")));
    }

    fn values(&mut self, name: &str, values: &[String]) {
        values
            .iter()
            .for_each(|value| self.value(name, Some(value)));
    }
}

/// `muster down`
#[derive(Debug, Args)]
pub struct DownArgs {
    /// How long calls under way may go on, in seconds or like 500ms, 2m
    #[arg(long, value_name = "SECONDS", value_parser = duration, default_value = "15")]
    pub timeout: Duration,
}

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
    /// Draw no progress bar
    #[arg(long)]
    pub no_progress: bool,
}

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

/// `muster explain`, `muster cancel`
#[derive(Debug, Args)]
pub struct CallIdArgs {
    /// The call's id, such as c123
    pub id: String,
}

/// `muster wait`
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// How many slots, of any workers, lanes included
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub slots: u32,
    /// For how long, in seconds or like 500ms, 2m; 0: for ever, but the broker must be there
    #[arg(long, value_name = "SECONDS", value_parser = duration, default_value = "0")]
    pub timeout: Duration,
}

/// `muster drain`
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// The worker's name
    pub worker: String,
}

/// `muster scale`
#[derive(Debug, Args)]
pub struct ScaleArgs {
    /// The worker's name, unless there is only one, and the number of slots
    #[arg(value_name = "[WORKER] N", num_args = 1..=2, required = true)]
    pub words: Vec<String>,
}

/// `muster reload`
#[derive(Debug, Args)]
pub struct ReloadArgs {
    /// The worker's name; without one, all
    pub worker: Option<String>,
}

/// `muster worker`
#[derive(Debug, Subcommand)]
pub enum WorkerCommand {
    /// Have the broker connect to a REP server
    Add {
        /// Its address, such as tcp://HOST:5555
        endpoint: String,
        /// The only methods to send there
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        methods: Vec<String>,
    },
    /// Have the broker leave a REP server
    Remove {
        /// Its address
        endpoint: String,
    },
}

/// `muster gateway`. The token, when there is one, is in a file or in MUSTER_GATEWAY_TOKEN.
#[derive(Debug, Args)]
pub struct GatewayArgs {
    /// Where to listen; with port 0 the system picks one
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "MUSTER_GATEWAY_HTTP",
        default_value = "127.0.0.1:8080"
    )]
    pub http: String,
    /// A file with the token that callers must show; needed on other addresses than loopback
    #[arg(long, value_name = "FILE", env = "MUSTER_GATEWAY_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// A proxy in front of the gateway speaks TLS with the callers
    #[arg(long)]
    pub behind_tls_proxy: bool,
    /// Let the token travel over the network where everybody on the way can read it
    #[arg(long)]
    pub insecure: bool,
    /// Answer to this host name, too; may be given several times
    #[arg(long, value_name = "NAME")]
    pub allow_host: Vec<String>,
    /// Let callers change the cluster: drain, scale, cancel, keys
    #[arg(long)]
    pub allow_admin: bool,
    /// Deadline of calls that bring none, in seconds, or like 500ms, 2m; 0: none
    #[arg(long, value_name = "SECONDS", value_parser = duration, default_value = "0")]
    pub timeout: Duration,
    /// Longest body of a request
    #[arg(long, value_name = "BYTES", default_value_t = muster_proto::limits::BODY_BYTES_MAX)]
    pub body_bytes_max: usize,
}

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
    Duration::try_from_secs_f64(number * unit_s).map_err(|error| error.to_string())
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
