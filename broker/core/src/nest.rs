//! Calls made inside calls: what keeps a pool whose slots all wait for one another from standing
//! still.
//!
//! A call that says inside which running call it is made is nested. It takes a free slot like any
//! other, never a place behind what runs. When none is free, a worker is asked to open one more slot
//! for the time that the outer call runs, which serves the calls made directly inside it and nothing
//! else: the outer call may be waiting for them with the slot that they would need. The slot is
//! closed when the outer call has ended and what runs on it is done.

use crate::call::CallState;
use crate::class::ClassId;
use crate::event::WorkerKind;
use crate::{Action, Core, Failure, Outcome, Reply, Request, SlotId, WorkerId};
use muster_proto::id::CallId;
use muster_proto::limits;
use std::collections::{BTreeMap, BTreeSet};

/// One run of an outer call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NestId {
    /// The outer call.
    pub call: CallId,
    /// Which of its attempts.
    pub attempt: u32,
}

impl NestId {
    /// The one before all others.
    const FIRST: NestId = NestId {
        call: CallId(0),
        attempt: 0,
    };
}

/// Where a nested call belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nested {
    pub nest: NestId,
    /// How many calls it is inside of.
    pub depth: u8,
}

/// The waiting calls inside one run of a call, and the slots opened for them.
#[derive(Debug, Default)]
pub(crate) struct Nest {
    waiting: BTreeMap<ClassId, BTreeSet<CallId>>,
    helpers: BTreeMap<WorkerId, Helper>,
    /// Workers that opened none: their own caps were reached.
    refused: BTreeSet<WorkerId>,
    /// The outer call does not run any more.
    is_over: bool,
}

/// A slot opened for a nest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Helper {
    Asked,
    /// Its worker can't open one until another has gone.
    Queued,
    Up(SlotId),
    /// Its worker was told to close it.
    Closing(SlotId),
}

impl<Q: Request, R: Reply> Core<Q, R> {
    /// Where a call belongs that is made inside `parent`; `None` when that one does not run.
    pub(crate) fn nested_in(&self, parent: Option<CallId>) -> Result<Option<Nested>, Failure> {
        let Some(call) = parent else { return Ok(None) };
        let Some(outer) = self.calls.get(call) else {
            return Ok(None);
        };
        if !matches!(outer.state, CallState::Dispatched { .. }) {
            return Ok(None);
        }
        let depth = 1 + outer.nested().map_or(0, |nested| nested.depth);
        if usize::from(depth) > limits::NESTED_DEPTH_MAX {
            let (limit, max) = ("nested_depth", limits::NESTED_DEPTH_MAX);
            return Err(Failure::Overloaded { limit, max });
        }
        let attempt = outer.dispatches;
        let nest = NestId { call, attempt };
        Ok(Some(Nested { nest, depth }))
    }

    /// A nested call waits.
    pub(crate) fn wait_in_nest(&mut self, id: CallId, class: ClassId, nested: Nested) {
        if self.slot_of_nest(nested.nest).is_some() {
            let nest = self.nests.entry(nested.nest).or_default();
            nest.waiting.entry(class).or_default().insert(id);
            self.stirred_nests.push(nested.nest);
        }
    }

    /// A nested call waits no more.
    pub(crate) fn leave_nest(&mut self, id: CallId, class: ClassId, nested: Nested) {
        if let Some(nest) = self.nests.get_mut(&nested.nest)
            && let Some(waiting) = nest.waiting.get_mut(&class)
        {
            waiting.remove(&id);
            if waiting.is_empty() {
                nest.waiting.remove(&class);
            }
            self.stirred_nests.push(nested.nest);
        }
    }

    /// An outer call does not run any more.
    pub(crate) fn end_nest(&mut self, call: CallId) {
        if self.nests.is_empty() {
            return;
        }
        let runs = NestId { call, attempt: 0 }..=NestId {
            call,
            attempt: u32::MAX,
        };
        for (id, nest) in self.nests.range_mut(runs) {
            nest.is_over = true;
            nest.waiting.clear();
            self.stirred_nests.push(*id);
        }
    }

    /// The slot that was asked for is there.
    pub(crate) fn nest_joined(&mut self, id: NestId, worker: WorkerId, slot: SlotId) {
        let nest = self.nests.entry(id).or_default();
        nest.helpers.insert(worker, Helper::Up(slot));
        nest.is_over |= !matches!(
            self.calls.get(id.call),
            Some(call) if call.dispatches == id.attempt
                && matches!(call.state, CallState::Dispatched { .. })
        );
        self.stirred_nests.push(id);
    }

    /// A worker opens no more slots: its own cap is reached. What no other can help waits for a slot
    /// of an outer call that has ended, or else ends.
    pub(crate) fn nest_refused(&mut self, id: NestId, worker: WorkerId, max: usize) {
        let Some(nest) = self.nests.get_mut(&id) else {
            return;
        };
        if nest.helpers.get(&worker) != Some(&Helper::Asked) {
            return;
        }
        nest.helpers.remove(&worker);
        if nest.is_over {
            self.stirred_nests.push(id);
            self.ask_again(worker);
            return;
        }
        let could_help: Vec<ClassId> = nest.waiting.keys().copied().collect();
        let could_help = could_help
            .into_iter()
            .filter(|class| self.worker_for_nest(id, *class) == Some(worker));
        let could_help: Vec<ClassId> = could_help.collect();
        let has_slot_soon = self.has_nest_slot_soon(worker);
        let nest = self.nests.get_mut(&id).expect("it was there above");
        nest.refused.insert(worker);
        for class in could_help {
            if self.worker_for_nest(id, class).is_some() {
                continue;
            }
            if has_slot_soon {
                let nest = self.nests.get_mut(&id).expect("it was there above");
                nest.refused.remove(&worker);
                nest.helpers.insert(worker, Helper::Queued);
                self.queued_nests.insert((worker, id));
            } else {
                self.end_waiting(id, class, max);
            }
        }
        self.stirred_nests.push(id);
    }

    /// Whether a slot that this worker opened, or is about to, has nothing left to serve. Looks at
    /// all nests, of which there are no more than calls that wait inside others.
    fn has_nest_slot_soon(&self, worker: WorkerId) -> bool {
        let ends = |nest: &Nest| {
            let helper = nest.helpers.get(&worker);
            nest.is_over && helper.is_some_and(|helper| *helper != Helper::Queued)
        };
        self.nests.values().any(ends)
    }

    /// One of a worker's slots is gone: the next nest may ask for it. When no other slot will go by
    /// itself all may, since those that run could be waiting for them.
    fn ask_again(&mut self, worker: WorkerId) {
        let is_last = !self.has_nest_slot_soon(worker);
        let mut may_ask = Vec::new();
        while let Some(&(found, id)) = self.queued_nests.range((worker, NestId::FIRST)..).next() {
            if found != worker {
                break;
            }
            self.queued_nests.remove(&(worker, id));
            let nest = self.nests.get_mut(&id).expect("it waits in the queue");
            nest.helpers.remove(&worker);
            may_ask.push(id);
            if !is_last && !nest.waiting.is_empty() {
                break;
            }
        }
        // The one stirred last is served first.
        self.stirred_nests.extend(may_ask.into_iter().rev());
    }

    /// Nobody opens a slot for these calls. Later ones ask everybody again.
    fn end_waiting(&mut self, id: NestId, class: ClassId, max: usize) {
        let Some(nest) = self.nests.get_mut(&id) else {
            return;
        };
        nest.refused.clear();
        let waiting = nest.waiting.get(&class).cloned().unwrap_or_default();
        for call in waiting {
            let limit = "nested_slots";
            self.finish(call, Outcome::Failed(Failure::Overloaded { limit, max }));
        }
    }

    /// A slot opened for a nest is gone, or its worker before it could open one.
    pub(crate) fn nest_slot_gone(&mut self, id: NestId, worker: WorkerId) {
        if let Some(nest) = self.nests.get_mut(&id) {
            nest.helpers.remove(&worker);
            self.stirred_nests.push(id);
        }
        self.ask_again(worker);
    }

    /// A worker is gone, and with it the slots it was asked for.
    pub(crate) fn nests_without(&mut self, worker: WorkerId) {
        let asked = self
            .nests
            .iter_mut()
            .filter_map(|(id, nest)| nest.helpers.remove(&worker).map(|_| *id));
        self.stirred_nests.extend(asked);
        self.queued_nests.retain(|(found, _)| *found != worker);
    }

    /// Serves the nests in which something has changed during this event.
    pub(crate) fn settle_nests(&mut self) {
        while let Some(id) = self.stirred_nests.pop() {
            let is_over = match self.nests.get(&id) {
                None => continue,
                Some(nest) => nest.is_over,
            };
            if is_over {
                self.close_nest(id);
            } else {
                self.serve_nest(id);
            }
        }
    }

    /// Who is queued at a worker waits for a slot that will go.
    pub(crate) fn check_queued_nests(&self) {
        let helpers = self.nests.values().flat_map(|nest| nest.helpers.values());
        let queued = helpers.filter(|helper| **helper == Helper::Queued).count();
        assert_eq!(queued, self.queued_nests.len(), "queued nests");
        for (worker, id) in &self.queued_nests {
            let helper = self.nests[id].helpers.get(worker);
            assert_eq!(helper, Some(&Helper::Queued), "{id:?} is queued");
            assert!(self.has_nest_slot_soon(*worker), "{id:?} waits in vain");
        }
    }

    fn serve_nest(&mut self, id: NestId) {
        let classes: Vec<ClassId> = self.nests[&id].waiting.keys().copied().collect();
        for class in classes {
            let Some(worker) = self.worker_for_nest(id, class) else {
                continue;
            };
            let nest = self.nests.get_mut(&id).expect("it was there above");
            let first = nest.waiting.get(&class).and_then(BTreeSet::first).copied();
            let Some(first) = first else { continue };
            match nest.helpers.get(&worker) {
                None => {
                    nest.helpers.insert(worker, Helper::Asked);
                    let nest = id;
                    self.actions.push_back(Action::OpenSlot { worker, nest });
                }
                Some(&Helper::Up(slot)) if self.slots[&slot].is_idle() => {
                    self.run_nested(slot, first);
                }
                Some(_) => {}
            }
        }
        let nest = &self.nests[&id];
        if nest.waiting.is_empty() && nest.helpers.is_empty() {
            self.nests.remove(&id);
        }
    }

    /// Closes the slots of a nest that is over as they fall idle, and forgets it with the last.
    fn close_nest(&mut self, id: NestId) {
        let nest = self.nests.get_mut(&id).expect("the caller saw it");
        nest.helpers.retain(|worker, helper| {
            let is_queued = *helper == Helper::Queued;
            if is_queued {
                self.queued_nests.remove(&(*worker, id));
            }
            !is_queued
        });
        for helper in nest.helpers.values_mut() {
            if let Helper::Up(slot) = *helper
                && self.slots[&slot].in_flight.is_empty()
            {
                *helper = Helper::Closing(slot);
                self.actions.push_back(Action::CloseSlot { slot });
            }
        }
        if nest.helpers.is_empty() {
            self.nests.remove(&id);
        }
    }

    fn slot_of_nest(&self, id: NestId) -> Option<SlotId> {
        let call = self.calls.get(id.call)?;
        match call.state {
            CallState::Dispatched { slot } if call.dispatches == id.attempt => Some(slot),
            _ => None,
        }
    }

    /// Who opens a slot for calls of this class: the worker that runs the outer call if it can run
    /// them, else another.
    fn worker_for_nest(&self, id: NestId, class: ClassId) -> Option<WorkerId> {
        let own = self.slots.get(&self.slot_of_nest(id)?)?.worker;
        let class = self.classes.get(class)?;
        let nest = self.nests.get(&id)?;
        let fits = |id: &WorkerId| {
            let worker = &self.workers[id];
            !nest.refused.contains(id)
                && worker.spec.kind == WorkerKind::Managed
                && !worker.is_draining
                && class.groups.contains(&worker.group)
                && class
                    .target
                    .worker()
                    .is_none_or(|name| name == worker.spec.name)
        };
        let mut others = self.worker_names.values().copied();
        Some(own).filter(fits).or_else(|| others.find(fits))
    }
}
