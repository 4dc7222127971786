//! Bodies of others, passed on as they are.

use crate::client::Client;
use crate::entry::{Entry, Key, Sink};
use crate::error::Error;
use crate::handle::Handle;
use crate::request::guard;
use muster_proto::socket::Frame;
use std::sync::Arc;
use std::time::Duration;

/// A JSON-RPC body that somebody else wrote: a call, a notification or a batch, with ids of their
/// own. For programs that stand between callers and the broker.
#[derive(Debug)]
pub struct Forward {
    /// The body.
    pub body: Vec<u8>,
    /// The method that decides whether it may be sent again to a restarted broker; of several
    /// methods `system.multicall`, which never is.
    pub method: String,
    /// `meta.key` as the body has it. Without one the call can't be found again.
    pub key: Option<String>,
    /// `meta.attempts_max` of some call is 1.
    pub is_once: bool,
    /// The longest `meta.timeout_ms`; zero: some call has none.
    pub timeout: Duration,
}

/// A forwarded body under way. Dropping it does not stop it.
#[derive(Clone)]
pub struct Forwarded {
    id: u64,
    handle: Arc<Handle>,
}

impl Client {
    /// Sends a body and gives frame 0 of the reply to `done`, on the client's own thread, which
    /// `done` must not keep: it hands the reply on and returns. A notification's is empty.
    ///
    /// # Errors
    /// [`Error::TooManyCalls`], [`Error::Closed`]; `done` is not called then.
    pub fn forward(
        &self,
        forward: Forward,
        done: impl FnOnce(Result<Frame, Error>) + Send + 'static,
    ) -> Result<Forwarded, Error> {
        let handle = self.handle();
        let id = handle.ids(1);
        handle.submit(Entry {
            id,
            group: 0,
            method: forward.method.into(),
            body: forward.body.into(),
            attachments: Vec::new(),
            // The ids in the body are others', and may be the same.
            is_by_path: true,
            is_once: forward.is_once,
            key: forward.key.map_or(Key::None, Key::Given),
            timeout: forward.timeout,
            guard: guard(forward.timeout),
            sink: Sink::Call(Box::new(done)),
            is_sent: false,
        })?;
        Ok(Forwarded {
            id,
            handle: Arc::clone(handle),
        })
    }
}

impl Forwarded {
    /// Asks the broker to cancel it; without a key its reply is dropped when it comes.
    pub fn cancel(&self) {
        self.handle.cancel(self.id);
    }
}
