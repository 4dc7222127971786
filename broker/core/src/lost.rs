//! Lost slots: which of their calls run again, and which have run out of attempts.
//!
//! A slot runs its calls in order, and one that went down took the answers of short calls with
//! it that it had not flushed yet. So of several calls nobody can say which one was the culprit:
//! they all become suspects, are put back at the head of their queues and run alone. Only a call
//! that was alone, or ran in front of others after a flush, is charged an attempt.

use crate::action::Attempt;
use crate::call::{Call, CallState, Extra};
use crate::event::{EndReason, Ending};
use crate::slot::{Dispatched, Mourned};
use crate::timer::Due;
use crate::{Core, Failure, MonoTime, Outcome, Reply, Request, SlotId, WorkerId, WorkerKind};
use muster_proto::id::CallId;
use std::collections::VecDeque;

/// What a worker flushes its answers before: see the worker protocol.
const FLUSHED_FROM_US: u64 = 1_000;

/// Answers over the limit of a link after which a call is not tried again: the next would be, too.
const OVERSIZED_MAX: usize = 2;

/// What a slot leaves behind.
struct LostSlot {
    worker: WorkerId,
    kind: WorkerKind,
    number: u32,
    pid: Option<u32>,
    in_flight: VecDeque<Dispatched>,
    /// Word of how its child ended may come.
    awaits_word: bool,
    /// Since when its worker was known to be dying, perhaps, when this slot was lost, too.
    doubted_since: Option<MonoTime>,
}

impl<Q: Request, R: Reply> Core<Q, R> {
    /// A slot's link closed.
    pub(crate) fn slot_gone(&mut self, slot_id: SlotId, reason: EndReason) {
        self.lose_slot(slot_id, reason, reason == EndReason::Disconnected);
    }

    /// A slot is lost. `may_hear`: its worker may yet say why.
    pub(crate) fn lose_slot(&mut self, slot_id: SlotId, reason: EndReason, may_hear: bool) {
        if !self.slots.contains_key(&slot_id) {
            return;
        }
        self.unrank(slot_id);
        let slot = self.slots.remove(&slot_id).expect("it was there above");
        let worker = self
            .workers
            .get_mut(&slot.worker)
            .expect("a worker outlives its slots");
        if worker.slots.get(&slot.number) == Some(&slot_id) {
            worker.slots.remove(&slot.number);
        }
        // A child of its own may have ended: word of that comes by the control link.
        let known = worker.obituaries.remove(&slot.number);
        let awaits_word = known.is_none() && slot.kind == WorkerKind::Managed && may_hear;
        let ending = known.unwrap_or(Ending {
            reason,
            ..Ending::default()
        });
        self.timers
            .disarm(slot.overrun_timer, Due::Overrun(slot_id));
        for id in slot.refused {
            if let Some(class) = self.classes.get_mut(id) {
                class.refused_by.remove(&slot_id);
            }
        }
        let doubted_since = worker.doubted_since;
        if awaits_word {
            worker.doubted_since = doubted_since.or(Some(self.now));
        }
        if let Some(nest) = slot.nest {
            self.nest_slot_gone(nest, slot.worker);
        }
        let group = &mut self.groups[slot.group];
        group.slots -= 1;
        group.no_json.remove(&slot_id);
        if awaits_word {
            self.send_to_the_back(slot.worker);
        }
        let lost = LostSlot {
            worker: slot.worker,
            kind: slot.kind,
            number: slot.number,
            pid: slot.pid,
            in_flight: slot.in_flight,
            awaits_word,
            doubted_since,
        };
        self.lose_calls(&lost, &ending);
    }

    /// The child behind a slot's living link ended.
    pub(crate) fn child_lost(&mut self, slot_id: SlotId, ending: &Ending) {
        let Some(slot) = self.slots.get_mut(&slot_id) else {
            return;
        };
        slot.is_down = true;
        slot.is_overrun = false;
        slot.is_exclusive = false;
        slot.backlog_us = 0;
        let lost = LostSlot {
            worker: slot.worker,
            kind: slot.kind,
            number: slot.number,
            pid: slot.pid,
            in_flight: std::mem::take(&mut slot.in_flight),
            awaits_word: false,
            doubted_since: None,
        };
        self.rank(slot_id);
        self.lose_calls(&lost, ending);
    }

    /// The slot has a living child again.
    pub(crate) fn child_ready(&mut self, slot_id: SlotId, pid: Option<u32>) {
        let Some(slot) = self.slots.get_mut(&slot_id) else {
            return;
        };
        slot.pid = pid.or(slot.pid);
        if slot.is_down {
            slot.is_down = false;
            slot.since = self.now;
            self.feed(slot_id);
        }
    }

    /// Word of how a child ended that had a link of its own.
    pub(crate) fn obituary(&mut self, worker_id: WorkerId, number: u32, ending: Ending) {
        let Some(worker) = self.workers.get_mut(&worker_id) else {
            return;
        };
        worker.doubted_since = None;
        let mourned = worker.mourned.remove(&number);
        let Some(mourned) = mourned.filter(|mourned| mourned.until >= self.now) else {
            if worker.slots.contains_key(&number) {
                worker.obituaries.insert(number, ending);
            }
            return;
        };
        for (id, at) in mourned.calls {
            let Some(call) = self.calls.get_mut(id) else {
                continue;
            };
            let Some(extra) = &mut call.extra else {
                continue;
            };
            let is_last = at + 1 == extra.attempts.len();
            if let Some(attempt) = extra.attempts.get_mut(at) {
                attempt.ending = ending.clone();
            }
            if let (CallState::Dying { until }, true) = (call.state, is_last) {
                self.timers.disarm(until, Due::Obituary(id));
                self.mourn(id);
            }
        }
    }

    /// A call has run out of attempts and everything that will be known is known.
    pub(crate) fn mourn(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(id) else {
            return;
        };
        let attempts = call
            .extra
            .as_mut()
            .map(|extra| std::mem::take(&mut extra.attempts));
        let attempts = attempts.unwrap_or_default();
        self.finish(id, Outcome::Failed(Failure::WorkerLost { attempts }));
    }

    /// A backoff is over.
    pub(crate) fn retry_due(&mut self, id: CallId) {
        let Some(call) = self.calls.get(id) else {
            return;
        };
        let class = call.class;
        if matches!(call.state, CallState::Delayed { .. }) {
            self.enqueue(id);
            self.offer(class);
        }
    }

    /// The links of a process that dies end one after another. Its idle slots are the last to be
    /// given anything, so that what it held goes to a worker that lives.
    fn send_to_the_back(&mut self, worker: WorkerId) {
        let slots: Vec<SlotId> = self.workers[&worker].slots.values().copied().collect();
        for id in slots {
            let slot = self.slots.get_mut(&id).expect("a worker's slot exists");
            if slot.is_idle() {
                slot.since = self.now;
                self.rank(id);
            }
        }
    }

    fn lose_calls(&mut self, slot: &LostSlot, ending: &Ending) {
        let is_crash = ending.reason != EndReason::OnPurpose;
        let mut classes = Vec::new();
        let mut charged = Vec::new();
        let mut handed_over = Vec::with_capacity(slot.in_flight.len());
        for lost in &slot.in_flight {
            self.end_nest(lost.call);
            if lost.state.holds_call() && self.unsend(lost) {
                classes.push(lost.class);
                self.put_back(lost.call, false);
            } else {
                handed_over.push(lost);
            }
        }
        for (at, &lost) in handed_over.iter().enumerate() {
            if !lost.state.holds_call() {
                continue;
            }
            let call = self.calls.get(lost.call);
            let call = call.expect("an open dispatch holds its call");
            let was_flushed = lost.expected_us.is_none_or(|us| us >= FLUSHED_FROM_US);
            let is_culprit = at == 0 && (handed_over.len() == 1 || was_flushed);
            // Handed to a worker that was dying already: one death is charged once.
            let is_same_death = slot.doubted_since.is_some_and(|since| {
                lost.at >= since && self.now.since(since) <= self.config.obituary
            });
            classes.push(lost.class);
            // What may have started and must not start again ends here, whoever was to blame.
            if (is_crash && is_culprit && !is_same_death) || self.runs_once(call) {
                charged.push((lost.call, self.charge(lost, slot, ending)));
                self.retry_or_fail(lost.call, slot.awaits_word);
            } else {
                self.put_back(lost.call, is_crash);
            }
        }
        if slot.awaits_word {
            let until = self.now.after(self.config.obituary);
            let calls = charged;
            if let Some(worker) = self.workers.get_mut(&slot.worker) {
                worker.mourned.insert(slot.number, Mourned { until, calls });
            }
        }
        for class in classes {
            self.offer(class);
        }
    }

    /// Charges a call with an attempt, and says which of its attempts that was.
    fn charge(&mut self, lost: &Dispatched, slot: &LostSlot, ending: &Ending) -> usize {
        let worker = &self.workers[&slot.worker];
        let slot_name = match slot.kind {
            WorkerKind::Managed => format!("{}.{}", worker.spec.name, slot.number),
            WorkerKind::Lane => worker.spec.name.clone(),
        };
        let attempt = Attempt {
            slot: slot_name.into(),
            worker: worker.spec.name.as_str().into(),
            host: worker.spec.host.as_str().into(),
            pid: slot.pid,
            started: lost.at,
            elapsed: self.now.since(lost.at),
            ending: ending.clone(),
        };
        let call = self
            .calls
            .get_mut(lost.call)
            .expect("an open dispatch holds its call");
        call.charged += 1;
        let extra = call.extra.get_or_insert_with(|| Box::new(Extra::default()));
        extra.attempts.push(attempt);
        extra.attempts.len() - 1
    }

    fn retry_or_fail(&mut self, id: CallId, awaits_word: bool) {
        let call = self.calls.get(id).expect("the caller holds it");
        let is_over = self.runs_once(call)
            || call.charged >= call.attempts_max
            || oversized(call) >= OVERSIZED_MAX;
        let call = self.calls.get_mut(id).expect("the caller holds it");
        if is_over {
            if awaits_word {
                let until = self.now.after(self.config.obituary);
                call.state = CallState::Dying { until };
                self.timers.arm(until, Due::Obituary(id));
            } else {
                call.state = CallState::Dying { until: self.now };
                self.mourn(id);
            }
            return;
        }
        call.alone = true;
        if call.charged == 1 {
            self.enqueue(id);
            return;
        }
        let doubled = 1u32 << u32::from(call.charged - 2).min(16);
        let wait = (self.config.retry_backoff * doubled).min(self.config.retry_backoff_max);
        let until = self.now.after(self.rng.jitter(wait));
        call.state = CallState::Delayed { until };
        self.timers.arm(until, Due::Retry(id));
    }

    fn put_back(&mut self, id: CallId, is_suspect: bool) {
        let call = self
            .calls
            .get_mut(id)
            .expect("an open dispatch holds its call");
        call.alone |= is_suspect;
        self.enqueue(id);
    }
}

/// Attempts of a call that ended with an answer over the limit of a link.
fn oversized<Q>(call: &Call<Q>) -> usize {
    let attempts = call.extra.iter().flat_map(|extra| &extra.attempts);
    attempts
        .filter(|attempt| attempt.ending.reason == EndReason::TooLarge)
        .count()
}
