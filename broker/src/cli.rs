//! What was typed.

use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum};
use muster_proto::limits;
use muster_proto::settings::{Settings, SettingsError};
use std::path::PathBuf;
use std::time::Duration;

/// This program's table in the user's settings.
const TABLE: &str = "broker";

/// The Muster broker: gives each call to a worker that is free, runs it again if that worker
/// dies, and resolves every call exactly once.
#[derive(Debug, Parser)]
#[command(name = "muster-broker", version)]
pub struct Cli {
    /// The cluster's name.
    #[arg(long, env = "MUSTER_CLUSTER", default_value = muster_proto::runtime::CLUSTER_DEFAULT)]
    pub cluster: String,

    /// Where the runtime directories of clusters are, instead of $XDG_RUNTIME_DIR/muster.
    #[arg(long, env = "MUSTER_RUNTIME_DIR", value_name = "DIR")]
    pub runtime_dir: Option<PathBuf>,

    /// Also listen on TCP: clients on PORT, stock REP workers on PORT+1, managed workers on
    /// PORT+2, events on PORT+3.
    #[arg(long, env = "MUSTER_LISTEN", value_name = "tcp://ADDR:PORT")]
    pub listen: Option<String>,

    /// Also listen for clients here.
    #[arg(long, env = "MUSTER_FRONTEND", value_name = "ENDPOINT")]
    pub frontend: Option<String>,

    /// Also listen for stock REP workers here.
    #[arg(long, env = "MUSTER_BACKEND", value_name = "ENDPOINT")]
    pub backend: Option<String>,

    /// Also listen for managed workers here.
    #[arg(long, env = "MUSTER_WORKERS", value_name = "ENDPOINT")]
    pub workers: Option<String>,

    /// Also publish events here.
    #[arg(long, env = "MUSTER_EVENTS", value_name = "ENDPOINT")]
    pub events: Option<String>,

    /// The host that other machines are told to connect to.
    #[arg(long, env = "MUSTER_ADVERTISE", value_name = "HOST")]
    pub advertise: Option<String>,

    /// Ask for keys on TCP even on a loopback address. Elsewhere keys are always asked for.
    #[arg(long, env = "MUSTER_CURVE", conflicts_with = "insecure")]
    pub curve: bool,

    /// Ask for no keys on any address: whoever reaches it can call every function.
    #[arg(long, env = "MUSTER_INSECURE")]
    pub insecure: bool,

    /// Connect to a REP server that listens itself; may be given several times.
    #[arg(long = "worker", value_name = "ENDPOINT[,methods=a,b]")]
    pub worker: Vec<String>,

    /// How often a call may be started when it says nothing else; 1: never again.
    #[arg(long, env = "MUSTER_ATTEMPTS", default_value_t = 3, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub attempts: u32,

    /// Deadline of calls that ask for none, such as 30, 500ms or 2m; 0: none.
    #[arg(
        long,
        env = "MUSTER_TIMEOUT",
        default_value = "0",
        value_name = "SECONDS"
    )]
    #[arg(value_parser = duration)]
    pub timeout: Duration,

    /// How long a call waits for a first worker before its method counts as unknown.
    #[arg(
        long,
        env = "MUSTER_SETTLE",
        default_value = "3",
        value_name = "SECONDS"
    )]
    #[arg(value_parser = duration)]
    pub settle: Duration,

    /// How long what runs may go on once the broker is asked to leave.
    #[arg(
        long,
        env = "MUSTER_GRACE",
        default_value = "10",
        value_name = "SECONDS"
    )]
    #[arg(value_parser = duration)]
    pub grace: Duration,

    /// Treat every body as raw: a stand-in for a plain ROUTER/DEALER queue.
    #[arg(long, env = "MUSTER_OPAQUE")]
    pub opaque: bool,

    /// How a raw call that fails is answered.
    #[arg(long, env = "MUSTER_RAW_ERRORS", default_value = "json")]
    pub raw_errors: RawErrorsArg,

    /// Calls that may wait in the broker.
    #[arg(long, default_value_t = limits::QUEUED_CALLS_MAX, value_name = "N")]
    pub queued_calls_max: usize,

    /// Bytes of the calls that may wait in the broker.
    #[arg(long, default_value_t = limits::QUEUED_BYTES_MAX, value_name = "BYTES")]
    pub queued_bytes_max: usize,

    /// Unanswered calls of one client.
    #[arg(long, default_value_t = limits::CLIENT_CALLS_MAX, value_name = "N")]
    pub client_calls_max: usize,

    /// Connections over TCP at a time; whoever comes then is refused.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub connections_max: u64,

    /// Longest body of a call.
    #[arg(long, default_value_t = limits::BODY_BYTES_MAX, value_name = "BYTES")]
    pub body_bytes_max: usize,

    /// Longest attachment of a call.
    #[arg(long, default_value_t = limits::ATTACHMENT_BYTES_MAX, value_name = "BYTES")]
    pub attachment_bytes_max: usize,

    /// Longest message with all its frames.
    #[arg(long, default_value_t = limits::MESSAGE_BYTES_MAX, value_name = "BYTES")]
    pub message_bytes_max: usize,
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
fn with_settings(settings: &Settings) -> Result<clap::Command, SettingsError> {
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

/// `--raw-errors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RawErrorsArg {
    /// With a JSON-RPC error object.
    Json,
    /// Not at all.
    Silent,
}

/// Reads `30`, `0.5`, `500ms`, `2m` or `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let (digits, unit_s) = match text {
        text if text.ends_with("ms") => (&text[..text.len() - 2], 1e-3),
        text if text.ends_with('s') => (&text[..text.len() - 1], 1.0),
        text if text.ends_with('m') => (&text[..text.len() - 1], 60.0),
        text if text.ends_with('h') => (&text[..text.len() - 1], 3600.0),
        text => (text, 1.0),
    };
    let number: f64 = digits
        .parse()
        .map_err(|_| "use a number of seconds such as 0.5, 500ms or 2m".to_owned())?;
    Duration::try_from_secs_f64(number * unit_s).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_units() {
        assert_eq!(duration("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("soon").is_err());
        assert!(duration("-1").is_err());
    }

    #[test]
    fn settings_stand_behind_what_is_typed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let text =
            "cluster = \"lab\"\n[broker]\nattempts = 5\nworker = [\"tcp://a:1\", \"tcp://b:1\"]\n";
        std::fs::write(&path, text).unwrap();
        let settings = Settings::read(&path).unwrap();
        let read = |args: &[&str]| {
            let matches = with_settings(&settings).unwrap().get_matches_from(args);
            Cli::from_arg_matches(&matches).unwrap()
        };
        let cli = read(&["muster-broker"]);
        assert_eq!((cli.cluster.as_str(), cli.attempts), ("lab", 5));
        assert_eq!(cli.worker, ["tcp://a:1", "tcp://b:1"]);
        assert_eq!(read(&["muster-broker", "--attempts", "2"]).attempts, 2);
        std::fs::write(&path, "[broker]\natempts = 3\n").unwrap();
        assert!(with_settings(&Settings::read(&path).unwrap()).is_err());
    }

    #[test]
    fn the_flags_are_well_formed() {
        Cli::command().debug_assert();
    }
}
