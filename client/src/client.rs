//! The client: what programs hold.

use crate::answer::Answer;
use crate::call::Call;
use crate::completions::Completions;
use crate::entry::Sink;
use crate::error::Error;
use crate::handle::Handle;
use crate::pending::{Outcome, Pending, Promise};
use crate::request;
use crate::status::{MethodEntry, Status};
use crate::target::Target;
use crate::transport::Transport;
use muster_proto::limits;
use muster_proto::socket::{Context, Frame, Wake, random_bytes};
use serde::Serialize;
use std::fmt::Write;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// How long [`Client::connect`] waits for the broker's first word.
    pub connect_timeout: Duration,
    /// How long calls wait for a broker that went away.
    pub patience: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions {
            // A command without a broker ends within a second.
            connect_timeout: Duration::from_millis(900),
            patience: Duration::from_secs(15),
        }
    }
}

/// A connection to a broker. Clones share it; any number of threads may call through it at once.
///
/// Every call carries a random key, so that it is found again when the link is reset: an answered
/// one gets the same answer, a running one goes on. When the broker itself is restarted, calls that
/// may run twice are sent again; the others end with [`Error::UnknownOutcome`].
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// Ends the thread with the last client.
struct Shared {
    handle: Arc<Handle>,
    endpoint: String,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    /// Connects to a broker.
    ///
    /// # Errors
    /// [`Error::NoBroker`] when there is none, [`Error::Silent`] when none answers,
    /// [`Error::KeyRefused`].
    pub fn connect(target: &Target) -> Result<Self, Error> {
        Self::connect_with(target, &ClientOptions::default())
    }

    /// The same, with options.
    ///
    /// # Errors
    /// Those of [`Client::connect`].
    pub fn connect_with(target: &Target, options: &ClientOptions) -> Result<Self, Error> {
        let address = target.resolve()?;
        let endpoint = address.endpoint.clone();
        let system = |what| {
            move |error: std::io::Error| Error::BadInput {
                what,
                reason: error.to_string(),
            }
        };
        let wake = Wake::new().map_err(system("eventfd"))?;
        let prefix = random_bytes::<12>().map_err(system("random bytes"))?;
        let mut key_prefix = String::new();
        for byte in prefix {
            let _ = write!(key_prefix, "{byte:02x}");
        }
        let handle = Arc::new(Handle::new(wake, key_prefix));
        let transport = Transport::new(
            Arc::clone(&handle),
            Context::new(1)?,
            target.clone(),
            options.patience,
            address,
        )?;
        let thread = std::thread::Builder::new()
            .name("muster-client".into())
            .spawn(move || transport.run())
            .map_err(system("thread"))?;
        let shared = Shared {
            handle,
            endpoint: endpoint.clone(),
            thread: Some(thread),
        };
        let client = Client {
            shared: Arc::new(shared),
        };
        client
            .shared
            .handle
            .wait_for_broker(options.connect_timeout)
            .map_err(|reason| reason.unwrap_or(Error::Silent { endpoint }))?;
        Ok(client)
    }

    /// Calls a method and waits for its result. `params`: a tuple or list is positional, a struct
    /// or map named, `()` none.
    ///
    /// # Errors
    /// [`Error::Rpc`] when the call failed; the others when it could not be made.
    pub fn call(&self, method: &str, params: &(impl Serialize + ?Sized)) -> Outcome {
        self.submit(Call::new(method, params)?)?.wait()
    }

    /// Sends a call and returns at once.
    ///
    /// # Errors
    /// [`Error::TooManyCalls`], [`Error::Closed`].
    pub fn submit(&self, call: Call) -> Result<Pending, Error> {
        let handle = &self.shared.handle;
        let id = handle.ids(1);
        let promise = Arc::new(Promise::default());
        let sink = Sink::Promise(Arc::clone(&promise));
        handle.submit(request::call(id, call, handle.key(id), sink))?;
        Ok(Pending {
            id,
            promise,
            handle: Arc::clone(handle),
        })
    }

    /// Sends a call whose outcome nobody wants; returns when the broker has it.
    ///
    /// # Errors
    /// When the broker went away.
    pub fn notify(&self, call: Call) -> Result<(), Error> {
        let handle = &self.shared.handle;
        let id = handle.ids(1);
        let queue = Arc::new(Completions::default());
        let sink = Sink::Reply(Arc::clone(&queue));
        handle.submit(request::notification(id, call, handle.key(id), sink))?;
        queue.pop(None).unwrap_or(Err(Error::Closed)).map(|_| ())
    }

    /// Sends calls in one message and waits for all of them; each has an outcome of its own.
    ///
    /// # Errors
    /// When the batch as a whole failed.
    pub fn batch(&self, calls: Vec<Call>) -> Result<Vec<Outcome>, Error> {
        let count = calls.len();
        if count > limits::BATCH_CALLS_MAX {
            let reason = format!("{count} calls, limit {}", limits::BATCH_CALLS_MAX);
            return Err(Error::BadInput {
                what: "batch",
                reason,
            });
        }
        if count == 0 {
            return Ok(Vec::new());
        }
        let handle = &self.shared.handle;
        let first = handle.ids(count as u64);
        let queue = Arc::new(Completions::default());
        let sink = Sink::Reply(Arc::clone(&queue));
        handle.submit(request::batch(first, calls, |id| handle.key(id), sink))?;
        let reply = queue.pop(None).unwrap_or(Err(Error::Closed))?;
        Answer::read_batch(&reply, first, count)
    }

    /// Sends a body that is no JSON to a worker that takes such bodies; returns its answer, frame
    /// by frame. A zero timeout: none.
    ///
    /// # Errors
    /// [`Error::Timeout`] two seconds after the timeout; when the broker went away.
    pub fn raw(&self, body: impl Into<Frame>, timeout: Duration) -> Result<Vec<Frame>, Error> {
        let handle = &self.shared.handle;
        let queue = Arc::new(Completions::default());
        let sink = Sink::Reply(Arc::clone(&queue));
        handle.submit(request::raw(handle.ids(1), body.into(), timeout, sink))?;
        let reply = queue.pop(None).unwrap_or(Err(Error::Closed))?;
        let mut frames = vec![reply.body];
        frames.extend(reply.attachments);
        Ok(frames)
    }

    /// Every method on offer, the broker's own left out.
    ///
    /// # Errors
    /// Those of [`Client::call`].
    pub fn methods(&self) -> Result<Vec<MethodEntry>, Error> {
        self.call("broker.methods", &())?.json()
    }

    /// The broker's last word on itself; `None` while it is away.
    pub fn last_status(&self) -> Option<Status> {
        self.shared.handle.status()
    }

    /// The frontend's endpoint that was found at first.
    pub fn endpoint(&self) -> &str {
        &self.shared.endpoint
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.shared.handle
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
