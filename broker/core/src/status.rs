//! What the core knows, for those who ask. Scans everything: not for the path of a call.

use crate::call::CallState;
use crate::class::Class;
use crate::event::{Target, WorkerKind};
use crate::recent::Histogram;
use crate::slot::{DispatchedState, Slot, Worker};
use crate::{ClientId, Core, MonoTime, Reply, Request, SlotId, Totals, WorkerId};
use muster_proto::id::CallId;
use std::collections::{BTreeMap, BTreeSet};

/// A slot's state as users see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SlotState {
    /// Announced, and its link is not up yet.
    Starting,
    /// It can be given calls and runs none.
    Ready,
    /// It runs a call.
    Busy,
    /// It finishes what runs.
    Draining,
    /// Its child died and is not replaced yet.
    Backoff,
}

/// The broker in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Managed workers.
    pub managed: usize,
    /// Lanes.
    pub lanes: usize,
    /// Slots in each state, in the order of [`SlotState`].
    pub slots: [usize; 5],
    /// Connections with open calls.
    pub clients: usize,
    /// Calls that wait.
    pub queued: usize,
    /// Their bytes.
    pub queued_bytes: usize,
    /// Calls on slots.
    pub running: usize,
    /// Since the start.
    pub totals: Totals,
    /// The broker takes no more calls.
    pub is_draining: bool,
    /// Methods on offer.
    pub methods: usize,
}

/// A worker in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerStatus {
    /// Which.
    pub id: WorkerId,
    /// Its name.
    pub name: String,
    /// Its host.
    pub host: String,
    /// Its process.
    pub pid: Option<u32>,
    /// Managed or lane.
    pub kind: WorkerKind,
    /// The state of the worker as a whole: busy when any slot is.
    pub state: SlotState,
    /// Calls on its slots.
    pub in_flight: usize,
    /// Answers so far.
    pub calls: u64,
    /// Of these, errors.
    pub failures: u64,
    /// It is leaving.
    pub is_draining: bool,
    /// Each slot, by number.
    pub slots: Vec<SlotStatus>,
}

/// A slot in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotStatus {
    /// Its number in the worker, from 1.
    pub number: u32,
    /// Its link, when it is up.
    pub id: Option<SlotId>,
    /// Its state.
    pub state: SlotState,
    /// The process that runs its calls.
    pub pid: Option<u32>,
    /// Calls on it.
    pub in_flight: usize,
    /// Answers so far.
    pub calls: u64,
    /// Of these, errors.
    pub failures: u64,
    /// Service time given.
    pub service_us: u64,
    /// The call that runs, and since when.
    pub running: Option<(CallId, MonoTime)>,
}

/// A method on offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodStatus {
    /// Calls that wait for it.
    pub queued: usize,
    /// Estimated service time per item.
    pub service_ns: Option<u64>,
    /// Service time given.
    pub total_ns: u64,
    /// How long its calls took, from admission to answer.
    pub latency: Histogram,
    /// Its calls that ended with anything but a result.
    pub failures: u64,
}

/// One open call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallStatus {
    /// Which.
    pub id: CallId,
    /// Its client's connection.
    pub client: ClientId,
    /// Whom it is for.
    pub target: Target,
    /// It runs (or is parked) on this slot.
    pub slot: Option<SlotId>,
    /// It will be tried again later.
    pub is_delayed: bool,
    /// Calls of its own client in front of it.
    pub position: Option<usize>,
    /// When it was taken on.
    pub admitted: MonoTime,
    /// Dispatches so far.
    pub dispatches: u32,
    /// Attempts charged so far.
    pub charged: u16,
    /// Items of its chunk.
    pub items: u32,
}

impl From<&Class> for MethodStatus {
    fn from(class: &Class) -> Self {
        MethodStatus {
            queued: class.queue.len(),
            service_ns: class.estimate.per_item_ns(),
            total_ns: class.estimate.total_ns(),
            latency: class.latency,
            failures: class.failures,
        }
    }
}

impl MethodStatus {
    fn add(&mut self, other: &MethodStatus) {
        self.queued += other.queued;
        self.service_ns = self.service_ns.or(other.service_ns);
        self.total_ns = self.total_ns.wrapping_add(other.total_ns);
        self.latency.merge(&other.latency);
        self.failures += other.failures;
    }
}

/// What the core's own account of an open call takes, about.
const CALL_BYTES: usize = 256;

impl<Q: Request, R: Reply> Core<Q, R> {
    /// About how much memory open calls and kept answers take.
    pub fn held_bytes(&self) -> usize {
        self.calls.len() * CALL_BYTES + self.queued_bytes + self.keys.bytes()
    }

    /// The broker in numbers.
    pub fn status(&self) -> Status {
        let workers = self.workers();
        let mut slots = [0; 5];
        for slot in workers.iter().flat_map(|worker| &worker.slots) {
            slots[slot.state as usize] += 1;
        }
        let managed = workers
            .iter()
            .filter(|w| w.kind == WorkerKind::Managed)
            .count();
        Status {
            managed,
            lanes: workers.len() - managed,
            slots,
            clients: self.clients.len(),
            queued: self.queued_calls,
            queued_bytes: self.queued_bytes,
            running: workers.iter().map(|worker| worker.in_flight).sum(),
            totals: self.totals,
            is_draining: self.draining.is_some(),
            methods: self.offered().len(),
        }
    }

    /// Every worker, by name.
    pub fn workers(&self) -> Vec<WorkerStatus> {
        self.worker_names
            .values()
            .map(|id| self.worker_status(*id))
            .collect()
    }

    fn worker_status(&self, id: WorkerId) -> WorkerStatus {
        let worker = &self.workers[&id];
        // Those that go, and those opened for calls inside others, come after the rest.
        let further = worker.slots.range(worker.spec.slots + 1..);
        let slots: Vec<SlotStatus> = (1..=worker.spec.slots)
            .chain(further.map(|(&number, _)| number))
            .map(|number| self.slot_status(worker, number))
            .collect();
        let in_flight = slots.iter().map(|slot| slot.in_flight).sum();
        let any = |state| slots.iter().any(|slot| slot.state == state);
        let state = match () {
            () if worker.is_draining => SlotState::Draining,
            () if any(SlotState::Busy) => SlotState::Busy,
            () if any(SlotState::Ready) => SlotState::Ready,
            () if any(SlotState::Backoff) => SlotState::Backoff,
            () => SlotState::Starting,
        };
        WorkerStatus {
            id,
            name: worker.spec.name.clone(),
            host: worker.spec.host.clone(),
            pid: worker.spec.pid,
            kind: worker.spec.kind,
            state,
            in_flight,
            calls: worker.calls,
            failures: worker.failures,
            is_draining: worker.is_draining,
            slots,
        }
    }

    fn slot_status(&self, worker: &Worker, number: u32) -> SlotStatus {
        let id = worker.slots.get(&number).copied();
        let slot = id.map(|id| &self.slots[&id]);
        let state = match slot {
            _ if worker.is_draining => SlotState::Draining,
            None => SlotState::Starting,
            Some(slot) if slot.is_down => SlotState::Backoff,
            Some(slot) if slot.in_flight.is_empty() => SlotState::Ready,
            Some(_) => SlotState::Busy,
        };
        let running = |slot: &Slot| {
            let front = slot.in_flight.front()?;
            (front.state != DispatchedState::Abandoned).then_some((front.call, slot.since))
        };
        SlotStatus {
            number,
            id,
            state,
            pid: slot.and_then(|slot| slot.pid),
            in_flight: slot.map_or(0, |slot| slot.in_flight.len()),
            calls: slot.map_or(0, |slot| slot.calls),
            failures: slot.map_or(0, |slot| slot.failures),
            service_us: slot.map_or(0, |slot| slot.service_us),
            running: slot.and_then(running),
        }
    }

    /// Names of the methods on offer now, in order.
    pub fn offered(&self) -> BTreeSet<&str> {
        let offers = self
            .groups
            .iter()
            .flat_map(|(_, group)| &group.offer.methods);
        offers.map(|(name, _)| name.as_ref()).collect()
    }

    /// Whether some worker takes raw bodies now.
    pub fn takes_raw(&self) -> bool {
        self.groups.iter().any(|(_, group)| group.offer.raw)
    }

    /// Names of the methods that were ever registered, in order.
    pub fn known(&self) -> impl ExactSizeIterator<Item = &str> {
        self.known.iter().map(Box::as_ref)
    }

    /// Names of the methods that lanes have answered, in order.
    pub fn served_by_lanes(&self) -> impl ExactSizeIterator<Item = &str> {
        self.served_by_lanes.iter().map(Box::as_ref)
    }

    /// What is known of a method, if it was ever called.
    pub fn method(&self, name: &str) -> Option<MethodStatus> {
        let class = &self.classes[self.classes.find(&Target::Method(name.into()))?];
        Some(class.into())
    }

    /// What is known of each method that was ever called, calls to a worker by name included.
    pub fn methods(&self) -> BTreeMap<&str, MethodStatus> {
        let mut methods: BTreeMap<&str, MethodStatus> = BTreeMap::new();
        for (_, class) in self.classes.iter() {
            let (Target::Method(name) | Target::MethodAt { method: name, .. }) = &*class.target
            else {
                continue;
            };
            let found = MethodStatus::from(class);
            methods
                .entry(name)
                .and_modify(|known| known.add(&found))
                .or_insert(found);
        }
        methods
    }

    /// How many calls wait for a target.
    pub fn queued_for(&self, target: &Target) -> usize {
        let class = self.classes.find(target);
        class.map_or(0, |class| self.classes[class].queue.len())
    }

    /// The open call with this id.
    pub fn call(&self, id: CallId) -> Option<CallStatus> {
        let position = self.position(id);
        Some(CallStatus {
            position,
            ..self.brief(id)?
        })
    }

    fn position(&self, id: CallId) -> Option<usize> {
        let call = self.calls.get(id)?;
        let queue = &self.classes[call.class].queue;
        queue.position(call.client, call.priority, id)
    }

    /// All but the position.
    fn brief(&self, id: CallId) -> Option<CallStatus> {
        let call = self.calls.get(id)?;
        let class = &self.classes[call.class];
        Some(CallStatus {
            id,
            client: call.client,
            target: Target::clone(&class.target),
            slot: match call.state {
                CallState::Dispatched { slot } => Some(slot),
                _ => None,
            },
            is_delayed: matches!(call.state, CallState::Delayed { .. }),
            position: None,
            admitted: call.admitted,
            dispatches: call.dispatches,
            charged: call.charged,
            items: call.items,
        })
    }

    /// Open calls in the order of admission, as long as `wanted` says so. It is asked before the
    /// position is known, which takes a walk along a queue.
    pub fn calls(&self, limit: usize, wanted: impl Fn(&CallStatus) -> bool) -> Vec<CallStatus> {
        let ids = self.calls.iter().map(|(id, _)| id);
        self.statuses(ids, limit, wanted)
    }

    /// The same of calls that are on slots. Asks the slots: a million may wait.
    pub fn running_calls(
        &self,
        limit: usize,
        wanted: impl Fn(&CallStatus) -> bool,
    ) -> Vec<CallStatus> {
        let held = self.slots.values().flat_map(|slot| &slot.in_flight);
        let ids: BTreeSet<CallId> = held.map(|dispatched| dispatched.call).collect();
        self.statuses(ids.into_iter(), limit, wanted)
    }

    fn statuses(
        &self,
        ids: impl Iterator<Item = CallId>,
        limit: usize,
        wanted: impl Fn(&CallStatus) -> bool,
    ) -> Vec<CallStatus> {
        let brief = ids.filter_map(|id| self.brief(id)).filter(wanted);
        let placed = brief.take(limit).map(|status| CallStatus {
            position: self.position(status.id),
            ..status
        });
        placed.collect()
    }

    /// Name of the worker a slot belongs to, and the slot's number there.
    pub fn slot_name(&self, slot: SlotId) -> Option<(&str, u32)> {
        let slot = self.slots.get(&slot)?;
        Some((
            self.workers.get(&slot.worker)?.spec.name.as_str(),
            slot.number,
        ))
    }
}
