//! Answers: which dispatch they come from, and to whom they go.

use crate::call::{CallState, Origin};
use crate::event::{Target, Verdict, WorkerKind};
use crate::slot::{Dispatched, DispatchedState};
use crate::timer::Due;
use crate::{Action, Core, Failure, Outcome, Reply, Request, SlotId};
use muster_proto::id::{CallId, DispatchId};
use std::time::Duration;

/// Unreadable answers after which a lane is closed.
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
            return;
        };
        let started = slot.since.max(slot.in_flight[at].at);
        let taken = slot.take(at, self.now);
        let took = service.unwrap_or_else(|| self.now.since(started));
        slot.calls += 1;
        slot.service_us += took.as_micros() as u64;
        let (worker, kind) = (slot.worker, slot.kind);
        let is_failure = verdict != Verdict::Result;
        slot.failures += u64::from(is_failure);
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.calls += 1;
            worker.failures += u64::from(is_failure);
        }
        if taken.state == DispatchedState::Abandoned {
            self.totals.late += 1;
        } else {
            self.take_answer(slot_id, kind, taken, took, verdict, reply);
        }
        if self.slots.contains_key(&slot_id) {
            self.feed(slot_id);
            self.watch_overrun(slot_id);
        }
        self.finish_drain();
    }

    fn take_answer(
        &mut self,
        slot_id: SlotId,
        kind: WorkerKind,
        taken: Dispatched,
        took: Duration,
        verdict: Verdict,
        reply: R,
    ) {
        let id = taken.call;
        let items = self.calls.get(id).map_or(1, |call| call.items);
        match verdict {
            Verdict::Result | Verdict::Error => {
                let class = &mut self.classes[taken.class];
                class.estimate.learn(took.as_nanos() as u64, items);
                let is_error = verdict == Verdict::Error;
                self.finish(id, Outcome::Replied { reply, is_error });
            }
            Verdict::MethodNotFound if kind == WorkerKind::Lane => {
                self.classes[taken.class].refused_by.insert(slot_id);
                if self.somebody_may_know(taken.class) {
                    self.enqueue(id, true);
                    self.offer(taken.class);
                } else {
                    self.finish(
                        id,
                        Outcome::Replied {
                            reply,
                            is_error: true,
                        },
                    );
                }
            }
            Verdict::MethodNotFound => {
                self.finish(
                    id,
                    Outcome::Replied {
                        reply,
                        is_error: true,
                    },
                );
            }
            Verdict::Garbage => {
                self.strike(slot_id, taken);
                let worker = self.worker_name_of(slot_id);
                self.finish(id, Outcome::Failed(Failure::BadReply { worker }));
            }
        }
    }

    /// Whether some slot that could run the class has not said that it does not know the method.
    fn somebody_may_know(&self, class: crate::class::ClassId) -> bool {
        let class = &self.classes[class];
        let refused = |slot: &SlotId| class.refused_by.contains(slot);
        self.slots
            .iter()
            .any(|(id, slot)| class.groups.contains(&slot.group) && !refused(id))
    }

    fn strike(&mut self, slot_id: SlotId, taken: Dispatched) {
        self.totals.bad_replies += 1;
        let target = &self.classes[taken.class].target;
        let is_json = matches!(target, Target::Method(_) | Target::MethodAt { .. });
        let Some(slot) = self.slots.get_mut(&slot_id) else {
            return;
        };
        slot.strikes += 1;
        if slot.kind != WorkerKind::Lane {
            return;
        }
        slot.no_json |= is_json;
        if slot.strikes >= STRIKES_MAX && !is_json {
            self.actions.push_back(Action::CloseLane { slot: slot_id });
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
            Some(CallState::Queued) if self.is_queued(id) => self.dequeue(id),
            Some(CallState::Delayed { until }) => self.timers.disarm(until, Due::Retry(id)),
            Some(CallState::Dying { until }) => self.timers.disarm(until, Due::Obituary(id)),
            Some(_) => {}
        }
        let call = self.calls.remove(id).expect("it was there above");
        self.timers.disarm(call.deadline, Due::Deadline(id));
        self.classes[call.class].open_calls -= 1;
        let is_gone = self.is_gone(call.client);
        self.close_for(call.client);
        self.totals.count(&outcome);
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
            Origin::Single | Origin::Notification => {}
            Origin::Item { batch, index } => {
                self.item_ended(batch, index, call.request, Some(outcome));
            }
        }
    }

    fn is_queued(&self, id: CallId) -> bool {
        self.calls
            .get(id)
            .is_some_and(|call| call.state == CallState::Queued)
    }
}
