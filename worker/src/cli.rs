//! What can be typed after `muster-worker`.

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use muster_proto::settings::{Settings, SettingsError};
use std::path::PathBuf;

/// This program's table in the user's settings.
const TABLE: &str = "worker";

/// Hosts functions for a Muster cluster: Python modules, commands, or a few of its own.
///
/// Without --python and --command it offers its built-in functions.
#[derive(Debug, Parser)]
#[command(
    name = "muster-worker",
    version,
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Hidden>,
    #[command(flatten)]
    pub worker: WorkerArgs,
}

impl Cli {
    /// Reads what was typed, with the environment and the user's settings behind it.
    ///
    /// # Errors
    /// When the settings can't be used. Wrong usage ends the program here.
    pub fn read() -> Result<Self, SettingsError> {
        let mut matches = with_settings(&Settings::load()?)?.get_matches();
        Ok(Cli::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.exit()))
    }
}

/// The command line with the settings in the place of the flags' own defaults.
pub fn with_settings(settings: &Settings) -> Result<clap::Command, SettingsError> {
    let command = Cli::command();
    let flags: Vec<&str> = command
        .get_arguments()
        .filter_map(clap::Arg::get_long)
        .collect();
    settings.check(TABLE, &flags)?;
    Ok(command.mut_args(|arg| {
        let values = arg.get_long().map(|flag| settings.values(TABLE, flag));
        match values {
            Some(values) if !values.is_empty() => arg.default_values(values),
            _ => arg,
        }
    }))
}

/// Not for people.
#[derive(Debug, Subcommand)]
pub enum Hidden {
    /// A slot process of a worker, started by its supervisor.
    #[command(hide = true)]
    Slot {
        /// Its name, for those who list processes.
        name: String,
    },
    /// What waits for a worker to end and ends what it leaves behind.
    #[command(hide = true)]
    Guard {
        /// The worker's name, for those who list processes.
        name: String,
    },
}

/// The flags.
#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// The cluster to join, found by its runtime directory on this machine.
    #[arg(
        long,
        value_name = "NAME",
        env = "MUSTER_CLUSTER",
        default_value = "default"
    )]
    pub cluster: String,
    /// Where runtime directories are.
    #[arg(long, value_name = "DIR", env = "MUSTER_RUNTIME_DIR")]
    pub runtime_dir: Option<PathBuf>,
    /// A connection file somewhere else.
    #[arg(
        long,
        value_name = "FILE",
        env = "MUSTER_CONNECTION",
        conflicts_with = "connect"
    )]
    pub connection: Option<PathBuf>,
    /// The broker's frontend, such as tcp://host:5555.
    #[arg(long, value_name = "ENDPOINT", env = "MUSTER_CONNECT")]
    pub connect: Option<String>,

    /// How many calls run at once; by default one for each core.
    #[arg(short = 'n', long, value_name = "N", env = "MUSTER_SLOTS")]
    pub slots: Option<u32>,
    /// The worker's name; by default host and process id. Its slots are NAME.1 to NAME.N.
    #[arg(long, env = "MUSTER_NAME")]
    pub name: Option<String>,
    /// Seconds that running calls may go on when the worker is told to end.
    #[arg(
        long,
        value_name = "SECONDS",
        env = "MUSTER_GRACE",
        default_value_t = 10.0
    )]
    pub grace: f64,
    /// The directory to work in.
    #[arg(long, value_name = "DIR")]
    pub chdir: Option<PathBuf>,

    /// Offer the public functions of a Python file or module; can be given more than once.
    #[arg(long, value_name = "FILE|MODULE")]
    pub python: Vec<String>,
    /// Put this in front of the names of Python functions.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub prefix: String,
    /// The Python interpreter.
    #[arg(
        long,
        value_name = "PATH",
        env = "MUSTER_INTERPRETER",
        default_value = "python3"
    )]
    pub interpreter: String,

    /// Call this function once in each Python process before it serves: MODULE:FUNCTION.
    #[arg(long, value_name = "MODULE:FUNCTION")]
    pub init: Option<String>,
    /// Run Python functions that clients send: whoever may call can run any code here.
    #[arg(long, conflicts_with = "plain")]
    pub allow_apply: bool,

    /// Replace a Python process after this many calls, or items of a map, between two calls.
    #[arg(long, value_name = "CALLS", env = "MUSTER_RECYCLE")]
    pub recycle: Option<u32>,

    /// Offer a command; {} takes the parameters. Run without a shell, unless --shell is there; can be
    /// given more than once.
    #[arg(long = "command", value_name = "NAME=COMMAND")]
    pub commands: Vec<String>,
    /// Commands get their first parameter on standard input.
    #[arg(long)]
    pub stdin: bool,
    /// Commands are lines for /bin/sh; {} stands for "$@", so that no parameter is read as shell.
    #[arg(long)]
    pub shell: bool,
    /// Commands write JSON.
    #[arg(long)]
    pub command_json: bool,

    /// Run programs that clients name (`muster run`): whoever may call can run anything here.
    #[arg(long, env = "MUSTER_ALLOW_RUN")]
    pub allow_run: bool,

    /// How much memory, such as 512M, a Python process or a command may have with all that it started;
    /// beyond it is ended. Resident memory is looked at 20 times a second.
    #[arg(long, value_name = "SIZE", env = "MUSTER_MEMORY_MAX")]
    pub memory_max: Option<String>,
    /// Give Python processes and commands only a few environment variables, not all of the worker's:
    /// PATH, HOME, USER, LOGNAME, SHELL, LANG, LANGUAGE, LC_*, TZ, TMPDIR, XDG_RUNTIME_DIR,
    /// XDG_STATE_HOME, MUSTER_*.
    #[arg(long, env = "MUSTER_CLEAN_ENV")]
    pub clean_env: bool,
    /// With --clean-env: this one, too (or all that begin so: AWS_*); can be given more than once.
    #[arg(long, value_name = "NAME")]
    pub keep_env: Vec<String>,

    /// Offer the built-in functions, too.
    #[arg(long)]
    pub builtin: bool,
    /// Never run a call of methods that fit this pattern twice; can be given more than once.
    #[arg(long, value_name = "GLOB")]
    pub once: Vec<String>,
    /// Stand in front of a stock REP server that listens there, so that its calls are managed; can be
    /// given more than once, for a slot each. Without methods it gets raw bodies.
    #[arg(
        long,
        value_name = "ENDPOINT[,methods=a,b]",
        conflicts_with_all = ["python", "allow_apply", "commands", "builtin", "plain"]
    )]
    pub rep: Vec<String>,
    /// Serve a stock ROUTER/DEALER broker at this endpoint instead; can be given more than once.
    #[arg(long, value_name = "ENDPOINT", conflicts_with_all = ["connect", "connection"])]
    pub plain: Vec<String>,
}
