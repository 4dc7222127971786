//! A second, simpler account of what the core must do: every request is answered once and by the
//! right connection, nothing runs that is over, nothing runs twice that must not, caps hold, and
//! no slot idles while a call waits that it could run.
//!
//! It sees the events that go in and the actions that come out, and of the core's state no more
//! than the request behind a dispatch and the lengths of queues.
#![allow(
    dead_code,
    reason = "each test that includes this uses its own part of it"
)]

mod places;

pub use places::Held;

use muster_core::{
    Action, BatchItem, ClientId, Config, Core, Event, Failure, NewCall, Outcome, SlotId, Target,
    Verdict, WorkerKind,
};
use muster_proto::id::{CallId, DispatchId};
use places::Places;
use rustc_hash::{FxHashMap, FxHashSet};

/// A request that can be told from every other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Req {
    pub token: u64,
    pub bytes: u32,
}

impl muster_core::Request for Req {
    fn bytes(&self) -> usize {
        self.bytes as usize
    }
}

/// A reply that says which call it answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rep(pub CallId);

impl muster_core::Reply for Rep {
    fn bytes(&self) -> usize {
        16
    }
}

pub type TestCore = Core<Req, Rep>;
pub type TestEvent = Event<Req, Rep>;
pub type TestAction = Action<Req, Rep>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Single,
    Notification,
    Item { envelope: u64 },
}

/// A request that is not answered yet.
#[derive(Debug)]
struct Open {
    client: ClientId,
    kind: Kind,
    attempts_max: usize,
    is_once: bool,
    key: Option<Box<str>>,
    class: usize,
    /// Dispatches of its class before it came, if it is its client's only request for it.
    alone_since: Option<u64>,
}

#[derive(Debug, Default)]
struct Client {
    is_gone: bool,
    open: FxHashSet<u64>,
}

#[derive(Debug, Default)]
struct Started {
    attempt: u32,
    slot: Option<SlotId>,
    /// Starts that were not taken back.
    times: u32,
}

/// Calls of one target.
#[derive(Debug)]
struct Class {
    target: Target,
    dispatches: u64,
    /// Open requests by client.
    open: FxHashMap<ClientId, u32>,
}

/// The account.
#[derive(Debug)]
pub struct Shadow {
    config: Config,
    open: FxHashMap<u64, Open>,
    /// Tokens of the items that will be answered, by their envelope's token.
    batches: FxHashMap<u64, (ClientId, Vec<u64>)>,
    clients: FxHashMap<ClientId, Client>,
    /// The token that will be answered for a key.
    keys: FxHashMap<Box<str>, u64>,
    classes: Vec<Class>,
    class_of: FxHashMap<Target, usize>,
    started: FxHashMap<CallId, Started>,
    unacknowledged: Vec<u64>,
    pub places: Places,
    pub answered: u64,
    pub results: u64,
    /// The most that a client's only request for a class was overtaken.
    pub overtaken: u64,
    pub is_drained: bool,
}

impl Shadow {
    pub fn new(config: &Config) -> Self {
        Shadow {
            config: config.clone(),
            open: FxHashMap::default(),
            batches: FxHashMap::default(),
            clients: FxHashMap::default(),
            keys: FxHashMap::default(),
            classes: Vec::new(),
            class_of: FxHashMap::default(),
            started: FxHashMap::default(),
            unacknowledged: Vec::new(),
            places: Places::default(),
            answered: 0,
            results: 0,
            overtaken: 0,
            is_drained: false,
        }
    }

    /// Takes in what the core is about to be told.
    pub fn before(&mut self, event: &TestEvent) {
        match event {
            Event::Call { client, call } => self.submitted(*client, call, None),
            Event::Batch {
                client,
                envelope,
                items,
            } => {
                let mut tokens = Vec::new();
                for item in items {
                    match item {
                        BatchItem::Call(call) => {
                            self.submitted(*client, call, Some(envelope.token));
                            if !call.is_notification {
                                tokens.push(call.request.token);
                            }
                        }
                        BatchItem::Refused(request) => tokens.push(request.token),
                    }
                }
                self.batches.insert(envelope.token, (*client, tokens));
            }
            Event::ClientGone { client } => {
                self.clients.entry(*client).or_default().is_gone = true;
            }
            Event::Replied {
                slot,
                dispatch,
                verdict,
                ..
            } => {
                if let Some(kind) = self.places.release(*slot, *dispatch, false) {
                    let is_lane = kind == WorkerKind::Lane;
                    let was_asked = is_lane && *verdict == Verdict::MethodNotFound;
                    self.left_slot(*dispatch, was_asked);
                }
            }
            Event::Recalled {
                slot,
                dispatch,
                given_back: true,
            } => {
                if self.places.release(*slot, *dispatch, true).is_some() {
                    self.left_slot(*dispatch, true);
                }
            }
            Event::Recalled {
                slot,
                dispatch,
                given_back: false,
            } => self.places.too_late(*slot, *dispatch),
            _ => {
                for lost in self.places.before(event) {
                    self.left_slot(lost, false);
                }
            }
        }
    }

    /// Takes in what the core wants done.
    pub fn action(&mut self, core: &TestCore, action: &TestAction) {
        match action {
            Action::Dispatch {
                slot,
                dispatch,
                seq,
                ..
            } => self.dispatched(core, *slot, *dispatch, *seq),
            Action::Answer {
                client,
                call,
                request,
                outcome,
            } => {
                self.answer(*client, request.token, Kind::Single, Some(outcome));
                self.started.remove(call);
                assert!(
                    core.request(*call).is_none(),
                    "{call}: answered and still held"
                );
            }
            Action::AnswerBatch {
                client,
                envelope,
                items,
            } => {
                let batch = self.batches.remove(&envelope.token);
                let (owner, tokens) = batch.expect("a batch is answered once");
                assert_eq!(owner, *client, "a batch is answered to its client");
                let answered: Vec<u64> = items.iter().map(|(item, _)| item.token).collect();
                assert_eq!(answered, tokens, "items in order, notifications left out");
                let envelope = envelope.token;
                for (item, outcome) in items {
                    if outcome.is_some() {
                        let kind = Kind::Item { envelope };
                        self.answer(*client, item.token, kind, outcome.as_ref());
                    }
                }
            }
            Action::Note(_) => panic!("nobody watches"),
            Action::Acknowledge { client, call } => {
                let token = core.request(*call).expect("it is still held").token;
                self.acknowledged(*client, token);
            }
            Action::AcknowledgeRefused { client, request } => {
                self.acknowledged(*client, request.token);
                self.close(request.token);
            }
            Action::Cancel { slot, dispatch, .. } => self.places.cancelled(*slot, *dispatch),
            Action::Recall { slot, dispatch, .. } => self.places.recalled(*slot, *dispatch),
            // The world's business.
            Action::OpenSlot { .. } | Action::CloseSlot { .. } => {}
            Action::CloseLink { .. } => {}
            Action::ForgetWorker { worker } => {
                for lost in self.places.worker_gone(*worker) {
                    self.left_slot(lost, false);
                }
            }
            Action::Drained => {
                assert!(!self.is_drained, "drained once");
                self.is_drained = true;
            }
        }
    }

    /// What must hold when all actions of an event are done.
    pub fn after(&mut self, core: &TestCore) {
        assert!(
            self.unacknowledged.is_empty(),
            "a notification is acknowledged at once"
        );
        self.places.check_idle(|target| core.queued_for(target));
    }

    /// Requests that are still to be answered, by connections that are there.
    pub fn unanswered(&self) -> Vec<u64> {
        let wanted = self.open.iter().filter(|(_, open)| {
            open.kind != Kind::Notification && !self.clients[&open.client].is_gone
        });
        let mut tokens: Vec<u64> = wanted.map(|(token, _)| *token).collect();
        tokens.sort_unstable();
        tokens
    }

    /// Requests of a client that are still to be answered.
    pub fn open_of(&self, client: ClientId) -> usize {
        self.clients
            .get(&client)
            .map_or(0, |client| client.open.len())
    }

    fn submitted(&mut self, client: ClientId, call: &NewCall<Req>, batch: Option<u64>) {
        let token = call.request.token;
        let class = self.intern(&call.target);
        let kind = match batch {
            _ if call.is_notification => Kind::Notification,
            None => Kind::Single,
            Some(envelope) => Kind::Item { envelope },
        };
        let key = call.key.clone().filter(|_| kind == Kind::Single);
        if let Some(key) = &key {
            // The newest connection that names a key has its answer.
            if let Some(before) = self.keys.insert(key.clone(), token) {
                self.close(before);
            }
        }
        if kind == Kind::Notification && batch.is_none() {
            self.unacknowledged.push(token);
        }
        let attempts_max = call.attempts_max.unwrap_or(self.config.attempts_max).max(1) as usize;
        let class_entry = &mut self.classes[class];
        let of_client = class_entry.open.entry(client).or_insert(0);
        // Its client's own calls of higher priority go first, however many.
        let is_plain = kind == Kind::Single && key.is_none() && call.priority == 0;
        let alone_since = (*of_client == 0 && is_plain).then_some(class_entry.dispatches);
        *of_client += 1;
        self.clients.entry(client).or_default().open.insert(token);
        let open = Open {
            client,
            kind,
            attempts_max,
            is_once: attempts_max == 1 || is_once(&call.target),
            key,
            class,
            alone_since,
        };
        assert!(self.open.insert(token, open).is_none(), "tokens are unique");
    }

    fn intern(&mut self, target: &Target) -> usize {
        if let Some(&class) = self.class_of.get(target) {
            return class;
        }
        self.classes.push(Class {
            target: target.clone(),
            dispatches: 0,
            open: FxHashMap::default(),
        });
        self.class_of.insert(target.clone(), self.classes.len() - 1);
        self.classes.len() - 1
    }

    fn dispatched(&mut self, core: &TestCore, slot: SlotId, dispatch: DispatchId, seq: u32) {
        let DispatchId { call, attempt, .. } = dispatch;
        assert_eq!(dispatch.epoch, self.config.epoch, "{call}: of this run");
        let token = core.request(call).map(|request| request.token);
        let token = token.expect("what is dispatched is still held");
        let started = self.started.entry(call).or_default();
        assert!(
            attempt > started.attempt,
            "{call}: every dispatch has a number of its own"
        );
        let is_alone = started
            .slot
            .is_none_or(|slot| self.places.is_fresh_lane(slot));
        assert!(is_alone, "{call}: on one slot at a time");
        started.attempt = attempt;
        started.slot = Some(slot);
        started.times += 1;
        let times = started.times;
        // A key's call that nobody asked for again has lost its token.
        if let Some(open) = self.open.get_mut(&token) {
            assert!(!open.is_once || times == 1, "{call}: started twice");
            let is_gone = self.clients[&open.client].is_gone;
            let may_go_on = open.kind == Kind::Notification || open.key.is_some();
            assert!(!is_gone || may_go_on, "{call}: its client left");
            let class = &mut self.classes[open.class];
            if let Some(since) = open.alone_since.take().filter(|_| times == 1) {
                self.overtaken = self.overtaken.max(class.dispatches - since);
            }
            class.dispatches += 1;
        } else {
            panic!("{call}: dispatched though it is answered");
        }
        self.places.hold(slot, Held::new(dispatch, seq));
    }

    fn left_slot(&mut self, dispatch: DispatchId, was_not_started: bool) {
        let started = self.started.get_mut(&dispatch.call);
        if let Some(started) = started.filter(|started| started.attempt == dispatch.attempt) {
            started.slot = None;
            started.times -= u32::from(was_not_started);
        }
    }

    fn answer(&mut self, client: ClientId, token: u64, kind: Kind, outcome: Option<&Outcome<Rep>>) {
        let open = self.open.get(&token);
        let open = open.unwrap_or_else(|| panic!("{token}: answered twice, or to the wrong one"));
        assert_eq!(
            open.client, client,
            "{token}: answered to the one that asked"
        );
        assert_eq!(open.kind, kind, "{token}: answered as it was asked");
        assert!(!self.clients[&client].is_gone, "{token}: its client left");
        match outcome {
            Some(Outcome::Failed(Failure::WorkerLost { attempts })) => {
                let max = if open.is_once { 1 } else { open.attempts_max };
                assert_eq!(attempts.len(), max, "{token}: attempts");
            }
            Some(Outcome::Failed(Failure::Overloaded {
                limit: "client_calls",
                max,
            })) => {
                assert_eq!(*max, self.config.client_calls_max);
            }
            Some(Outcome::Replied { .. }) => self.results += 1,
            _ => {}
        }
        self.answered += 1;
        self.close(token);
    }

    fn acknowledged(&mut self, client: ClientId, token: u64) {
        let at = self.unacknowledged.iter().position(|&open| open == token);
        self.unacknowledged
            .swap_remove(at.expect("acknowledged once"));
        assert_eq!(
            self.open[&token].client, client,
            "{token}: acknowledged to its client"
        );
    }

    /// Forgets a request: it is answered, or will never be.
    fn close(&mut self, token: u64) {
        let Some(open) = self.open.remove(&token) else {
            return;
        };
        let key = open.key.as_ref();
        if let Some(key) = key.filter(|key| self.keys.get(*key) == Some(&token)) {
            self.keys.remove(key);
        }
        if let Some(client) = self.clients.get_mut(&open.client) {
            client.open.remove(&token);
        }
        let class = &mut self.classes[open.class];
        if let Some(count) = class.open.get_mut(&open.client) {
            *count -= 1;
            if *count == 0 {
                class.open.remove(&open.client);
            }
        }
    }

    /// Forgets a client that left, with everything that nobody waits for.
    pub fn forget_client(&mut self, client: ClientId) {
        let Some(gone) = self.clients.get(&client) else {
            return;
        };
        let tokens: Vec<u64> = gone.open.iter().copied().collect();
        for token in tokens {
            self.close(token);
        }
        self.clients.remove(&client);
    }
}

/// Methods of the tests that must never run twice have names that say so.
fn is_once(target: &Target) -> bool {
    match target {
        Target::Method(method) | Target::MethodAt { method, .. } => method.starts_with("once"),
        Target::Raw | Target::RawAt(_) => false,
    }
}
