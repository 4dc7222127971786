//! The embeddable worker: functions of your own program, offered to a cluster.

use crate::address::{BrokerAddress, Finder};
use crate::crew::{Crew, Placement};
use crate::native::{Callable, ContextCallable, Native};
use crate::params::Arguments;
use crate::registry::{Registry, RegistryError, Runs};
use crate::stopper::Stopper;
use crate::supervisor::{ServeError, Supervisor};
use muster_proto::socket::{Context, SocketError};
use std::sync::Arc;
use std::time::Duration;

/// How long what runs may go on when a worker is told to drain.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// Functions to be offered, and how. [`Worker::serve`] does it.
#[derive(Debug)]
pub struct Worker {
    name: Option<String>,
    slots: Option<u32>,
    grace: Duration,
    functions: Vec<Native>,
}

/// Why a worker does not come up, or ended.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Two functions have one name, or a name cannot be called.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// It can't serve.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// libzmq can't be used.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// No thread or descriptor is left.
    #[error("cannot start the worker")]
    Io(#[from] std::io::Error),
}

/// A worker that serves on threads of its own.
#[derive(Debug)]
pub struct Serving {
    stopper: Stopper,
    thread: std::thread::JoinHandle<Result<(), ServeError>>,
}

impl Default for Worker {
    fn default() -> Self {
        Self::new()
    }
}

impl Worker {
    /// A worker that offers nothing yet, with a slot for each core and a name made of host and
    /// process.
    pub fn new() -> Self {
        Worker {
            name: None,
            slots: None,
            grace: GRACE,
            functions: Vec::new(),
        }
    }

    /// Names it; the broker puts a number behind a name that is taken.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How many calls may run at once. Each slot is a thread.
    #[must_use]
    pub fn slots(mut self, slots: u32) -> Self {
        self.slots = Some(slots.max(1));
        self
    }

    /// How long what runs may go on once the worker is told to drain.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Offers a closure of up to eight arguments that serde can read. An `Option` may be left out
    /// by the caller. A panic is answered as an error.
    ///
    /// ```
    /// # use muster_worker::Worker;
    /// Worker::new().function("multiply", |x: i64, y: i64| x * y).params(["x", "y"]);
    /// ```
    #[must_use]
    pub fn function<Args: Arguments>(
        mut self,
        name: impl Into<String>,
        function: impl Callable<Args>,
    ) -> Self {
        self.functions.push(Native::new(name.into(), function));
        self
    }

    /// Offers a closure that gets the running call ([`crate::CallContext`]) as its first argument: to be
    /// cancelled, to tell progress, to take and give bytes.
    ///
    /// ```
    /// # use muster_worker::{CallContext, Worker};
    /// Worker::new().function_with_context("count", |call: &CallContext<'_>, to: u64| {
    ///     (0..to).take_while(|_| !call.is_cancelled()).count()
    /// });
    /// ```
    #[must_use]
    pub fn function_with_context<Args: Arguments>(
        mut self,
        name: impl Into<String>,
        function: impl ContextCallable<Args>,
    ) -> Self {
        self.functions
            .push(Native::with_context(name.into(), function));
        self
    }

    /// Names the parameters of the function added last.
    ///
    /// # Panics
    /// When there is none, or it has another number of parameters.
    #[must_use]
    pub fn params<const N: usize>(mut self, names: [&str; N]) -> Self {
        self.last("params")
            .set_names(names.map(str::to_owned).to_vec());
        self
    }

    /// Documents the function added last.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn doc(mut self, doc: impl Into<String>) -> Self {
        self.last("doc").method.doc = doc.into();
        self
    }

    /// Has no call of the function added last ever run twice, even if it may have been lost.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.last("once").method.once = true;
        self
    }

    fn last(&mut self, what: &str) -> &mut Native {
        match self.functions.last_mut() {
            Some(native) => native,
            None => panic!("{what}: add a function first"),
        }
    }

    /// Serves until it is told to end by the broker: it waits for the broker, joins it, and joins
    /// again whenever the broker was gone.
    ///
    /// The address is the broker's frontend (`"tcp://host:5555"`), a
    /// [`Connection`](muster_proto::connection::Connection), or `BrokerAddress::default()`: the
    /// user's own cluster on this machine.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub fn serve(self, address: impl Into<BrokerAddress>) -> Result<(), WorkerError> {
        let stopper = Stopper::new()?;
        Ok(self.supervisor(address.into(), stopper)?.run(None)?)
    }

    /// The same on a thread of its own.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub fn start(self, address: impl Into<BrokerAddress>) -> Result<Serving, WorkerError> {
        let stopper = Stopper::new()?;
        let supervisor = self.supervisor(address.into(), stopper.clone())?;
        let thread = std::thread::Builder::new()
            .name("supervisor".into())
            .spawn(move || supervisor.run(None))?;
        Ok(Serving { stopper, thread })
    }

    fn supervisor(
        self,
        address: BrokerAddress,
        stopper: Stopper,
    ) -> Result<Supervisor, WorkerError> {
        let mut registry = Registry::default();
        for native in self.functions {
            registry.add(native.method.clone(), Runs::Native(native))?;
        }
        let host = host_name();
        let crew = Crew {
            name: self.name.unwrap_or_else(|| name_default(&host)),
            host,
            registry: Arc::new(registry),
            python: None,
            plain: Vec::new(),
            rep: None,
            program: None,
            placement: Placement::Threads,
        };
        let context = Context::new(1)?;
        let finder = Finder::new(address, context.clone());
        let slots = self.slots.unwrap_or_else(slots_default);
        Ok(Supervisor::new(
            context,
            crew,
            Some(finder),
            slots,
            self.grace,
            stopper,
        )?)
    }
}

impl Serving {
    /// Ends it, from any thread.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// [`WorkerError`]: why it ended by itself.
    ///
    /// # Panics
    /// When its thread did: a flaw of this crate.
    pub fn wait(self) -> Result<(), WorkerError> {
        match self.thread.join() {
            Ok(result) => Ok(result?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// A slot for each core.
pub(crate) fn slots_default() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32)
}

/// This machine's name.
pub(crate) fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// HOST-PID: unique without asking anyone.
pub(crate) fn name_default(host: &str) -> String {
    format!("{host}-{}", std::process::id())
}
