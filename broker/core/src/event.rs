//! What the core is told.

use crate::{ClientId, NestId, SlotId, WorkerId};
use muster_proto::id::{CallId, DispatchId};
use std::collections::BTreeSet;
use std::time::Duration;

/// What the core asks of the caller's request type.
pub trait Request {
    /// Bytes that keeping it costs, for the caps.
    fn bytes(&self) -> usize;
}

/// What the core asks of the caller's reply type; a clone is kept for keyed calls.
pub trait Reply: Clone {
    /// Bytes that keeping it costs, for the caps.
    fn bytes(&self) -> usize;
}

/// A call to take on. `Q` is the caller's own: what it needs to dispatch and answer the call.
#[derive(Debug)]
pub struct NewCall<Q> {
    /// Whom it is for.
    pub target: Target,
    /// Kept until the call is resolved, then given back with its outcome.
    pub request: Q,
    /// No answer is wanted: it is acknowledged now and its outcome dropped.
    pub is_notification: bool,
    /// Its deadline, counted from now; `None`: the default of [`crate::Config`]; zero: none.
    pub timeout: Option<Duration>,
    /// How often it may be started; `None`: the default.
    pub attempts_max: Option<u32>,
    /// -10 to 10.
    pub priority: i8,
    /// Items of a map chunk; 1: a plain call. For fairness and estimates.
    pub items: u32,
    /// Names the call across its client's connections; already scoped to the client's user.
    pub key: Option<Box<str>>,
    /// The call inside which it is made.
    pub parent: Option<CallId>,
}

/// Whom a call is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// Any slot that offers this method.
    Method(Box<str>),
    /// A slot of the worker with this name.
    MethodAt {
        /// The method.
        method: Box<str>,
        /// The worker's name.
        worker: Box<str>,
    },
    /// Any slot that takes raw bodies.
    Raw,
    /// A slot of this worker that takes raw bodies.
    RawAt(Box<str>),
}

impl Target {
    /// The worker it is addressed to.
    #[inline]
    pub(crate) fn worker(&self) -> Option<&str> {
        match self {
            Target::MethodAt { worker, .. } | Target::RawAt(worker) => Some(worker),
            Target::Method(_) | Target::Raw => None,
        }
    }
}

/// One item of a batch: a call, or one that was refused before it got here.
#[derive(Debug)]
pub enum BatchItem<Q> {
    /// To be taken on.
    Call(NewCall<Q>),
    /// To be answered with what the request itself says.
    Refused(Q),
}

/// A worker as it introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerSpec {
    /// Its unique name.
    pub name: String,
    /// Its host.
    pub host: String,
    /// Its process there, if known.
    pub pid: Option<u32>,
    /// Managed or lane.
    pub kind: WorkerKind,
    /// How many slots it will have.
    pub slots: u32,
    /// What it offers.
    pub offer: Offer,
}

/// How a worker is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkerKind {
    /// It speaks the worker protocol: registers, beats, can be told to cancel and recall.
    Managed,
    /// A stock REP behind a DEALER of its own: a link and nothing else.
    Lane,
}

/// What a worker's slots can run. Slots with equal offers form a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offer {
    /// Its methods by name, and whether each must never run twice.
    pub methods: BTreeSet<(Box<str>, Once)>,
    /// It also takes methods nobody registered (a lane that named none).
    pub anything: bool,
    /// It takes raw bodies.
    pub raw: bool,
}

/// Whether a call that may have started must never be started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Once {
    /// It may run again.
    No,
    /// At most once.
    Yes,
}

/// How a slot's answer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A result.
    Result,
    /// An error of the function.
    Error,
    /// A lane says that it does not know the method.
    MethodNotFound,
    /// It can't be read as an answer.
    Garbage,
}

/// How a slot or its child ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// The link closed and nothing more is known.
    pub reason: EndReason,
    /// The child's exit code.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether memory ran out.
    pub out_of_memory: bool,
    /// The last lines of its standard error.
    pub stderr_tail: String,
}

/// What took a slot away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndReason {
    /// Its link closed.
    #[default]
    Disconnected,
    /// Its worker missed its heartbeats, or its lane stayed silent.
    Silent,
    /// Its child crashed, exited or was killed.
    ChildEnded,
    /// The supervisor ended the child for a deadline, a cancel or a recycle.
    OnPurpose,
    /// Its worker said goodbye.
    Goodbye,
    /// Its lane sent a message over the limit of a link: an answer that can't be taken, however
    /// often it is made.
    TooLarge,
}

/// Which calls to cancel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CancelTarget {
    /// This one.
    Call(CallId),
    /// The one with this key, scoped as in [`NewCall::key`].
    Key(Box<str>),
}

/// Everything that can happen.
#[derive(Debug)]
pub enum Event<Q, R> {
    /// A client submits a call.
    Call {
        /// The connection it came by.
        client: ClientId,
        /// The call.
        call: NewCall<Q>,
    },
    /// A client submits several to be answered together.
    Batch {
        /// The connection it came by.
        client: ClientId,
        /// Given back with the answers.
        envelope: Q,
        /// Its items in order.
        items: Vec<BatchItem<Q>>,
    },
    /// A client's connection closed.
    ClientGone {
        /// Which.
        client: ClientId,
    },
    /// A worker introduced itself, for the first time or anew.
    WorkerRegistered {
        /// Which.
        worker: WorkerId,
        /// What it says of itself.
        spec: WorkerSpec,
    },
    /// Any sign of life of a managed worker.
    WorkerHeard {
        /// Which.
        worker: WorkerId,
    },
    /// A worker takes no more calls.
    WorkerDraining {
        /// Which.
        worker: WorkerId,
    },
    /// A worker left or its control link closed: all its slots are gone.
    WorkerGone {
        /// Which.
        worker: WorkerId,
        /// How.
        reason: EndReason,
    },
    /// A slot's link is up and it can be given calls.
    SlotJoined {
        /// Its worker.
        worker: WorkerId,
        /// The link.
        slot: SlotId,
        /// Its number in the worker, from 1.
        number: u32,
        /// The process that runs its calls, if known.
        pid: Option<u32>,
    },
    /// The link of a slot that was opened for the calls inside another is up.
    NestJoined {
        /// Its worker.
        worker: WorkerId,
        /// The link.
        slot: SlotId,
        /// Its number in the worker, above those of the others.
        number: u32,
        /// The process that runs its calls, if known.
        pid: Option<u32>,
        /// What it was opened for.
        nest: NestId,
    },
    /// A worker opens no more slots for calls inside others.
    NestRefused {
        /// Which.
        worker: WorkerId,
        /// What it was asked for.
        nest: NestId,
        /// How many it has open at most.
        max: usize,
    },
    /// A slot's link closed.
    SlotGone {
        /// Which.
        slot: SlotId,
        /// How.
        reason: EndReason,
    },
    /// The child behind a slot ended and the slot's own link, which lives on, says so.
    ChildLost {
        /// The slot.
        slot: SlotId,
        /// How it ended.
        ending: Ending,
    },
    /// The slot has a living child again.
    ChildReady {
        /// The slot.
        slot: SlotId,
        /// The new child.
        pid: Option<u32>,
    },
    /// Word of how a child ended that had a link of its own. That link's closing may come before
    /// or after.
    Obituary {
        /// The worker.
        worker: WorkerId,
        /// The slot's number in it.
        number: u32,
        /// How it ended.
        ending: Ending,
    },
    /// A slot answered.
    Replied {
        /// Which.
        slot: SlotId,
        /// The fence it returned.
        dispatch: DispatchId,
        /// How long the function ran by the worker's clock; `None`: a lane has none.
        service: Option<Duration>,
        /// How the answer reads.
        verdict: Verdict,
        /// The answer.
        reply: R,
    },
    /// A slot sent what can't be an answer: there is no fence in it.
    Unreadable {
        /// Which.
        slot: SlotId,
    },
    /// A worker says what became of a recalled call.
    Recalled {
        /// The slot it was parked on.
        slot: SlotId,
        /// The dispatch.
        dispatch: DispatchId,
        /// It will not run there.
        given_back: bool,
    },
    /// A dispatch could not be handed over: the slot's link is full or closed.
    DispatchFailed {
        /// The slot.
        slot: SlotId,
    },
    /// Somebody cancels.
    Cancel {
        /// Which calls.
        target: CancelTarget,
        /// Who, in words for the caller.
        by: Box<str>,
    },
    /// The broker is to leave: admit nothing, finish what runs within `grace`.
    Drain {
        /// How long what runs may go on.
        grace: Duration,
    },
    /// Nothing happened but time.
    Tick,
}
