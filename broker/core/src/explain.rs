//! Why a call waits: each worker that could run it, and what keeps it from it.

use crate::action::Attempt;
use crate::call::CallState;
use crate::event::WorkerKind;
use crate::recent::EndedCall;
use crate::slot::{Slot, Worker};
use crate::{Core, MonoTime, Reply, Request};
use muster_proto::id::CallId;

/// What keeps a worker from a waiting call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It takes no more calls.
    Draining,
    /// No slot of it is linked yet, or their children are being replaced.
    NoSlot,
    /// It answered that it does not know the method.
    Refused,
    /// All its slots are busy with something else.
    Busy,
    /// Others go first: calls that came earlier, or whose client was given less.
    Turn,
}

/// What is known of an open call beyond its status.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation<'a> {
    /// Calls that wait for the same methods and workers as this one, it included.
    pub waiting: usize,
    /// Calls in front of it on its slot; `None`: it is on none.
    pub ahead: Option<usize>,
    /// When it was handed to its slot.
    pub dispatched: Option<MonoTime>,
    /// When it will be tried again.
    pub retry: Option<MonoTime>,
    /// When its time is up; [`MonoTime::NEVER`] without a deadline.
    pub deadline: MonoTime,
    /// How often it may be tried.
    pub attempts_max: u16,
    /// The tries that ended with their slot.
    pub attempts: &'a [Attempt],
    /// Who could run it, and what keeps each from it.
    pub workers: Vec<(&'a str, Obstacle)>,
}

impl<Q: Request, R: Reply> Core<Q, R> {
    /// Why an open call is where it is.
    pub fn explain(&self, id: CallId) -> Option<Explanation<'_>> {
        let call = self.calls.get(id)?;
        let slot = match call.state {
            CallState::Dispatched { slot } => self.slots.get(&slot),
            _ => None,
        };
        let ahead = slot.and_then(|slot| slot.in_flight.iter().position(|held| held.call == id));
        let dispatched = slot
            .zip(ahead)
            .map(|(slot, ahead)| slot.in_flight[ahead].at);
        let retry = match call.state {
            CallState::Delayed { until } => Some(until),
            _ => None,
        };
        let extra = call.extra.as_deref();
        Some(Explanation {
            waiting: self.classes[call.class].queue.len(),
            ahead,
            dispatched,
            retry,
            deadline: call.deadline,
            attempts_max: call.attempts_max,
            attempts: extra.map_or(&[], |extra| extra.attempts.as_slice()),
            workers: self.obstacles(id),
        })
    }

    /// Workers that could run a waiting call, by name, and what keeps each from it. Empty when
    /// nobody offers its method, or when it does not wait.
    pub fn obstacles(&self, id: CallId) -> Vec<(&str, Obstacle)> {
        let Some(call) = self.calls.get(id) else {
            return Vec::new();
        };
        if !matches!(call.state, CallState::Queued) {
            return Vec::new();
        }
        let class = &self.classes[call.class];
        let named = self.worker_names.values().map(|id| &self.workers[id]);
        let able = named.filter(|worker| {
            let is_meant = class
                .target
                .worker()
                .is_none_or(|name| *name == *worker.name);
            is_meant && class.groups.contains(&worker.group)
        });
        able.map(|worker| (worker.spec.name.as_str(), self.obstacle(worker, call.class)))
            .collect()
    }

    fn obstacle(&self, worker: &Worker, class: crate::class::ClassId) -> Obstacle {
        let refused = &self.classes[class].refused_by;
        let slots: Vec<&Slot> = worker.slots.values().map(|id| &self.slots[id]).collect();
        let is_lane = worker.spec.kind == WorkerKind::Lane;
        match () {
            () if worker.is_draining => Obstacle::Draining,
            () if slots.iter().all(|slot| slot.is_down) => Obstacle::NoSlot,
            () if is_lane && worker.slots.values().all(|id| refused.contains(id)) => {
                Obstacle::Refused
            }
            () if slots
                .iter()
                .all(|slot| slot.is_down || !slot.in_flight.is_empty()) =>
            {
                Obstacle::Busy
            }
            () => Obstacle::Turn,
        }
    }

    /// A call that ended not long ago.
    pub fn ended(&self, id: CallId) -> Option<&EndedCall<R>> {
        self.recent.all().find(|call| call.id == id)
    }

    /// Failed calls that are remembered, the newest first.
    pub fn failed_calls(&self) -> impl Iterator<Item = &EndedCall<R>> {
        self.recent.failed()
    }

    /// The slowest of the calls that are remembered, the slowest first.
    pub fn slowest_calls(&self, limit: usize) -> Vec<&EndedCall<R>> {
        let mut calls: Vec<_> = self.recent.all().collect();
        calls.sort_by_key(|call| std::cmp::Reverse((call.ended.since(call.admitted), call.id)));
        calls.truncate(limit);
        calls
    }
}
