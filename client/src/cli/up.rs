//! What `muster up` takes, and what of it goes to the broker and to the worker.

use clap::Args;
use muster_proto::limits::WORKER_SLOTS_MAX;

/// `muster up`. Without --python and --command the worker offers its built-in functions.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// How many calls run at once; by default one for each core
    #[arg(short = 'n', long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(WORKER_SLOTS_MAX)))]
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
    /// Let clients of this cluster run any command on this machine (muster run)
    #[arg(long)]
    pub allow_run: bool,
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
        flags.switch("--allow-run", self.allow_run);
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
