//! Workers and slots that come, stay silent and go.

use crate::event::{EndReason, WorkerKind, WorkerSpec};
use crate::group::GroupId;
use crate::note::Note;
use crate::slot::{Slot, Worker};
use crate::timer::Due;
use crate::transit::Transit;
use crate::{Action, Core, MonoTime, NestId, Reply, Request, SlotId, WorkerId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Method names that are remembered after their workers left.
pub(crate) const KNOWN_METHODS_MAX: usize = 100_000;

impl<Q: Request, R: Reply> Core<Q, R> {
    /// A worker introduced itself, for the first time or with a new offer.
    pub(crate) fn worker_registered(&mut self, id: WorkerId, spec: WorkerSpec) {
        for (method, _) in &spec.offer.methods {
            if self.known.len() < KNOWN_METHODS_MAX && !self.known.contains(method) {
                self.known.insert(method.clone());
            }
        }
        let name: Box<str> = spec.name.as_str().into();
        if !self.workers.contains_key(&id) {
            self.note(|_| Note::WorkerUp {
                worker: spec.name.as_str().into(),
            });
        }
        let found = self.groups.find(spec.kind, &spec.offer);
        let is_new_group = found.is_none();
        let group = found.unwrap_or_else(|| self.groups.insert(spec.kind, spec.offer.clone()));
        if self.workers.contains_key(&id) {
            self.move_to_group(id, spec, group);
        } else {
            self.groups[group].workers += 1;
            self.worker_names.insert(name.clone(), id);
            let silence_timer = match spec.kind {
                WorkerKind::Managed => self.silent_at(self.now),
                WorkerKind::Lane => MonoTime::NEVER,
            };
            self.timers.arm(silence_timer, Due::Heartbeat(id));
            self.workers.insert(
                id,
                Worker {
                    name: spec.name.as_str().into(),
                    spec,
                    group,
                    slots: BTreeMap::new(),
                    heard: self.now,
                    doubted_since: None,
                    silence_timer,
                    is_draining: false,
                    calls: 0,
                    failures: 0,
                    mourned: BTreeMap::new(),
                    obituaries: BTreeMap::new(),
                },
            );
        }
        if is_new_group {
            self.reroute();
        }
        // An address may have become good.
        self.reroute_to(&name);
        if self.now < self.settle_until {
            self.timers.disarm(self.settle_until, Due::Settle);
            self.settle();
        }
    }

    fn move_to_group(&mut self, id: WorkerId, spec: WorkerSpec, group: GroupId) {
        let worker = self.workers.get_mut(&id).expect("the caller checked");
        let old_name: Box<str> = worker.spec.name.as_str().into();
        let new_name: Box<str> = spec.name.as_str().into();
        let before = std::mem::replace(&mut worker.group, group);
        worker.name = spec.name.as_str().into();
        worker.spec = spec;
        worker.heard = self.now;
        worker.doubted_since = None;
        worker.is_draining = false;
        let slots: Vec<SlotId> = worker.slots.values().copied().collect();
        // Another worker may have taken the old name since.
        if self.worker_names.get(&old_name) == Some(&id) {
            self.worker_names.remove(&old_name);
        }
        self.worker_names.insert(new_name, id);
        self.groups[group].workers += 1;
        for slot in &slots {
            self.unrank(*slot);
            let held = self.slots.get_mut(slot).expect("a worker's slot exists");
            held.group = group;
            held.is_leaving = false;
            self.groups[before].slots -= 1;
            self.groups[group].slots += 1;
            if self.groups[before].no_json.remove(slot) {
                self.groups[group].no_json.insert(*slot);
            }
        }
        self.reroute_to(&old_name);
        self.leave_group(before);
        for slot in slots {
            self.feed(slot);
        }
    }

    fn leave_group(&mut self, id: GroupId) {
        self.groups[id].workers -= 1;
        if self.groups[id].workers == 0 {
            let waiting = std::mem::take(&mut self.groups[id].waiting);
            for &(_, class) in waiting.iter() {
                self.unlist(class);
            }
            for class in self.classes.ids() {
                let is_listed = self.classes[class].groups.contains(&id);
                if is_listed {
                    self.unlist(class);
                    self.classes[class].groups.retain(|&group| group != id);
                    self.list(class);
                }
            }
            self.groups.remove(id);
            self.reroute();
        }
    }

    pub(crate) fn worker_heard(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.heard = self.now;
            worker.doubted_since = None;
        }
    }

    pub(crate) fn worker_draining(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.is_draining = true;
        let (name, slots) = (worker.name.clone(), worker.slots.values().copied());
        let slots: Vec<SlotId> = slots.collect();
        self.stop_feeding(&slots);
        self.note(|_| Note::WorkerDraining { worker: name });
    }

    /// Slots of a worker that takes no more calls.
    fn stop_feeding(&mut self, slots: &[SlotId]) {
        for id in slots {
            let slot = self.slots.get_mut(id).expect("a worker's slot exists");
            slot.is_leaving = true;
            self.rank(*id);
        }
    }

    /// A worker left: so do its slots.
    pub(crate) fn worker_gone(&mut self, id: WorkerId, reason: EndReason) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        // Its other slots are as good as gone: no call put back may go to them.
        worker.is_draining = true;
        let name = worker.name.clone();
        let slots: Vec<SlotId> = worker.slots.values().copied().collect();
        self.stop_feeding(&slots);
        self.note(|_| Note::WorkerDown {
            worker: name,
            reason,
        });
        for slot in slots {
            // With the worker goes the link that word of its children would come by.
            self.lose_slot(slot, reason, false);
        }
        self.nests_without(id);
        let worker = self.workers.remove(&id).expect("it was there above");
        self.timers.disarm(worker.silence_timer, Due::Heartbeat(id));
        let name = worker.spec.name.as_str();
        if self.worker_names.get(name) == Some(&id) {
            self.worker_names.remove(name);
        }
        self.leave_group(worker.group);
        self.reroute_to(name);
    }

    /// A worker may have been silent for too long.
    pub(crate) fn heartbeat_due(&mut self, id: WorkerId) {
        let Some(heard) = self.workers.get(&id).map(|worker| worker.heard) else {
            return;
        };
        let at = self.silent_at(heard.max(self.awake_since));
        if at > self.now {
            self.timers.arm(at, Due::Heartbeat(id));
            let worker = self.workers.get_mut(&id).expect("it was there above");
            worker.silence_timer = at;
            return;
        }
        self.actions.push_back(Action::ForgetWorker { worker: id });
        self.worker_gone(id, EndReason::Silent);
    }

    fn silent_at(&self, heard: MonoTime) -> MonoTime {
        heard.after(self.config.heartbeat * self.config.heartbeats_missed_max)
    }

    /// A slot's link is up.
    pub(crate) fn slot_joined(
        &mut self,
        worker_id: WorkerId,
        id: SlotId,
        number: u32,
        pid: Option<u32>,
        nest: Option<NestId>,
    ) {
        let Some(worker) = self.workers.get(&worker_id) else {
            return;
        };
        // A slot that joins again has lost its old link, whether the broker knows it yet or not.
        if let Some(&old) = worker.slots.get(&number) {
            self.slot_gone(old, EndReason::Disconnected);
        }
        let worker = self
            .workers
            .get_mut(&worker_id)
            .expect("it was there above");
        worker.slots.insert(number, id);
        worker.obituaries.remove(&number);
        worker.doubted_since = None;
        let slot = Slot {
            worker: worker_id,
            kind: worker.spec.kind,
            group: worker.group,
            number,
            pid,
            nest,
            is_down: false,
            is_leaving: worker.is_draining,
            in_flight: VecDeque::new(),
            since: self.now,
            backlog_us: 0,
            transit: Transit::default(),
            is_exclusive: false,
            rank: None,
            deep_at: None,
            is_overrun: false,
            overrun_timer: MonoTime::NEVER,
            seq: 0,
            calls: 0,
            failures: 0,
            service_us: 0,
            strikes: 0,
            struck: self.now,
            refused: BTreeSet::new(),
            no_json: false,
            is_on_probation: worker.spec.kind == WorkerKind::Lane,
        };
        self.groups[slot.group].slots += 1;
        self.slots.insert(id, slot);
        if let Some(nest) = nest {
            self.nest_joined(nest, worker_id, id);
        }
        self.feed(id);
    }
}
