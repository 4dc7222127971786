//! The shadow's account of workers and slots: what each holds, and who idles.

use super::TestEvent;
use muster_core::{Event, SlotId, Target, WorkerId, WorkerKind, WorkerSpec};
use muster_proto::id::DispatchId;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// A dispatch on a slot, neither answered nor given back.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub dispatch: DispatchId,
    pub seq: u32,
    /// The slot was asked to give it back, and has not said that it is too late for that.
    is_recalled: bool,
    /// The slot was asked to stop it.
    is_cancelled: bool,
}

impl Held {
    pub fn new(dispatch: DispatchId, seq: u32) -> Self {
        Held {
            dispatch,
            seq,
            is_recalled: false,
            is_cancelled: false,
        }
    }

    fn may_return(&self) -> bool {
        self.is_recalled || self.is_cancelled
    }
}

#[derive(Debug)]
struct Slot {
    worker: WorkerId,
    /// It serves the calls inside another one alone.
    is_nested: bool,
    is_down: bool,
    held: Vec<Held>,
    seq: u32,
    /// It has answered something.
    has_answered: bool,
}

#[derive(Debug)]
struct Worker {
    kind: WorkerKind,
    offer: usize,
    is_draining: bool,
    slots: BTreeMap<u32, SlotId>,
}

/// What the same slots can run, and how many of them idle.
#[derive(Debug)]
struct Offer {
    targets: Vec<Target>,
    idle: usize,
}

#[derive(Debug, Default)]
pub struct Places {
    workers: FxHashMap<WorkerId, Worker>,
    slots: FxHashMap<SlotId, Slot>,
    offers: Vec<Offer>,
    offer_of: FxHashMap<Vec<Target>, usize>,
    /// Methods that every lane knows though none says so.
    pub known_to_lanes: Vec<Target>,
}

impl Places {
    /// What the slots hold, by slot: those with something only.
    pub fn held(&self) -> BTreeMap<SlotId, Vec<Held>> {
        let full = self.slots.iter().filter(|(_, slot)| !slot.held.is_empty());
        full.map(|(id, slot)| (*id, slot.held.clone())).collect()
    }

    /// Every linked slot.
    pub fn slots(&self) -> Vec<SlotId> {
        let mut slots: Vec<SlotId> = self.slots.keys().copied().collect();
        slots.sort_unstable();
        slots
    }

    /// Takes in an event about workers and slots; gives the dispatches that are lost with it.
    pub fn before(&mut self, event: &TestEvent) -> Vec<DispatchId> {
        match event {
            Event::WorkerRegistered { worker, spec } => {
                self.registered(*worker, spec);
                Vec::new()
            }
            Event::WorkerDraining { worker } => {
                self.change(*worker, |worker| worker.is_draining = true);
                Vec::new()
            }
            Event::WorkerGone { worker, .. } => self.worker_gone(*worker),
            Event::SlotJoined {
                worker,
                slot,
                number,
                ..
            } => self.joined(*worker, *slot, *number, false),
            Event::NestJoined {
                worker,
                slot,
                number,
                ..
            } => self.joined(*worker, *slot, *number, true),
            Event::SlotGone { slot, .. } | Event::DispatchFailed { slot } => self.slot_gone(*slot),
            Event::ChildLost { slot, .. } => self.child_lost(*slot),
            Event::ChildReady { slot, .. } => {
                self.unidle(*slot);
                if let Some(slot) = self.slots.get_mut(slot) {
                    slot.is_down = false;
                }
                self.idle(*slot);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// A slot answered or gave back; the kind of its worker if it held that dispatch.
    pub fn release(
        &mut self,
        slot_id: SlotId,
        dispatch: DispatchId,
        is_return: bool,
    ) -> Option<WorkerKind> {
        let slot = self.slots.get(&slot_id)?;
        let held = slot.held.iter();
        let at = held
            .clone()
            .position(|held| held.dispatch == dispatch && (held.may_return() || !is_return))?;
        let kind = self.workers[&slot.worker].kind;
        self.unidle(slot_id);
        let slot = self.slots.get_mut(&slot_id).expect("it was there above");
        slot.held.remove(at);
        slot.has_answered |= !is_return;
        self.idle(slot_id);
        Some(kind)
    }

    /// A lane that has not answered yet: what it holds may be given to another slot, too.
    pub fn is_fresh_lane(&self, slot: SlotId) -> bool {
        self.slots.get(&slot).is_some_and(|slot| {
            !slot.has_answered && self.workers[&slot.worker].kind == WorkerKind::Lane
        })
    }

    /// A slot was asked to give a dispatch back.
    pub fn recalled(&mut self, slot: SlotId, dispatch: DispatchId) {
        let held = self.dispatched(slot, dispatch);
        held.expect("it is asked for what it holds").is_recalled = true;
    }

    /// A slot was asked to stop a dispatch.
    pub fn cancelled(&mut self, slot: SlotId, dispatch: DispatchId) {
        let held = self.dispatched(slot, dispatch);
        held.expect("it is told to stop what it holds").is_cancelled = true;
    }

    /// A slot says that it is too late to give a dispatch back: it runs, whatever it says later.
    pub fn too_late(&mut self, slot: SlotId, dispatch: DispatchId) {
        if let Some(held) = self.dispatched(slot, dispatch) {
            held.is_recalled = false;
        }
    }

    fn dispatched(&mut self, slot: SlotId, dispatch: DispatchId) -> Option<&mut Held> {
        let mut held = self.slots.get_mut(&slot)?.held.iter_mut();
        held.find(|held| held.dispatch == dispatch)
    }

    /// A slot is given a dispatch.
    pub fn hold(&mut self, slot_id: SlotId, held: Held) {
        self.unidle(slot_id);
        let slot = self.slots.get_mut(&slot_id);
        let slot = slot.expect("only linked slots are given calls");
        assert!(!slot.is_down, "slot {}: its child is dead", slot_id.0);
        assert!(held.seq > slot.seq, "slot {}: calls are counted", slot_id.0);
        slot.seq = held.seq;
        slot.held.push(held);
        assert!(slot.held.len() <= 256, "slot {}: its cap", slot_id.0);
        let worker = &self.workers[&slot.worker];
        assert!(!worker.is_draining, "a draining worker gets nothing");
        self.idle(slot_id);
    }

    /// A worker left with all its slots; gives the dispatches that are lost with it.
    pub fn worker_gone(&mut self, id: WorkerId) -> Vec<DispatchId> {
        let slots = self.workers.get(&id).map(|worker| worker.slots.clone());
        let slots = slots.unwrap_or_default().into_values();
        let lost = slots.flat_map(|slot| self.slot_gone(slot)).collect();
        self.workers.remove(&id);
        lost
    }

    /// No slot idles while a call waits that it could run.
    pub fn check_idle(&self, queued: impl Fn(&Target) -> usize) {
        for offer in self.offers.iter().filter(|offer| offer.idle > 0) {
            for target in &offer.targets {
                assert_eq!(queued(target), 0, "{target:?}: waits while a slot idles");
            }
        }
    }

    fn registered(&mut self, id: WorkerId, spec: &WorkerSpec) {
        // A lane may refuse what it named, and nobody here keeps account of that.
        let is_lane = spec.kind == WorkerKind::Lane;
        let methods = spec.offer.methods.iter().filter(|_| !is_lane);
        let mut targets: Vec<Target> = methods
            .map(|(method, _)| Target::Method(method.clone()))
            .collect();
        if spec.offer.raw {
            targets.push(Target::Raw);
        }
        if spec.offer.anything {
            targets.extend(self.known_to_lanes.iter().cloned());
        }
        let offer = *self.offer_of.entry(targets.clone()).or_insert_with(|| {
            self.offers.push(Offer { targets, idle: 0 });
            self.offers.len() - 1
        });
        if self.workers.contains_key(&id) {
            self.change(id, |worker| {
                worker.offer = offer;
                worker.is_draining = false;
            });
            return;
        }
        let worker = Worker {
            kind: spec.kind,
            offer,
            is_draining: false,
            slots: BTreeMap::new(),
        };
        self.workers.insert(id, worker);
    }

    fn change(&mut self, id: WorkerId, change: impl Fn(&mut Worker)) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        let slots: Vec<SlotId> = worker.slots.values().copied().collect();
        for slot in &slots {
            self.unidle(*slot);
        }
        change(self.workers.get_mut(&id).expect("it was there above"));
        for slot in slots {
            self.idle(slot);
        }
    }

    fn joined(
        &mut self,
        id: WorkerId,
        slot: SlotId,
        number: u32,
        is_nested: bool,
    ) -> Vec<DispatchId> {
        let Some(worker) = self.workers.get_mut(&id) else {
            return Vec::new();
        };
        let old = worker.slots.insert(number, slot);
        let lost = old.map_or(Vec::new(), |old| self.slot_gone(old));
        let worker = self.workers.get_mut(&id).expect("it was there above");
        worker.slots.insert(number, slot);
        let entry = Slot {
            worker: id,
            is_nested,
            is_down: false,
            held: Vec::new(),
            seq: 0,
            has_answered: false,
        };
        self.slots.insert(slot, entry);
        self.idle(slot);
        lost
    }

    fn slot_gone(&mut self, id: SlotId) -> Vec<DispatchId> {
        self.unidle(id);
        let Some(slot) = self.slots.remove(&id) else {
            return Vec::new();
        };
        if let Some(worker) = self.workers.get_mut(&slot.worker) {
            worker.slots.retain(|_, other| *other != id);
        }
        slot.held.into_iter().map(|held| held.dispatch).collect()
    }

    fn child_lost(&mut self, id: SlotId) -> Vec<DispatchId> {
        self.unidle(id);
        let Some(slot) = self.slots.get_mut(&id) else {
            return Vec::new();
        };
        slot.is_down = true;
        slot.held.drain(..).map(|held| held.dispatch).collect()
    }

    /// Counts a slot as idle, if it is.
    fn idle(&mut self, id: SlotId) {
        if let Some(offer) = self.idle_offer(id) {
            self.offers[offer].idle += 1;
        }
    }

    /// The same the other way, before it changes.
    fn unidle(&mut self, id: SlotId) {
        if let Some(offer) = self.idle_offer(id) {
            self.offers[offer].idle -= 1;
        }
    }

    fn idle_offer(&self, id: SlotId) -> Option<usize> {
        let slot = self.slots.get(&id)?;
        let worker = self.workers.get(&slot.worker)?;
        let is_idle =
            slot.held.is_empty() && !slot.is_down && !slot.is_nested && !worker.is_draining;
        is_idle.then_some(worker.offer)
    }
}
