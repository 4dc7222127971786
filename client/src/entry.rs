//! A request on its way, and where its outcome goes.

use crate::answer::Reply;
use crate::completions::Completions;
use crate::error::Error;
use crate::map::Unit;
use crate::pending::Promise;
use muster_proto::socket::Frame;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A request on its way.
pub(crate) struct Entry {
    pub(crate) id: u64,
    /// 0, or the map it belongs to.
    pub(crate) group: u64,
    /// Empty for bodies that are no call.
    pub(crate) method: Arc<str>,
    pub(crate) body: Frame,
    pub(crate) attachments: Vec<Frame>,
    /// The reply has no id of ours: the envelope carries it.
    pub(crate) is_by_path: bool,
    /// It must not be started twice.
    pub(crate) is_once: bool,
    /// The key under which the broker knows it; empty: none.
    pub(crate) key: Key,
    /// The caller's timeout; zero: none.
    pub(crate) timeout: Duration,
    /// When this side gives up: well after the broker's own deadline.
    pub(crate) guard: Option<Instant>,
    pub(crate) sink: Sink,
    pub(crate) is_sent: bool,
}

/// What the broker knows a call by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// The client's prefix and the call's id; a batch has as many keys as calls, one by one.
    Numbered {
        /// How many.
        count: u64,
    },
    /// The caller's own.
    Given(String),
    /// It has none.
    None,
}

/// Where an outcome goes.
pub(crate) enum Sink {
    Promise(Arc<Promise>),
    /// A map's queue.
    Map(Arc<Completions<Done>>, Unit),
    /// The raw reply, unread.
    Reply(Arc<Completions<Result<Reply, Error>>>),
    /// A function that takes frame 0.
    Call(Box<dyn FnOnce(Result<Frame, Error>) + Send>),
    /// The transport's own question for the broker's status.
    Status,
    /// The transport's own question which methods may run twice.
    Methods,
    /// The transport's own wish, such as a cancel: its acknowledgement is dropped.
    Nowhere,
}

/// The end of one request of a map.
pub(crate) struct Done {
    pub(crate) unit: Unit,
    pub(crate) request: Frame,
    pub(crate) reply: Result<Reply, Error>,
}

impl Entry {
    pub(crate) fn resolve(self, reply: Result<Reply, Error>) {
        match self.sink {
            Sink::Promise(promise) => promise.resolve(reply),
            Sink::Map(queue, unit) => queue.push(Done {
                unit,
                request: self.body,
                reply,
            }),
            Sink::Reply(queue) => queue.push(reply),
            Sink::Call(done) => done(reply.map(|reply| reply.body)),
            Sink::Status | Sink::Methods | Sink::Nowhere => {}
        }
    }

    /// The transport itself made it: nobody waits for it.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self.sink, Sink::Status | Sink::Methods | Sink::Nowhere)
    }
}
