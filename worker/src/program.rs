//! The program `muster-worker` behind its command line: gathers the functions, says what is wrong
//! with them before anything is registered, and serves.

use crate::address::{BrokerAddress, Finder};
use crate::builtin;
use crate::child_rules::ChildRules;
use crate::command::{CommandError, CommandFunction, CommandModes, RunFunction};
use crate::crew::{Crew, Placement, SlotError};
use crate::descendants::Guard;
use crate::log_file;
use crate::python::{self, Python, StartError};
use crate::registry::{Registry, RegistryError, Runs};
use crate::rep::RepServers;
use crate::slot_orders::SlotProgram;
use crate::stopper::Stopper;
use crate::supervisor::{ServeError, Supervisor};
use crate::worker::{host_name, name_default, slots_default};
use muster_proto::socket::{Context, SocketError};
use muster_proto::worker::Method;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What was asked for on the command line, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the broker is.
    pub address: BrokerAddress,
    /// The cluster whose state directory has the log.
    pub cluster: String,
    /// How many slots; `None`: one for each core.
    pub slots: Option<u32>,
    /// The worker's name; `None`: host and process.
    pub name: Option<String>,
    /// Whether to offer the built-in functions.
    pub builtin: bool,
    /// Python modules to offer.
    pub python: Option<python::Source>,
    /// Commands to offer, each as `NAME=COMMAND`.
    pub commands: Vec<String>,
    /// How commands are run.
    pub modes: CommandModes,
    /// Whether to run commands of clients.
    pub allow_run: bool,
    /// What holds for the children.
    pub rules: ChildRules,
    /// Patterns of methods that must not run twice.
    pub once: Vec<String>,
    /// Endpoints of stock brokers; empty: a Muster broker.
    pub plain: Vec<String>,
    /// Stock servers that run the calls instead of the slots.
    pub rep: Option<RepServers>,
    /// How long what runs may go on when the worker drains.
    pub grace: Duration,
}

/// Why the program ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// A command line that cannot be offered.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Names that cannot be offered together.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Python modules that cannot be loaded.
    #[error(transparent)]
    Python(#[from] StartError),
    /// It can't serve.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A slot can't be started.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// libzmq can't be used.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The hidden subcommand was typed by hand.
    #[error("`slot` is for the worker's own use: it reads its orders from its supervisor")]
    NotASlot,
    /// Signals, descriptors or threads.
    #[error(transparent)]
    Io(io::Error),
}

/// Ends a worker program: gives it to a signal handler before [`run`].
///
/// # Errors
/// When no descriptor is left.
pub fn stopper() -> Result<Stopper, ProgramError> {
    // The first call of every program: what is counted from the start is counted from here.
    crate::child::files_max_at_start();
    Stopper::new().map_err(ProgramError::Io)
}

/// Serves until `stopper` says to end.
///
/// # Errors
/// [`ProgramError`].
pub fn run(settings: Settings, stopper: Stopper) -> Result<(), ProgramError> {
    let host = host_name();
    let name = settings.name.clone().unwrap_or_else(|| name_default(&host));
    match log_file::open(&settings.cluster, &name) {
        Ok(Some(path)) => log::debug!("worker={name}: the log is {}", path.display()),
        Ok(None) => log::debug!("worker={name}: no place for a log file"),
        Err(error) => log::warn!("worker={name}: no log file: {error}"),
    }
    let mut program = SlotProgram {
        worker: name.clone(),
        host: host.clone(),
        builtin: settings.builtin,
        commands: settings.commands,
        modes: settings.modes,
        allow_run: settings.allow_run,
        rules: settings.rules,
        python: settings.python.clone(),
        python_methods: Vec::new(),
        once: settings.once,
        plain: settings.plain.clone(),
    };
    let mut first_child = None;
    if let Some(source) = &settings.python {
        let Some((methods, child)) = load(source, &name, &host, &stopper)? else {
            return Ok(());
        };
        program.python_methods = methods;
        first_child = Some(child);
    }
    let mut registry = registry_of(&program)?;
    for method in settings.rep.iter().flat_map(RepServers::methods) {
        registry.add(method, Runs::Rep)?;
    }
    for pattern in registry.set_once(&program.once) {
        log::warn!("worker={name}: no method fits --once {pattern}");
    }
    let has_native = program.builtin;
    let crew = Crew {
        name,
        host,
        registry: Arc::new(registry),
        python: settings.python,
        plain: settings.plain,
        rep: settings.rep.clone(),
        program: Some(Box::new(program)),
        // Rust functions can only be ended with their process; the others have one anyway.
        placement: match has_native {
            true => Placement::Processes,
            false => Placement::Threads,
        },
    };
    if has_native {
        // A slot process starts its own.
        first_child = None;
    }
    let context = Context::new(1)?;
    let is_managed = crew.plain.is_empty();
    let finder = is_managed.then(|| Finder::new(settings.address, context.clone()));
    if !is_managed {
        let methods = crew.registry.len();
        log::info!(
            "worker={}: {methods} methods at {}",
            crew.name,
            crew.plain.join(", ")
        );
    }
    let slots = match &settings.rep {
        Some(servers) => servers.count(),
        None => settings.slots.unwrap_or_else(slots_default),
    };
    let guard = Guard::start(&crew.name).map_err(ProgramError::Io)?;
    let mut supervisor = Supervisor::new(context, crew, finder, slots, settings.grace, stopper)?;
    supervisor.be_guarded(guard);
    Ok(supervisor.run(first_child)?)
}

/// Runs a slot process: the hidden subcommand `slot`.
///
/// # Errors
/// [`ProgramError`].
pub fn run_slot() -> Result<(), ProgramError> {
    crate::child::files_max_at_start();
    crate::descendants::belong_to_supervisor();
    crate::hosted::run()
}

/// Waits for the worker to end and ends what it leaves behind: the hidden subcommand `guard`.
pub fn run_guard() {
    crate::descendants::guard();
}

/// Children that are started for the first load, when somebody kills one after the other.
const LOADS_MAX: u32 = 5;

/// Loads the Python modules once, in the child that will be the first slot's. `None`: the worker
/// was told to end meanwhile.
fn load(
    source: &python::Source,
    name: &str,
    host: &str,
    stopper: &Stopper,
) -> Result<Option<(Vec<Method>, Python)>, ProgramError> {
    let is_interrupted = || stopper.phase() != crate::slot::Phase::Serve;
    let mut loads = 1;
    loop {
        let mut python = Python::start(source, &format!("{name}.1"), name, host)?;
        match python.wait_loaded(stopper.wake(), is_interrupted) {
            Ok(None) => return Ok(None),
            Ok(Some(hello)) => {
                let (methods, version) = (hello.methods.len(), &hello.python);
                log::debug!("worker={name}: Python {version} offers {methods} functions");
                return Ok(Some((hello.methods, python)));
            }
            Err(error @ StartError::Ended { is_killed, .. }) if is_killed && loads < LOADS_MAX => {
                log::warn!("worker={name}: {error}; starting another one");
                loads += 1;
            }
            Err(error) => {
                if let StartError::Load(failure) = &error
                    && !failure.traceback.is_empty()
                {
                    eprint!("{}", failure.traceback);
                }
                return Err(error.into());
            }
        }
    }
}

/// The functions of a program.
pub(crate) fn registry_of(program: &SlotProgram) -> Result<Registry, ProgramError> {
    let mut registry = Registry::default();
    for method in &program.python_methods {
        registry.add(method.clone(), Runs::Python)?;
    }
    for text in &program.commands {
        let (method, command) = CommandFunction::parse(text, program.modes, &program.rules)?;
        registry.add(method, Runs::Command(command))?;
    }
    if program.allow_run {
        let rules = program.rules.clone();
        registry.add(RunFunction::method(), Runs::Run(RunFunction { rules }))?;
    }
    if program.builtin {
        for native in builtin::functions() {
            registry.add(native.method.clone(), Runs::Native(native))?;
        }
    }
    Ok(registry)
}
