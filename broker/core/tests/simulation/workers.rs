//! Workers: processes with slots that run calls in order, and everything that befalls them.

mod faults;

use crate::clients::Method;
use crate::world::{Happening, World};
use muster_core::{
    EndReason, Ending, Event, Offer, Once, SlotId, Verdict, WorkerId, WorkerKind, WorkerSpec,
};
use muster_proto::id::DispatchId;
use std::collections::VecDeque;

/// What a worker flushes its answers before.
const LONG_US: u64 = 1_000;

#[derive(Debug)]
pub struct Worker {
    number: usize,
    is_lane: bool,
    /// Its slots are processes with links of their own, or threads.
    has_processes: bool,
    offer: usize,
    /// Its registration, while its process lives.
    registration: Option<WorkerId>,
    slots: Vec<SlotId>,
    /// Stopped until then.
    stalled_until: u64,
    is_draining: bool,
    /// The broker gave it up, and it does not know yet.
    pub is_forgotten: bool,
}

impl Worker {
    pub fn new(number: usize, is_lane: bool) -> Self {
        Worker {
            number,
            is_lane,
            has_processes: number.is_multiple_of(2),
            offer: number % 3,
            registration: None,
            slots: Vec::new(),
            stalled_until: 0,
            is_draining: false,
            is_forgotten: false,
        }
    }
}

/// A call on a slot.
#[derive(Clone, Copy, Debug)]
struct Job {
    dispatch: DispatchId,
    seq: u32,
    token: u64,
    service_us: u64,
}

#[derive(Debug)]
pub struct Slot {
    pub registration: WorkerId,
    worker: usize,
    number: u32,
    /// When the last message sent to it arrives.
    pub reached: u64,
    /// When the last message it sent arrives.
    sent: u64,
    /// Its link is dead: what is on it is lost.
    pub is_cut: bool,
    is_child_down: bool,
    joined: u64,
    queue: VecDeque<Job>,
    running: Option<Job>,
    /// When the running one started.
    since: u64,
    run: u64,
    last_started: u32,
    skipped: Vec<u32>,
    /// Answers that are not sent yet.
    unsent: Vec<(DispatchId, u32, Verdict)>,
}

impl Slot {
    /// How long it has run its present call, and lived, if it lives.
    pub fn times(&self, now: u64) -> (u64, u64) {
        if self.is_cut || self.is_child_down || self.joined > now {
            return (0, 0);
        }
        let running = self.running.map_or(0, |_| now - self.since);
        (running, now - self.joined)
    }
}

impl World {
    pub fn is_registered(&self, id: WorkerId) -> bool {
        let worker = &self.workers[self.registrations[id.0 as usize]];
        worker.registration == Some(id) && !worker.is_forgotten
    }

    pub fn worker_is_forgotten(&mut self, id: WorkerId) {
        let worker = &mut self.workers[self.registrations[id.0 as usize]];
        worker.is_forgotten |= worker.registration == Some(id);
    }

    pub fn start_worker(&mut self, at: usize) {
        let id = WorkerId(self.registrations.len() as u32);
        self.registrations.push(at);
        let worker = &mut self.workers[at];
        worker.registration = Some(id);
        worker.is_forgotten = false;
        worker.is_draining = false;
        worker.stalled_until = 0;
        self.worker_registers(at, id);
        let worker = &self.workers[at];
        let slots = if worker.is_lane {
            1
        } else {
            1 + worker.number % 3
        };
        self.workers[at].slots.clear();
        for number in 1..=slots as u32 {
            let slot = self.new_slot(at, id, number);
            self.workers[at].slots.push(slot);
        }
    }

    /// A worker introduces itself, for the first time or with another offer.
    pub fn worker_registers(&mut self, at: usize, id: WorkerId) {
        let worker = &self.workers[at];
        if worker.registration != Some(id) || worker.is_forgotten {
            return;
        }
        let methods: &[Method] = match worker.offer {
            0 => &[
                Method::Echo,
                Method::Short,
                Method::Middle,
                Method::Long,
                Method::Once,
            ],
            1 => &[
                Method::Echo,
                Method::Middle,
                Method::Long,
                Method::Poison,
                Method::Chunk,
            ],
            _ => &[
                Method::Echo,
                Method::Short,
                Method::Middle,
                Method::Long,
                Method::Chunk,
            ],
        };
        let once = |method| {
            if method == Method::Once {
                Once::Yes
            } else {
                Once::No
            }
        };
        let named = methods
            .iter()
            .map(|&method| (method.name().into(), once(method)));
        let offer = match worker.is_lane {
            false => Offer {
                methods: named.collect(),
                ..Offer::default()
            },
            true => Offer {
                anything: true,
                raw: true,
                ..Offer::default()
            },
        };
        let spec = WorkerSpec {
            name: format!("w{}", worker.number),
            host: "host".into(),
            pid: None,
            kind: if worker.is_lane {
                WorkerKind::Lane
            } else {
                WorkerKind::Managed
            },
            slots: 2,
            offer,
        };
        self.workers[at].is_draining = false;
        self.tell(Event::WorkerRegistered { worker: id, spec });
    }

    fn new_slot(&mut self, worker: usize, registration: WorkerId, number: u32) -> SlotId {
        let id = SlotId(self.slots.len() as u32);
        let delay = self.chance.between(50, 2_000);
        self.slots.push(Slot {
            registration,
            worker,
            number,
            reached: 0,
            sent: 0,
            is_cut: false,
            is_child_down: false,
            joined: self.now + delay,
            queue: VecDeque::new(),
            running: None,
            since: 0,
            run: 0,
            last_started: 0,
            skipped: Vec::new(),
            unsent: Vec::new(),
        });
        self.later(delay, Happening::Joined(registration, id, number));
        id
    }

    pub fn heartbeat(&mut self, at: usize) {
        self.later(1_000_000, Happening::Heard(at));
        let worker = &self.workers[at];
        if worker.stalled_until > self.now || worker.is_lane {
            return;
        }
        match worker.registration {
            Some(_) if worker.is_forgotten => self.come_back(at),
            Some(worker) => self.tell(Event::WorkerHeard { worker }),
            None => {}
        }
    }

    /// The broker does not know a worker any more, and told it so: it registers anew, and its slots
    /// join by new links. What they still run is of no use to anybody.
    fn come_back(&mut self, at: usize) {
        for slot in self.workers[at].slots.clone() {
            self.cut(slot);
        }
        self.start_worker(at);
    }

    /// A dispatch reaches its slot.
    pub fn deliver(&mut self, id: SlotId, dispatch: DispatchId, seq: u32, token: u64) {
        let method = World::method_of(token);
        let mean = method.service_us();
        let mut service_us = self.chance.between(mean / 2, mean * 3 / 2);
        if mean < LONG_US && self.chance.permille(5) {
            service_us *= 40;
        }
        let slot = &mut self.slots[id.0 as usize];
        if slot.is_cut || slot.is_child_down {
            return;
        }
        if let Some(at) = slot.skipped.iter().position(|&skipped| skipped == seq) {
            slot.skipped.swap_remove(at);
            return;
        }
        slot.queue.push_back(Job {
            dispatch,
            seq,
            token,
            service_us,
        });
        self.go_on(id);
    }

    /// A slot starts its next call, if it is free.
    fn go_on(&mut self, id: SlotId) {
        let slot = &mut self.slots[id.0 as usize];
        if slot.running.is_some() || slot.is_cut || slot.is_child_down {
            return;
        }
        if self.workers[slot.worker].stalled_until > self.now {
            return;
        }
        let Some(job) = slot.queue.pop_front() else {
            self.flush(id);
            return;
        };
        slot.running = Some(job);
        slot.since = self.now;
        slot.run += 1;
        slot.last_started = job.seq;
        let run = slot.run;
        if World::method_of(job.token) == Method::Once {
            assert!(
                self.once_started.insert(job.token),
                "{}: started twice",
                job.token
            );
        }
        if job.service_us >= LONG_US {
            self.flush(id);
        }
        self.later(job.service_us, Happening::Done(id, run));
    }

    /// What a slot ran is done.
    pub fn done(&mut self, id: SlotId, run: u64) {
        let slot = &mut self.slots[id.0 as usize];
        if slot.run != run || slot.is_cut {
            return;
        }
        let worker = &self.workers[slot.worker];
        if worker.stalled_until > self.now {
            let at = worker.stalled_until;
            self.at(at, Happening::Done(id, run));
            return;
        }
        let Some(job) = slot.running.take() else {
            return;
        };
        let is_up = slot.joined <= self.now;
        self.busy_us += if is_up { self.now - slot.since } else { 0 };
        let method = World::method_of(job.token);
        let is_lane = worker.is_lane;
        let knows_odd = worker.number.is_multiple_of(2);
        if method == Method::Poison && self.chance.permille(300) && !self.is_ending {
            self.slots[id.0 as usize].running = Some(job);
            self.slots[id.0 as usize].since = self.now;
            self.child_dies(id);
            return;
        }
        let verdict = match method {
            Method::Odd if is_lane && !knows_odd => Verdict::MethodNotFound,
            _ if self.chance.permille(20) => Verdict::Error,
            _ if !is_lane && self.chance.permille(2) => Verdict::Garbage,
            _ => Verdict::Result,
        };
        let slot = &mut self.slots[id.0 as usize];
        slot.unsent
            .push((job.dispatch, job.service_us as u32, verdict));
        if slot.queue.is_empty() || slot.unsent.len() >= 32 || is_lane {
            self.flush(id);
        }
        self.go_on(id);
    }

    fn flush(&mut self, id: SlotId) {
        let slot = &mut self.slots[id.0 as usize];
        if slot.unsent.is_empty() {
            return;
        }
        let unsent = std::mem::take(&mut slot.unsent);
        let at = (self.now + self.chance.between(20, 200)).max(slot.sent);
        slot.sent = at;
        for (dispatch, service_us, verdict) in unsent {
            self.at(at, Happening::Reply(id, dispatch, service_us, verdict));
            if self.chance.permille(2) {
                let later = at + self.chance.below(1_000_000);
                self.at(later, Happening::Reply(id, dispatch, service_us, verdict));
            }
        }
    }

    /// A recall or a cancel reaches its worker by the control link.
    pub fn order(
        &mut self,
        registration: WorkerId,
        id: SlotId,
        dispatch: DispatchId,
        seq: u32,
        is_recall: bool,
    ) {
        if !self.is_registered(registration) {
            return;
        }
        let slot = &mut self.slots[id.0 as usize];
        let worker = &self.workers[slot.worker];
        if slot.is_cut {
            return;
        }
        if worker.stalled_until > self.now {
            let at = worker.stalled_until;
            self.at(
                at,
                Happening::Order(registration, id, dispatch, seq, is_recall),
            );
            return;
        }
        let waits = slot.queue.iter().position(|job| job.seq == seq);
        let is_started = seq <= slot.last_started;
        if is_recall {
            let given_back = !is_started && !slot.is_child_down;
            match waits {
                Some(at) if given_back => drop(slot.queue.remove(at)),
                None if given_back => slot.skipped.push(seq),
                _ => {}
            }
            let delay = self.chance.between(20, 400);
            self.later(
                delay,
                Happening::Recalled(registration, id, dispatch, given_back),
            );
            return;
        }
        let is_running = slot.running.is_some_and(|job| job.seq == seq);
        if is_running && worker.has_processes {
            self.kill(id, EndReason::OnPurpose);
        } else if let Some(at) = waits {
            slot.queue.remove(at);
            slot.unsent.push((dispatch, 0, Verdict::Error));
            self.flush(id);
        }
    }

    /// The child behind a living link ends.
    fn kill(&mut self, id: SlotId, reason: EndReason) {
        self.flush(id);
        self.stop(id);
        let slot = &mut self.slots[id.0 as usize];
        slot.is_child_down = true;
        slot.queue.clear();
        slot.skipped.clear();
        let at = (self.now + self.chance.between(20, 200)).max(slot.sent);
        slot.sent = at;
        let back = at + self.chance.between(10_000, 100_000);
        self.at(at, Happening::ChildLost(id, reason));
        self.at(back, Happening::ChildReady(id));
    }

    pub fn tell_child_lost(&mut self, slot: SlotId, reason: EndReason) {
        if self.slots[slot.0 as usize].is_cut {
            return;
        }
        let ending = Ending {
            reason,
            signal: Some(9),
            ..Ending::default()
        };
        self.tell(Event::ChildLost { slot, ending });
    }

    pub fn child_ready(&mut self, id: SlotId) {
        let slot = &mut self.slots[id.0 as usize];
        if slot.is_cut || !slot.is_child_down {
            return;
        }
        slot.is_child_down = false;
        slot.joined = self.now;
        let (slot, pid) = (id, Some(id.0));
        self.tell(Event::ChildReady { slot, pid });
    }
}
