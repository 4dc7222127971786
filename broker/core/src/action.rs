//! What the core wants done.

use crate::event::Ending;
use crate::note::Note;
use crate::{ClientId, MonoTime, SlotId};
use muster_proto::id::{CallId, DispatchId};
use std::time::Duration;

/// One thing for the caller to do, now and in this order.
#[derive(Debug, PartialEq)]
pub enum Action<Q, R> {
    /// Hand the call to the slot. Its request is at [`crate::Core::request`].
    Dispatch {
        /// The slot.
        slot: SlotId,
        /// The fence.
        dispatch: DispatchId,
        /// Counts the slot's calls, from 1.
        seq: u32,
        /// Time left until the deadline.
        remaining: Option<Duration>,
        /// Flush what was handed over before: this call may take long.
        is_long: bool,
    },
    /// Answer a call.
    Answer {
        /// The connection to answer on.
        client: ClientId,
        /// The call.
        call: CallId,
        /// Its request.
        request: Q,
        /// How it ended.
        outcome: Outcome<R>,
    },
    /// Answer a batch: its items in order, notifications left out.
    AnswerBatch {
        /// The connection to answer on.
        client: ClientId,
        /// What came with the batch.
        envelope: Q,
        /// Requests and outcomes; `None`: the request itself says how it was refused.
        items: Vec<(Q, Option<Outcome<R>>)>,
    },
    /// A notification is admitted or refused: the one that sent it may go on.
    Acknowledge {
        /// The connection.
        client: ClientId,
        /// The request's envelope for the answer. Whether it is still queued is not its matter.
        call: CallId,
    },
    /// A refused notification: the same, and the request is given back.
    AcknowledgeRefused {
        /// The connection.
        client: ClientId,
        /// The request.
        request: Q,
    },
    /// Tell the worker to stop running a dispatch.
    Cancel {
        /// The slot.
        slot: SlotId,
        /// Its number there.
        seq: u32,
        /// The dispatch.
        dispatch: DispatchId,
    },
    /// Ask the worker to give back a dispatch that has not started.
    Recall {
        /// The slot.
        slot: SlotId,
        /// Its number there.
        seq: u32,
        /// The dispatch.
        dispatch: DispatchId,
    },
    /// Ask a worker for a slot that serves the calls inside another, and no others.
    OpenSlot {
        /// Which worker.
        worker: crate::WorkerId,
        /// For the calls inside this one.
        nest: crate::NestId,
    },
    /// That slot is not needed any more.
    CloseSlot {
        /// Which.
        slot: SlotId,
    },
    /// Close the link of a slot that does not behave, which is gone then.
    CloseLink {
        /// The slot, a lane or one of a managed worker.
        slot: SlotId,
    },
    /// A worker stayed silent: forget its links.
    ForgetWorker {
        /// Which.
        worker: crate::WorkerId,
    },
    /// Tell whoever watches.
    Note(Note),
    /// Everything is answered and the drain is over.
    Drained,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<R> {
    /// A slot answered; `is_error` tells which of the two it is.
    Replied {
        /// The answer.
        reply: R,
        /// An error of the function, not a result.
        is_error: bool,
    },
    /// It ended otherwise.
    Failed(Failure),
}

/// Why a call has no answer of a function.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// Nobody offers the method.
    MethodNotFound {
        /// There is no worker at all.
        no_workers: bool,
    },
    /// Its deadline passed.
    DeadlineExceeded {
        /// It had started.
        was_running: bool,
    },
    /// It was lost with its workers once too often.
    WorkerLost {
        /// Each charged attempt.
        attempts: Vec<Attempt>,
    },
    /// A cap is reached.
    Overloaded {
        /// Which.
        limit: &'static str,
        /// How much it allows.
        max: usize,
    },
    /// Somebody cancelled it.
    Cancelled {
        /// Who.
        by: Box<str>,
    },
    /// The broker is leaving.
    Draining,
    /// The slot's answer can't be read.
    BadReply {
        /// The worker's name.
        worker: Box<str>,
    },
}

impl Failure {
    /// Bytes that keeping it costs, roughly.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Failure::WorkerLost { attempts } => attempts
                .iter()
                .map(|attempt| size_of::<Attempt>() + attempt.ending.stderr_tail.len())
                .sum(),
            Failure::Cancelled { by } => by.len(),
            Failure::BadReply { worker } => worker.len(),
            _ => 0,
        }
    }
}

/// One start of a call that ended with its slot.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// The slot, as NAME.NUMBER, or the lane's name.
    pub slot: Box<str>,
    /// The worker's name.
    pub worker: Box<str>,
    /// Its host.
    pub host: Box<str>,
    /// The process that ran it, if known.
    pub pid: Option<u32>,
    /// When it was dispatched.
    pub started: MonoTime,
    /// How long until it was lost.
    pub elapsed: Duration,
    /// How the slot ended.
    pub ending: Ending,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_costs_what_it_says() {
        assert_eq!(Failure::Draining.bytes(), 0);
        assert_eq!(Failure::Cancelled { by: "admin".into() }.bytes(), 5);
        let worker = "w1".into();
        assert_eq!(Failure::BadReply { worker }.bytes(), 2);
        let attempt = Attempt {
            slot: "w1.1".into(),
            worker: "w1".into(),
            host: "host".into(),
            pid: None,
            started: MonoTime::ZERO,
            elapsed: Duration::ZERO,
            ending: Ending {
                stderr_tail: "last words".into(),
                ..Ending::default()
            },
        };
        let attempts = vec![attempt.clone(), attempt];
        let lost = Failure::WorkerLost { attempts };
        assert_eq!(lost.bytes(), 2 * (size_of::<Attempt>() + 10));
    }
}
