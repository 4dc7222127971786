//! The splice: stock workers dial one port, and each gets a socket of its own.
//!
//! libzmq has no way to give each connection of a listener to a socket of its own. So the splice
//! owns the listeners, accepts each connection and greets it; a peer that does not speak ZMTP is
//! dropped before anybody hears of it (`greeting`). It also dials servers that listen themselves,
//! and serves them the same way. One thread serves all links and never waits for any of them
//! (`thread`, `link`).
//!
//! A keyless peer of ZMTP 3 has the rest of the handshake here, and its connection is handed to the
//! broker's loop, which speaks with it itself (`crate::lines`). For any other peer, which has CURVE
//! or is of ZMTP 2, the loop connects a DEALER to a private endpoint (`door`), and the splice copies
//! the bytes between the two, with at most a buffer for each direction that is stuck (`joint`,
//! `flow`).
//!
//! Either way life is judged by bytes, which is better than ZMTP's own heartbeat: that cuts a peer
//! whose large frame takes longer than the timeout (`silence`).

mod address;
mod common;
mod dial;
mod door;
mod event;
mod flow;
mod frames;
mod greeting;
mod handshake;
#[doc(hidden)]
pub mod hostile;
mod joint;
mod link;
mod listener;
mod pipe;
mod shared;
pub(crate) mod silence;
mod stage;
mod thread;
mod turns;
pub(crate) mod wire;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use muster_proto::limits;

pub use event::{
    Arrival, Connection, DialId, GoneReason, LinkId, Origin, PeerProcess, SpliceEvent, Way,
};

use crate::epoll::Epoll;
use address::Address;
use common::Common;
pub(crate) use common::ticks;
use door::Door;
use flow::Spares;
use listener::Listener;
use shared::{Command, Shared};
use thread::SpliceThread;

/// The grain of the splice's timeouts.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// How the splice is set up.
#[derive(Clone, Debug)]
pub struct SpliceConfig {
    /// Where workers dial.
    pub listeners: Vec<Listen>,
    /// Where the private endpoints are: a folder that nobody else can enter, and no other broker
    /// uses.
    pub runtime_dir: PathBuf,
    /// Links at a time, those that have yet to prove themselves included. Whoever comes when there
    /// are so many waits until one ends.
    pub connections_max: usize,
    /// How long a peer may take to greet, and again to finish the handshake.
    pub handshake: Duration,
    /// What each of them may cost.
    pub limits: LinkLimits,
}

/// What a link may cost.
#[derive(Clone, Copy, Debug)]
pub struct LinkLimits {
    /// How long a peer may leave a PING unanswered.
    pub silence: Duration,
    /// Bytes of an unfinished message.
    pub message_bytes_max: u64,
    /// Frames of an unfinished message.
    pub message_frames_max: u32,
}

/// A listening endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// `tcp://ADDRESS:PORT`, `*` for any, or `ipc://PATH`.
    pub endpoint: String,
    /// Whether peers must use CURVE. Without, they must not.
    pub curve: bool,
}

impl SpliceConfig {
    /// The usual limits, and no listeners.
    pub fn new(runtime_dir: impl Into<PathBuf>) -> Self {
        SpliceConfig {
            listeners: Vec::new(),
            runtime_dir: runtime_dir.into(),
            connections_max: 10_000,
            handshake: Duration::from_millis(limits::HANDSHAKE_MS.into()),
            limits: LinkLimits {
                silence: Duration::from_millis(
                    limits::HEARTBEAT_MS * limits::HEARTBEATS_MISSED_MAX,
                ),
                message_bytes_max: limits::LINK_BYTES_MAX as u64,
                message_frames_max: 10_000,
            },
        }
    }
}

/// Why the splice can't start or dial.
#[derive(Debug, thiserror::Error)]
pub enum SpliceError {
    /// The text is no endpoint.
    #[error("{endpoint:?} is not a usable endpoint: {reason}")]
    BadEndpoint {
        /// The endpoint as given.
        endpoint: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A local socket's path does not fit the system's address structure.
    #[error("socket path {} is over {bytes_max} bytes: choose a shorter runtime directory", path.display())]
    PathTooLong {
        /// The path, or the folder that leaves no room for one.
        path: PathBuf,
        /// The longest that works.
        bytes_max: usize,
    },
    /// Somebody listens there.
    #[error("{endpoint} is in use by another process")]
    AddressInUse {
        /// The endpoint as given.
        endpoint: String,
    },
    /// The system refused to listen there.
    #[error("{endpoint}: {source}")]
    Listen {
        /// The endpoint as given.
        endpoint: String,
        /// Its reason.
        source: io::Error,
    },
    /// The runtime directory, or a descriptor, could not be used.
    #[error("start the splice: {0}")]
    Start(#[source] io::Error),
}

/// The running splice. Dropping it stops it.
pub struct Splice {
    shared: Arc<Shared>,
    bound: Vec<String>,
    next_dial: u64,
    limits: LinkLimits,
    thread: Option<JoinHandle<()>>,
}

impl Splice {
    /// Listens, and starts the thread.
    ///
    /// # Errors
    /// [`SpliceError`], with the endpoint at fault.
    pub fn start(config: SpliceConfig) -> Result<Self, SpliceError> {
        let folder = &config.runtime_dir;
        if !Door::fits(folder) {
            let bytes_max = muster_proto::runtime::IPC_PATH_BYTES_MAX;
            return Err(SpliceError::PathTooLong {
                path: folder.clone(),
                bytes_max,
            });
        }
        Door::sweep(folder).map_err(SpliceError::Start)?;
        let listeners = config
            .listeners
            .iter()
            .map(Listener::open)
            .collect::<Result<Vec<_>, _>>()?;
        let bound = listeners
            .iter()
            .map(|listener| listener.bound().to_owned())
            .collect();
        let limits = config.limits;
        let start = || -> io::Result<(Arc<Shared>, JoinHandle<()>)> {
            let shared = Arc::new(Shared::new()?);
            let common = Common {
                epoll: Epoll::new()?,
                spares: Spares::default(),
                config,
                tick: 0,
                turns: turns::Turns::new(Instant::now()),
            };
            let thread = SpliceThread::new(Arc::clone(&shared), common, listeners)?;
            let name = std::thread::Builder::new().name("splice".into());
            let guard = Arc::clone(&shared);
            let run = move || {
                let _guard = Guard(guard);
                thread.run();
            };
            Ok((shared, name.spawn(run)?))
        };
        let (shared, thread) = start().map_err(SpliceError::Start)?;
        Ok(Splice {
            shared,
            bound,
            next_dial: 1,
            limits,
            thread: Some(thread),
        })
    }

    /// Where it listens, in the order of the configuration, with the ports that the system picked.
    pub fn bound(&self) -> &[String] {
        &self.bound
    }

    /// The next event. Ask until there is none, then wait for the splice's descriptor.
    pub fn try_event(&mut self) -> Option<SpliceEvent> {
        self.shared.events.pop()
    }

    /// Connects to a server that listens itself, whenever it is there. Each time it arrives like
    /// a peer that dialled.
    ///
    /// # Errors
    /// [`SpliceError::BadEndpoint`] or [`SpliceError::PathTooLong`]. That nobody listens is none.
    pub fn dial(&mut self, endpoint: &str, curve: bool) -> Result<DialId, SpliceError> {
        let address = Address::parse(endpoint)?;
        let unusable = match &address {
            Address::Tcp { port: 0, .. } => Some("it has no port"),
            Address::Tcp { host, .. } if host == "*" => Some("it has no host"),
            _ => None,
        };
        if let Some(reason) = unusable {
            return Err(SpliceError::BadEndpoint {
                endpoint: endpoint.to_owned(),
                reason,
            });
        }
        let id = DialId(self.next_dial);
        self.next_dial += 1;
        self.shared.command(Command::Dial {
            id,
            endpoint: endpoint.to_owned(),
            address,
            curve,
        });
        Ok(id)
    }

    /// Connects to it no more, and closes its link.
    pub fn undial(&mut self, dial: DialId) {
        self.shared.command(Command::Undial(dial));
    }

    /// Ends a link. [`SpliceEvent::Gone`] follows, unless it was gone already.
    pub fn close(&mut self, link: LinkId) {
        self.shared.command(Command::Close(link));
    }

    /// A link whose connection was handed over has ended.
    pub fn release(&mut self, link: LinkId) {
        self.shared.command(Command::Release(link));
    }

    /// The limits that its links are held to.
    pub fn limits(&self) -> LinkLimits {
        self.limits
    }

    /// Connections at the moment, those that have yet to prove themselves included.
    pub fn links(&self) -> usize {
        self.shared.links.load(Ordering::Relaxed)
    }

    /// Connections dropped so far because they were no workers.
    pub fn strangers(&self) -> u64 {
        self.shared.strangers.load(Ordering::Relaxed)
    }

    /// Closes every link and listener. Events are told no more.
    pub fn stop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::Release);
        self.shared.wake.wake();
        if let Some(thread) = self.thread.take() {
            // It has told its panic on standard error.
            let _ = thread.join();
        }
    }
}

/// Ends the process when the thread ends unasked: a broker whose lanes have died without a word
/// would leave their calls hanging, and whoever started it starts it again.
struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.0.is_stopped.load(Ordering::Acquire) {
            std::process::abort();
        }
    }
}

impl AsFd for Splice {
    /// Readable while [`try_event`](Splice::try_event) has something.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.events.wake().as_fd()
    }
}

impl Drop for Splice {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Splice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Splice")
            .field("bound", &self.bound)
            .finish_non_exhaustive()
    }
}
