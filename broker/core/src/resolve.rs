//! Answers: which dispatch they come from, and to whom they go.

use crate::call::{Call, CallState, Origin};
use crate::class::ClassId;
use crate::event::{Target, Verdict, WorkerKind};
use crate::membership::KNOWN_METHODS_MAX;
use crate::note::Note;
use crate::route::is_json;
use crate::slot::{Dispatched, DispatchedState, Slot};
use crate::timer::Due;
use crate::{Action, Core, Failure, Outcome, Reply, Request, SlotId};
use muster_proto::id::{CallId, DispatchId};
use std::time::Duration;

/// Unreadable or forged answers within [`STRIKES_WINDOW`](crate::slot::STRIKES_WINDOW) after which a slot's link is closed.
const STRIKES_MAX: u32 = 3;

impl<Q: Request, R: Reply> Core<Q, R> {
    /// A slot answered.
    pub(crate) fn replied(
        &mut self,
        slot_id: SlotId,
        dispatch: DispatchId,
        service: Option<Duration>,
        verdict: Verdict,
        reply: R,
    ) {
        let Some(slot) = self.slots.get_mut(&slot_id) else {
            self.totals.fenced += 1;
            return;
        };
        let held = |d: &Dispatched| d.call == dispatch.call && d.attempt == dispatch.attempt;
        let at = slot.in_flight.iter().position(held);
        let Some(at) = at.filter(|_| dispatch.epoch == self.config.epoch) else {
            self.totals.fenced += 1;
            if dispatch.epoch == self.config.epoch {
                if self.is_forged(dispatch) {
                    self.strike(slot_id);
                } else {
                    self.caught_up(slot_id);
                }
            }
            return;
        };
        let started = slot.since.max(slot.in_flight[at].at);
        let taken = slot.take(at, self.now);
        let elapsed_us = self.now.micros_since(started);
        let took_ns = match service {
            Some(took) => nanos(took),
            None => elapsed_us.saturating_mul(1_000),
        };
        let took_us = took_ns / 1_000;
        let transit_us = elapsed_us.saturating_sub(took_us);
        slot.transit.learn(taken.bytes, transit_us);
        slot.is_on_probation = false;
        slot.calls += 1;
        slot.service_us = slot.service_us.saturating_add(took_us);
        let (worker, kind) = (slot.worker, slot.kind);
        let is_failure = verdict != Verdict::Result;
        slot.failures += u64::from(is_failure);
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.calls += 1;
            worker.failures += u64::from(is_failure);
        }
        let is_late = match taken.state {
            DispatchedState::Open | DispatchedState::Recalled => false,
            DispatchedState::Doubted => !self.win_back(slot_id, taken.call, verdict),
            DispatchedState::Abandoned => true,
        };
        if is_late {
            self.totals.late += 1;
        } else {
            self.take_answer(slot_id, kind, taken, took_ns, verdict, reply);
        }
        self.feed(slot_id);
        self.watch_overrun(slot_id);
    }

    fn take_answer(
        &mut self,
        slot_id: SlotId,
        kind: WorkerKind,
        taken: Dispatched,
        took_ns: u64,
        verdict: Verdict,
        reply: R,
    ) {
        let id = taken.call;
        // A raw body names no method that could be unknown.
        let is_call = is_json(&self.classes[taken.class].target);
        match verdict {
            Verdict::Result | Verdict::Error => {
                if kind == WorkerKind::Lane && is_call {
                    self.remember_served(taken.class);
                }
                self.learn(taken.class, took_ns, taken.items);
                let is_error = verdict == Verdict::Error;
                self.finish(id, Outcome::Replied { reply, is_error });
            }
            Verdict::MethodNotFound if kind == WorkerKind::Lane && is_call => {
                self.classes[taken.class].refused_by.insert(slot_id);
                self.rank(slot_id);
                if let Some(slot) = self.slots.get_mut(&slot_id) {
                    slot.refused.insert(taken.class);
                }
                if self.is_unknown_everywhere(taken.class) {
                    let is_error = true;
                    self.finish(id, Outcome::Replied { reply, is_error });
                    self.refuse_waiting(taken.class);
                } else {
                    self.enqueue(id);
                    self.offer(taken.class);
                }
            }
            Verdict::MethodNotFound => {
                let is_error = true;
                self.finish(id, Outcome::Replied { reply, is_error });
            }
            Verdict::Garbage => {
                self.garbled(slot_id, taken);
                let worker = self.worker_name_of(slot_id);
                self.finish(id, Outcome::Failed(Failure::BadReply { worker }));
            }
        }
    }

    /// A lane knows the method: when no lane is there, its calls are worth waiting for one.
    fn remember_served(&mut self, class_id: ClassId) {
        let class = &self.classes[class_id];
        // The first answer is enough, and the path of the others is short.
        if class.estimate.per_item_ns().is_some() || self.served_by_lanes.len() >= KNOWN_METHODS_MAX
        {
            return;
        }
        if let Target::Method(method) = class.target.as_ref() {
            self.served_by_lanes.insert(method.clone());
        }
    }

    /// Learns how long calls of a class take.
    fn learn(&mut self, class_id: ClassId, took_ns: u64, items: u32) {
        let needed_idle = self.first_needs_idle(class_id);
        self.classes[class_id].estimate.learn(took_ns, items);
        if needed_idle && !self.first_needs_idle(class_id) {
            self.stirred.push(class_id);
        }
    }

    /// Whether a dispatch that the slot does not hold can't ever have been its own. A late answer is
    /// of a call that ended or of an earlier attempt; this one nobody was given, or another slot is.
    fn is_forged(&self, dispatch: DispatchId) -> bool {
        match self.calls.get(dispatch.call) {
            None => !self.calls.was_issued(dispatch.call),
            Some(call) => {
                let is_held = matches!(call.state, CallState::Dispatched { .. });
                dispatch.attempt > call.dispatches || is_held && dispatch.attempt == call.dispatches
            }
        }
    }

    /// A slot sent what no honest one sends. Three of them cost it its link.
    pub(crate) fn strike(&mut self, slot_id: SlotId) {
        if let Some(slot) = self.slots.get_mut(&slot_id)
            && slot.strike(self.now) == STRIKES_MAX
        {
            self.actions.push_back(Action::CloseLink { slot: slot_id });
        }
    }

    /// A slot answered a call with what can't be read.
    fn garbled(&mut self, slot_id: SlotId, taken: Dispatched) {
        self.totals.bad_replies += 1;
        let is_json = is_json(&self.classes[taken.class].target);
        // What a function of a managed worker makes is not its link's fault, and a lane that can't
        // do JSON may be good for raw bodies.
        let is_lane = |slot: &Slot| slot.kind == WorkerKind::Lane;
        let Some(slot) = self.slots.get_mut(&slot_id).filter(|slot| is_lane(slot)) else {
            return;
        };
        let strikes = slot.strike(self.now);
        if strikes == STRIKES_MAX && !is_json {
            self.actions.push_back(Action::CloseLink { slot: slot_id });
        }
        if is_json && !slot.no_json {
            slot.no_json = true;
            let (group, worker) = (slot.group, slot.worker);
            self.groups[group].no_json.insert(slot_id);
            let waiting = self.groups[group].waiting.iter();
            let name = self.workers[&worker].spec.name.as_str();
            let addressed = self.addressed.get(name).into_iter();
            let addressed = addressed.flat_map(|addressed| addressed.waiting.iter());
            let classes: Vec<ClassId> = waiting.chain(addressed).map(|&(_, id)| id).collect();
            for class in classes {
                self.refuse_waiting(class);
            }
        }
    }

    pub(crate) fn worker_name_of(&self, slot: SlotId) -> Box<str> {
        let worker = self
            .slots
            .get(&slot)
            .and_then(|slot| self.workers.get(&slot.worker));
        worker.map_or("", |worker| worker.spec.name.as_str()).into()
    }

    /// Resolves a call that is on no slot any more: takes it out of every table and sends its
    /// outcome where it belongs.
    pub(crate) fn finish(&mut self, id: CallId, outcome: Outcome<R>) {
        match self.calls.get(id).map(|call| call.state) {
            None => return,
            Some(CallState::Queued) => self.dequeue(id),
            Some(CallState::Delayed { until }) => self.timers.disarm(until, Due::Retry(id)),
            Some(CallState::Dying { until }) => self.timers.disarm(until, Due::Obituary(id)),
            Some(CallState::Dispatched { .. }) => {}
        }
        let call = self.calls.remove(id).expect("it was there above");
        self.end_nest(id);
        self.timers.disarm(call.deadline, Due::Deadline(id));
        self.classes.close(call.class);
        let is_gone = self.close_for(call.entry());
        self.totals.count(&outcome);
        self.record(id, &call, &outcome);
        if let Some(key) = call.extra.and_then(|extra| extra.key) {
            // A client that gave up, and one that should ask again, find no answer to their key.
            let kept = match &outcome {
                Outcome::Replied { .. } => true,
                Outcome::Failed(failure) => {
                    !matches!(failure, Failure::Draining | Failure::Overloaded { .. }) && !is_gone
                }
            };
            if kept {
                let (now, config) = (self.now, &self.config);
                self.keys
                    .end(key, outcome.clone(), now, &mut self.timers, config);
            } else {
                self.keys.drop_live(&key);
            }
        }
        match call.origin {
            Origin::Single if !is_gone => {
                let (client, request) = (call.client, call.request);
                self.actions.push_back(Action::Answer {
                    client,
                    call: id,
                    request,
                    outcome,
                });
            }
            Origin::Notification if call.admitted == self.now => {
                self.acknowledge_anyway(id, call.request);
            }
            Origin::Single | Origin::Notification | Origin::SilentItem => {}
            Origin::Item { batch, index } => {
                self.item_ended(batch, index, call.request, Some(outcome), is_gone);
            }
        }
    }

    /// For those who ask or watch.
    fn record(&mut self, id: CallId, call: &Call<Q>, outcome: &Outcome<R>) {
        let (took, class) = (self.now.since(call.admitted), &mut self.classes[call.class]);
        class.latency.add(took);
        let is_result = matches!(
            outcome,
            Outcome::Replied {
                is_error: false,
                ..
            }
        );
        class.failures += u64::from(!is_result);
        let target = class.target.clone();
        let worker = match call.state {
            CallState::Dispatched { slot } => {
                let slot = self.slots.get(&slot);
                let worker = slot.and_then(|slot| self.workers.get(&slot.worker));
                worker.map(|worker| worker.name.clone())
            }
            _ => None,
        };
        self.recent
            .push(id, call, &target, worker, outcome, self.now);
        self.note(|_| match outcome {
            Outcome::Replied { is_error, .. } => Note::Answered {
                call: id,
                target,
                is_error: *is_error,
                took,
            },
            Outcome::Failed(failure) => {
                let failure = failure.clone();
                Note::Failed {
                    call: Some(id),
                    target,
                    failure,
                }
            }
        });
    }

    /// A notification that has ended may be one whose acknowledgement the caller has not seen yet,
    /// and could not perform any more without the request.
    fn acknowledge_anyway(&mut self, id: CallId, request: Q) {
        let is_it = |action: &Action<Q, R>| matches!(action, Action::Acknowledge { call, .. } if *call == id);
        if let Some(pending) = self.actions.iter().rposition(is_it)
            && let Action::Acknowledge { client, .. } = self.actions[pending]
        {
            self.actions[pending] = Action::AcknowledgeRefused { client, request };
        }
    }
}

/// The nanoseconds of a length of time, without the wide arithmetic of [`Duration::as_nanos`].
#[inline]
fn nanos(length: Duration) -> u64 {
    let seconds_ns = length.as_secs().saturating_mul(1_000_000_000);
    seconds_ns.saturating_add(u64::from(length.subsec_nanos()))
}
