//! The world around a core: the clock, what happens when, and who is told.

use crate::chance::Chance;
use crate::clients::{Client, Method};
use crate::shadow::{Rep, Req, Shadow, TestCore, TestEvent};
use crate::workers::{Slot, Worker};
use muster_core::{
    Action, ClientId, Config, EndReason, Event, MonoTime, SlotId, Target, Verdict, WorkerId,
};
use muster_proto::id::{DispatchId, Epoch};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Events so far, for the message of a failure.
pub static EVENTS: AtomicU64 = AtomicU64::new(0);

const CLIENTS: usize = 300;
const MANAGED: usize = 180;
const LANES: usize = 24;
const EPOCH: Epoch = Epoch(9);

/// What happens at some time. Messages name the link they travel by, and are lost with it.
#[derive(Clone, Copy, Debug)]
pub enum Happening {
    /// A client submits something.
    Wants(usize),
    /// A slot's link brings a reply.
    Reply(SlotId, DispatchId, u32, Verdict),
    /// A worker's control link brings the answer to a recall.
    Recalled(WorkerId, SlotId, DispatchId, bool),
    ChildLost(SlotId, EndReason),
    ChildReady(SlotId),
    Joined(WorkerId, SlotId, u32),
    SlotGone(SlotId),
    Obituary(WorkerId, u32),
    Heard(usize),
    /// A worker's process starts, or starts again.
    Start(usize),
    /// A worker's stall is over.
    WakesUp(usize, WorkerId),
    WorkerGone(WorkerId, EndReason),
    /// A dispatch reaches its slot.
    Delivery(SlotId, DispatchId, u32, u64),
    /// A recall or a cancel reaches its worker.
    Order(WorkerId, SlotId, DispatchId, u32, bool),
    /// What a slot runs is done, if it is still the same run.
    Done(SlotId, u64),
    /// Something breaks.
    Fault,
    /// A client's link breaks.
    Leaves(usize),
    /// It asks again for its keyed calls.
    Returns(usize),
}

#[derive(Debug)]
struct Entry {
    at: u64,
    number: u64,
    what: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

pub struct World {
    pub core: TestCore,
    pub shadow: Shadow,
    pub chance: Chance,
    pub now: u64,
    queue: BinaryHeap<Reverse<Entry>>,
    number: u64,
    pub events: u64,
    /// From this event on everything is checked and told.
    check_from: u64,
    pub faults: u64,
    /// Clients stop asking and nothing breaks any more.
    pub is_ending: bool,
    pub clients: Vec<Client>,
    /// The client of each connection, by its number.
    pub connections: Vec<usize>,
    pub workers: Vec<Worker>,
    /// The worker of each registration, by its number.
    pub registrations: Vec<usize>,
    pub slots: Vec<Slot>,
    pub tokens: u64,
    pub newest_call: u64,
    /// Slots' time with a call, and in all.
    pub busy_us: u64,
    pub up_us: u64,
    /// Starts of calls that must start once, by token.
    pub once_started: std::collections::BTreeSet<u64>,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let config = Config {
            epoch: EPOCH,
            queued_calls_max: 5_000,
            client_calls_max: 5_000,
            ..Config::default()
        };
        let mut shadow = Shadow::new(&config);
        shadow.places.known_to_lanes = vec![Target::Method("stock".into())];
        let known = ["once".to_owned()];
        let mut world = World {
            core: TestCore::new(config, seed, MonoTime::ZERO, known),
            shadow,
            chance: Chance(seed),
            now: 0,
            queue: BinaryHeap::new(),
            number: 0,
            events: 0,
            check_from: crate::asked("SIM_CHECK").unwrap_or(u64::MAX),
            faults: 0,
            is_ending: false,
            clients: Vec::new(),
            connections: Vec::new(),
            workers: Vec::new(),
            registrations: Vec::new(),
            slots: Vec::new(),
            tokens: 0,
            newest_call: 0,
            busy_us: 0,
            up_us: 0,
            once_started: std::collections::BTreeSet::new(),
        };
        for at in 0..MANAGED + LANES {
            world.workers.push(Worker::new(at, at >= MANAGED));
            let start = world.chance.below(50_000);
            world.later(start, Happening::Start(at));
            world.later(start + 500_000, Happening::Heard(at));
        }
        for at in 0..CLIENTS {
            let client = Client::new(at, &mut world);
            let wanted = client.wanted;
            world.clients.push(client);
            for _ in 0..wanted {
                let start = world.chance.below(200_000);
                world.later(start, Happening::Wants(at));
            }
        }
        world.later(300_000, Happening::Fault);
        world
    }

    /// Lets so many events reach the core.
    pub fn run(&mut self, events: u64) {
        while self.events < events {
            self.step();
        }
        self.core.check_invariants();
    }

    /// Ends the faults and waits until every call has had its answer.
    pub fn wind_down(&mut self) {
        self.is_ending = true;
        let until = self.now + 120_000_000;
        while self.now < until && !self.shadow.unanswered().is_empty() {
            for _ in 0..1_000 {
                self.step();
            }
        }
        self.core.check_invariants();
    }

    /// The share of their time that slots had a call to run.
    pub fn busy_share(&self) -> f64 {
        let (mut busy, mut up) = (self.busy_us, self.up_us);
        for slot in &self.slots {
            let (running, lives) = slot.times(self.now);
            busy += running;
            up += lives;
        }
        busy as f64 / up.max(1) as f64
    }

    pub fn now_s(&self) -> f64 {
        self.now as f64 / 1e6
    }

    pub fn later(&mut self, delay_us: u64, what: Happening) {
        self.at(self.now + delay_us, what);
    }

    pub fn at(&mut self, at: u64, what: Happening) {
        self.number += 1;
        let number = self.number;
        self.queue.push(Reverse(Entry { at, number, what }));
    }

    fn step(&mut self) {
        let next = self
            .queue
            .peek()
            .map_or(u64::MAX, |Reverse(entry)| entry.at);
        let due = self
            .core
            .poll_deadline()
            .map_or(u64::MAX, MonoTime::as_micros);
        if due < next {
            self.now = self.now.max(due);
            self.tell(Event::Tick);
            return;
        }
        let Some(Reverse(entry)) = self.queue.pop() else {
            panic!("nothing will ever happen again");
        };
        self.now = entry.at;
        self.happen(entry.what);
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Wants(at) => self.client_wants(at),
            Happening::Leaves(at) => self.client_leaves(at),
            Happening::Returns(at) => self.client_returns(at),
            Happening::Reply(slot, dispatch, service_us, verdict) => {
                if !self.slots[slot.0 as usize].is_cut {
                    self.tell(Event::Replied {
                        slot,
                        dispatch,
                        service: Some(Duration::from_micros(service_us.into())),
                        verdict,
                        reply: Rep(dispatch.call),
                    });
                }
            }
            Happening::Recalled(worker, slot, dispatch, given_back) => {
                if self.is_registered(worker) {
                    self.tell(Event::Recalled {
                        slot,
                        dispatch,
                        given_back,
                    });
                }
            }
            Happening::ChildLost(slot, reason) => self.tell_child_lost(slot, reason),
            Happening::ChildReady(slot) => self.child_ready(slot),
            Happening::Joined(worker, slot, number) => {
                if self.is_registered(worker) && !self.slots[slot.0 as usize].is_cut {
                    let pid = Some(slot.0);
                    self.tell(Event::SlotJoined {
                        worker,
                        slot,
                        number,
                        pid,
                    });
                }
            }
            Happening::SlotGone(slot) => {
                let reason = EndReason::Disconnected;
                self.tell(Event::SlotGone { slot, reason });
            }
            Happening::Obituary(worker, number) => {
                if self.is_registered(worker) {
                    self.tell_obituary(worker, number);
                }
            }
            Happening::Heard(at) => self.heartbeat(at),
            Happening::Start(at) => self.start_worker(at),
            Happening::WakesUp(at, worker) => self.worker_wakes_up(at, worker),
            Happening::WorkerGone(worker, reason) => {
                self.tell(Event::WorkerGone { worker, reason });
            }
            Happening::Delivery(slot, dispatch, seq, token) => {
                self.deliver(slot, dispatch, seq, token);
            }
            Happening::Order(worker, slot, dispatch, seq, is_recall) => {
                self.order(worker, slot, dispatch, seq, is_recall);
            }
            Happening::Done(slot, run) => self.done(slot, run),
            Happening::Fault => self.fault(),
        }
    }

    /// Tells the core, checks what it does, and does it.
    pub fn tell(&mut self, event: TestEvent) {
        self.events += 1;
        EVENTS.store(self.events, Ordering::Relaxed);
        if self.events >= self.check_from {
            println!("{} {event:?}", self.now);
        }
        self.shadow.before(&event);
        self.core.handle(MonoTime::from_micros(self.now), event);
        while let Some(action) = self.core.poll_action() {
            if self.events >= self.check_from {
                println!("    {action:?}");
            }
            self.shadow.action(&self.core, &action);
            self.perform(action);
        }
        // Some events share a turn of the loop.
        if !self.events.is_multiple_of(3) {
            self.core.sent();
        }
        self.shadow.after(&self.core);
        if self.events.is_multiple_of(1_000) || self.events >= self.check_from {
            self.core.check_invariants();
        }
    }

    fn perform(&mut self, action: Action<Req, Rep>) {
        match action {
            Action::Dispatch {
                slot,
                dispatch,
                seq,
                ..
            } => {
                self.newest_call = self.newest_call.max(dispatch.call.0);
                let token = self.core.request(dispatch.call).map_or(0, |req| req.token);
                let sent = &mut self.slots[slot.0 as usize];
                // One link keeps its order; links overtake each other.
                let at = (self.now + self.chance.between(20, 200)).max(sent.reached);
                sent.reached = at;
                self.at(at, Happening::Delivery(slot, dispatch, seq, token));
            }
            Action::Cancel {
                slot,
                dispatch,
                seq,
            } => self.send_order(slot, dispatch, seq, false),
            Action::Recall {
                slot,
                dispatch,
                seq,
            } => self.send_order(slot, dispatch, seq, true),
            Action::Answer {
                client,
                request,
                outcome,
                ..
            } => self.client_has(client, request.token, &outcome),
            Action::AnswerBatch { client, .. } => self.client_has_batch(client),
            Action::ForgetWorker { worker } => {
                self.worker_is_forgotten(worker);
            }
            _ => {}
        }
    }

    fn send_order(&mut self, slot: SlotId, dispatch: DispatchId, seq: u32, is_recall: bool) {
        let worker = self.slots[slot.0 as usize].registration;
        let delay = self.chance.between(20, 400);
        let order = Happening::Order(worker, slot, dispatch, seq, is_recall);
        self.later(delay, order);
    }

    /// The connection that a client has now.
    pub fn connection(&self, at: usize) -> ClientId {
        ClientId(self.clients[at].connection)
    }

    pub fn method_of(token: u64) -> Method {
        Method::ALL[(token % 16) as usize]
    }
}
