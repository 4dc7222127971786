//! The context: libzmq's I/O threads and sockets of one process.

use std::sync::{Arc, Once};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use zmq_sys::{ZMQ_IO_THREADS, ZMQ_MAX_SOCKETS};

use super::check;
use super::error::SocketError;
use super::key::random_bytes;
use super::raw::{self, RawContext};

/// Sockets per context; libzmq's default is 1,023, and a lane needs one for each stock worker.
const SOCKETS_MAX: u64 = 65_535;

/// libzmq's I/O threads. Clones are the same context; it ends with its last socket and clone.
#[derive(Clone)]
pub struct Context {
    pub(super) raw: Arc<RawContext>,
}

impl Context {
    /// Starts a context, after raising the limits of files and sockets.
    ///
    /// The first one of a process also checks the linked libzmq ([`self_check`](check::self_check))
    /// and seeds libc's generator, from which libzmq takes routing ids and reconnect jitter: unseeded
    /// they are the same in every process.
    ///
    /// # Errors
    /// [`SocketError::SelfCheck`] when the library lacks what Muster relies on.
    pub fn new(io_threads: usize) -> Result<Self, SocketError> {
        static SEED: Once = Once::new();
        check::require()?;
        SEED.call_once(|| {
            // Without random bytes the ids stay guessable, and they are no secret by design.
            raw::seed_rand(random_bytes().map_or_else(|_| std::process::id(), u32::from_ne_bytes));
        });
        let (_, files_max) = raise_file_limit();
        let context = Self::unchecked()?;
        let set = |option, value| {
            context
                .raw
                .set(option, value)
                .map_err(SocketError::of("set up a context"))
        };
        set(
            ZMQ_IO_THREADS,
            i32::try_from(io_threads).unwrap_or(i32::MAX),
        )?;
        set(ZMQ_MAX_SOCKETS, files_max.min(SOCKETS_MAX) as i32)?;
        Ok(context)
    }

    /// A context as libzmq makes it, for the self-check.
    pub(super) fn unchecked() -> Result<Self, SocketError> {
        let raw = RawContext::new().map_err(SocketError::of("start a context"))?;
        Ok(Self { raw: Arc::new(raw) })
    }

    /// How many sockets it can hold.
    pub fn sockets_max(&self) -> usize {
        self.raw
            .get(ZMQ_MAX_SOCKETS)
            .ok()
            .and_then(|max| usize::try_from(max).ok())
            .unwrap_or(0)
    }

    /// Ends all waiting on the context's sockets, in any thread, with
    /// [`SocketError::Terminated`]. The sockets can only be dropped then.
    pub fn shutdown(&self) {
        self.raw.shutdown();
    }
}

/// Raises the process's limit of open files as far as it may; returns the limit before and now.
///
/// Children inherit the raised limit. One that uses `select` on high descriptors wants the old one.
pub fn raise_file_limit() -> (u64, u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // None is unlimited.
    let before = current.unwrap_or(u64::MAX);
    if current == maximum {
        return (before, before);
    }
    match setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    ) {
        Ok(()) => (before, maximum.unwrap_or(u64::MAX)),
        Err(_) => (before, before),
    }
}
