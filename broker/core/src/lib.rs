//! The decisions of the Muster broker, without a socket, file, thread or clock.
//!
//! The caller reports what happened ([`Event`]) with the time, performs what comes back
//! ([`Action`]) and asks when to wake:
//!
//! ```ignore
//! core.handle(now, event);
//! while let Some(action) = core.poll_action() { perform(action); }
//! let wake = core.poll_deadline();
//! core.sent(); // What piled up in this turn is on its way.
//! ```
//!
//! The same events, times and seed give the same actions. Invariants (checked after every event in
//! the tests, see [`Core::check_invariants`]):
//!
//! 1. Every admitted call is resolved exactly once.
//! 2. A reply counts only from the dispatch that holds the call.
//! 3. Every queue and table has a cap with a named answer.
//! 4. Work per event is O(log n) in calls and workers.
//! 5. Nothing a peer sends can make it panic or spin.
//! 6. No call waits while a slot that could run it has credit.
//! 7. Nothing is parked behind a call whose length is unknown or long, and what is parked behind
//!    one that overruns is recalled.
//! 8. A client's flood delays another's call by what is handed over already, and no longer.

mod action;
mod admit;
mod batch;
mod call;
mod cancel;
mod class;
mod client;
mod config;
mod departing;
mod dispatch;
mod event;
mod explain;
mod group;
mod invariants;
mod keys;
mod lost;
mod membership;
mod nest;
mod note;
mod outbox;
mod overrun;
mod probation;
mod queue;
mod rank;
mod recent;
mod refusal;
mod resolve;
mod rng;
mod route;
mod slot;
mod stats;
mod status;
mod time;
mod timer;
mod transit;
mod turns;
mod waiting;

pub use action::{Action, Attempt, Failure, Outcome};
pub use config::Config;
pub use event::{
    BatchItem, CancelTarget, EndReason, Ending, Event, NewCall, Offer, Once, Reply, Request,
    Target, Verdict, WorkerKind, WorkerSpec,
};
pub use explain::{Explanation, Obstacle};
pub use nest::NestId;
pub use note::Note;
pub use outbox::{Outbox, OutboxCaps, Pushed};
pub use recent::{BUCKETS, EndedCall, Histogram, HowEnded};
pub use stats::Totals;
pub use status::{CallStatus, MethodStatus, SlotState, SlotStatus, Status, WorkerStatus};
pub use time::MonoTime;

use batch::BatchTable;
use call::CallTable;
use class::{Addressed, ClassId, ClassTable};
use client::Client;
use group::GroupTable;
use keys::Keys;
use muster_proto::id::{CallId, DispatchId};
use nest::Nest;
use rank::Limits;
use recent::Recent;
use rng::Rng;
use rustc_hash::FxHashMap;
use slot::{Slot, Worker};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use timer::{Due, Timers};

/// A client's connection, numbered by the caller and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u32);

/// A worker as long as it stays registered, numbered by the caller and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u32);

/// A slot's link, numbered by the caller and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub u32);

/// The broker was away when it comes this share of a heartbeat late to what is due.
const OVERSLEPT_SHARE: u32 = 4;

/// Room for actions that is kept: what the end of a flood needed is given back.
const ACTIONS_KEPT: usize = 4_096;

/// The broker's state. `Q` is the caller's request, `R` its reply.
#[derive(Debug)]
pub struct Core<Q, R> {
    config: Config,
    rng: Rng,
    now: MonoTime,
    calls: CallTable<Q>,
    queued_calls: usize,
    queued_bytes: usize,
    clients: FxHashMap<ClientId, Client>,
    classes: ClassTable,
    /// Classes addressed to one worker, by its name.
    addressed: BTreeMap<Box<str>, Addressed>,
    /// How many of them have waiting calls.
    addressed_waiting: usize,
    /// Slots that a dispatch was taken off again during this event.
    unfed: Vec<SlotId>,
    /// Classes whose first waiting call has become another one during this event.
    stirred: Vec<ClassId>,
    /// Calls that others were made inside of and wait for a slot, or have slots of their own.
    nests: BTreeMap<NestId, Nest>,
    /// Nests that wait until a worker can open a slot for them.
    queued_nests: BTreeSet<(WorkerId, NestId)>,
    /// Those in which something changed during this event.
    stirred_nests: Vec<NestId>,
    groups: GroupTable,
    workers: FxHashMap<WorkerId, Worker>,
    worker_names: BTreeMap<Box<str>, WorkerId>,
    slots: FxHashMap<SlotId, Slot>,
    /// Methods that somebody registered once, here or at this broker's predecessor.
    known: BTreeSet<Box<str>>,
    /// Methods that lanes have answered, here or at this broker's predecessor.
    served_by_lanes: BTreeSet<Box<str>>,
    /// Until when an unknown method waits for a first worker; passed once one came.
    settle_until: MonoTime,
    batches: BatchTable<Q, R>,
    keys: Keys<R>,
    timers: Timers,
    /// The broker was away when it comes so late to what is due.
    overslept_us: u64,
    limits: Limits,
    /// When the broker itself had last been away: nobody was silent while nobody listened.
    awake_since: MonoTime,
    actions: VecDeque<Action<Q, R>>,
    /// Counts how often the caller sent what had piled up.
    turn: u64,
    draining: Option<MonoTime>,
    is_drained: bool,
    totals: Totals,
    recent: Recent<R>,
    /// Somebody wants to hear of every [`Note`].
    is_watched: bool,
}

impl<Q: Request, R: Reply> Core<Q, R> {
    /// A broker without workers at `now`. `known` are the methods its predecessor knew.
    pub fn new(
        config: Config,
        seed: u64,
        now: MonoTime,
        known: impl IntoIterator<Item = String>,
    ) -> Self {
        let settle_until = now.after(config.settle);
        let overslept = config.heartbeat / OVERSLEPT_SHARE;
        let mut timers = Timers::default();
        timers.arm(settle_until, Due::Settle);
        Core {
            rng: Rng::new(seed),
            now,
            calls: CallTable::new(),
            queued_calls: 0,
            queued_bytes: 0,
            clients: FxHashMap::default(),
            classes: ClassTable::default(),
            addressed: BTreeMap::new(),
            addressed_waiting: 0,
            unfed: Vec::new(),
            stirred: Vec::new(),
            nests: BTreeMap::new(),
            queued_nests: BTreeSet::new(),
            stirred_nests: Vec::new(),
            groups: GroupTable::default(),
            workers: FxHashMap::default(),
            worker_names: BTreeMap::new(),
            slots: FxHashMap::default(),
            known: known.into_iter().map(String::into_boxed_str).collect(),
            served_by_lanes: BTreeSet::new(),
            settle_until,
            batches: BatchTable::default(),
            keys: Keys::default(),
            timers,
            overslept_us: u64::try_from(overslept.as_micros()).unwrap_or(u64::MAX),
            limits: Limits::new(&config),
            awake_since: MonoTime::ZERO,
            actions: VecDeque::new(),
            turn: 0,
            draining: None,
            is_drained: false,
            totals: Totals::default(),
            recent: Recent::default(),
            is_watched: false,
            config,
        }
    }

    /// Lets calls of these methods wait for a lane: the predecessor's lanes answered them.
    pub fn expect_of_lanes(&mut self, methods: impl IntoIterator<Item = String>) {
        let methods = methods.into_iter().map(String::into_boxed_str);
        self.served_by_lanes.extend(methods);
    }

    /// Takes in what happened at `now`, then everything that is due by then.
    pub fn handle(&mut self, now: MonoTime, event: Event<Q, R>) {
        // The caller's clock is monotonic; should it not be, time stands still instead.
        self.now = self.now.max(now);
        let due = self.timers.next().unwrap_or(MonoTime::NEVER);
        if due.after_micros(self.overslept_us) <= self.now {
            self.awake_since = self.now;
        }
        match event {
            Event::Call { client, call } => self.submit(client, call),
            Event::Batch {
                client,
                envelope,
                items,
            } => self.submit_batch(client, envelope, items),
            Event::ClientGone { client } => self.client_gone(client),
            Event::WorkerRegistered { worker, spec } => self.worker_registered(worker, spec),
            Event::WorkerHeard { worker } => self.worker_heard(worker),
            Event::WorkerDraining { worker } => self.worker_draining(worker),
            Event::WorkerGone { worker, reason } => self.worker_gone(worker, reason),
            Event::SlotJoined {
                worker,
                slot,
                number,
                pid,
            } => {
                self.slot_joined(worker, slot, number, pid, None);
            }
            Event::NestJoined {
                worker,
                slot,
                number,
                pid,
                nest,
            } => {
                self.slot_joined(worker, slot, number, pid, Some(nest));
            }
            Event::NestRefused { worker, nest, max } => self.nest_refused(nest, worker, max),
            Event::SlotGone { slot, reason } => self.slot_gone(slot, reason),
            Event::ChildLost { slot, ending } => self.child_lost(slot, &ending),
            Event::ChildReady { slot, pid } => self.child_ready(slot, pid),
            Event::Obituary {
                worker,
                number,
                ending,
            } => self.obituary(worker, number, ending),
            Event::Replied {
                slot,
                dispatch,
                service,
                verdict,
                reply,
            } => {
                self.replied(slot, dispatch, service, verdict, reply);
            }
            Event::Unreadable { slot } => {
                self.totals.fenced += 1;
                self.strike(slot);
            }
            Event::Recalled {
                slot,
                dispatch,
                given_back,
            } => {
                self.recalled(slot, dispatch, given_back);
            }
            Event::DispatchFailed { slot } => self.slot_gone(slot, EndReason::Disconnected),
            Event::Cancel { target, by } => self.cancel(&target, by),
            Event::Drain { grace } => self.drain(grace),
            Event::Tick => {}
        }
        self.run_timers();
        self.settle_stirred();
        if !self.stirred_nests.is_empty() {
            self.settle_nests();
            self.settle_stirred();
        }
        self.finish_drain();
    }

    /// The next thing to do, in order.
    pub fn poll_action(&mut self) -> Option<Action<Q, R>> {
        let action = self.actions.pop_front();
        if self.actions.is_empty() && self.actions.capacity() > ACTIONS_KEPT {
            self.actions = VecDeque::new();
        }
        action
    }

    /// When to call [`Self::handle`] with [`Event::Tick`] if nothing else happens before.
    pub fn poll_deadline(&self) -> Option<MonoTime> {
        self.timers.next()
    }

    /// The request of a call that is not resolved.
    pub fn request(&self, call: CallId) -> Option<&Q> {
        self.calls.get(call).map(|call| &call.request)
    }

    /// Whom a call that is not resolved is for, and its request.
    pub fn order(&self, call: CallId) -> Option<(&Target, &Q)> {
        let call = self.calls.get(call)?;
        Some((&self.classes[call.class].target, &call.request))
    }

    /// Who waits for the call that this dispatch started, while it is the one that runs.
    pub fn listener(&self, slot: SlotId, dispatch: DispatchId) -> Option<(ClientId, &Q)> {
        let call = self.calls.get(dispatch.call)?;
        let is_it = dispatch.epoch == self.config.epoch
            && call.dispatches == dispatch.attempt
            && call.state == call::CallState::Dispatched { slot };
        let is_single = call.origin == call::Origin::Single;
        (is_it && is_single).then_some((call.client, &call.request))
    }

    fn run_timers(&mut self) {
        while let Some(due) = self.timers.pop(self.now) {
            match due {
                Due::Deadline(call) => self.expire(call),
                Due::Retry(call) => self.retry_due(call),
                Due::Obituary(call) => self.mourn(call),
                Due::Overrun(slot) => self.overrun_due(slot),
                Due::Heartbeat(worker) => self.heartbeat_due(worker),
                Due::Orphans(client) => self.orphans_due(client),
                Due::Leaving(client) => self.give_up_more(client),
                Due::KeptAnswers => self.keys.forget(self.now, &mut self.timers, &self.config),
                Due::Settle => self.settle(),
                Due::Grace => self.grace_over(),
            }
        }
    }

    fn drain(&mut self, grace: Duration) {
        if self.draining.is_some() {
            return;
        }
        let until = self.now.after(grace);
        self.draining = Some(until);
        self.timers.arm(until, Due::Grace);
        let waiting: Vec<CallId> = self
            .calls
            .iter()
            .filter(|(_, call)| !matches!(call.state, call::CallState::Dispatched { .. }))
            .map(|(id, _)| id)
            .collect();
        for id in waiting {
            self.finish(id, Outcome::Failed(Failure::Draining));
        }
    }

    fn grace_over(&mut self) {
        let open: Vec<CallId> = self.calls.iter().map(|(id, _)| id).collect();
        for id in open {
            self.abandon(id);
            self.finish(id, Outcome::Failed(Failure::Draining));
        }
    }

    /// Says once that a drain is over.
    fn finish_drain(&mut self) {
        let Some(until) = self.draining else { return };
        if self.calls.len() == 0 && !self.is_drained {
            self.is_drained = true;
            self.timers.disarm(until, Due::Grace);
            self.actions.push_back(Action::Drained);
        }
    }
}
