//! Lost slots: which of their calls run again, and which have run out of attempts.
//!
//! A slot runs its calls in order, and one that went down took the answers of short calls with
//! it that it had not flushed yet. So of several calls nobody can say which one was the culprit:
//! they all become suspects, are put back at the head of their queues and run alone. Only a call
//! that was alone, or ran in front of others after a flush, is charged an attempt.

use crate::action::Attempt;
use crate::call::{CallState, Extra};
use crate::event::{EndReason, Ending};
use crate::slot::{Dispatched, DispatchedState};
use crate::timer::Due;
use crate::{Core, Failure, Outcome, Reply, Request, SlotId, WorkerId, WorkerKind};
use muster_proto::id::CallId;
use std::collections::VecDeque;

/// What a worker flushes its answers before: see the worker protocol.
const FLUSHED_FROM_US: u64 = 1_000;

/// What a slot leaves behind.
struct LostSlot {
    worker: WorkerId,
    kind: WorkerKind,
    number: u32,
    pid: Option<u32>,
    in_flight: VecDeque<Dispatched>,
}

impl<Q: Request, R: Reply> Core<Q, R> {
    /// A slot's link closed.
    pub(crate) fn slot_gone(&mut self, slot_id: SlotId, reason: EndReason) {
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
        let awaits_word = known.is_none()
            && slot.kind == WorkerKind::Managed
            && reason == EndReason::Disconnected;
        let ending = known.unwrap_or(Ending {
            reason,
            ..Ending::default()
        });
        for id in self.classes.ids() {
            self.classes[id].refused_by.remove(&slot_id);
        }
        let lost = LostSlot {
            worker: slot.worker,
            kind: slot.kind,
            number: slot.number,
            pid: slot.pid,
            in_flight: slot.in_flight,
        };
        self.lose_calls(&lost, &ending, awaits_word);
    }

    /// The child behind a slot's living link ended.
    pub(crate) fn child_lost(&mut self, slot_id: SlotId, ending: Ending) {
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
        };
        self.rank(slot_id);
        self.lose_calls(&lost, &ending, false);
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
        let Some(mourned) = worker.mourned.remove(&number) else {
            if worker.slots.contains_key(&number) {
                worker.obituaries.insert(number, ending);
            }
            return;
        };
        for id in mourned {
            let Some(call) = self.calls.get_mut(id) else {
                continue;
            };
            let last = call
                .extra
                .as_mut()
                .and_then(|extra| extra.attempts.last_mut());
            if let Some(attempt) = last {
                attempt.ending = ending.clone();
            }
            if let CallState::Dying { until } = call.state {
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
        self.finish_drain();
    }

    /// A backoff is over.
    pub(crate) fn retry_due(&mut self, id: CallId) {
        let Some(call) = self.calls.get(id) else {
            return;
        };
        let class = call.class;
        if matches!(call.state, CallState::Delayed { .. }) {
            self.enqueue(id, true);
            self.offer(class);
        }
    }

    fn lose_calls(&mut self, slot: &LostSlot, ending: &Ending, awaits_word: bool) {
        let is_crash = ending.reason != EndReason::OnPurpose;
        let mut classes = Vec::new();
        let mut mourned = Vec::new();
        // From the back, so that each put in front of its queue ends up in the old order.
        for (at, lost) in slot.in_flight.iter().enumerate().rev() {
            if lost.state == DispatchedState::Abandoned {
                continue;
            }
            let was_flushed = lost.expected_us.is_none_or(|us| us >= FLUSHED_FROM_US);
            let is_culprit = at == 0 && (slot.in_flight.len() == 1 || was_flushed);
            classes.push(lost.class);
            if is_crash && is_culprit {
                self.charge(lost, slot, ending);
                mourned.push(lost.call);
                self.retry_or_fail(lost.call, awaits_word);
            } else {
                self.put_back(lost.call, is_crash);
            }
        }
        if awaits_word && !mourned.is_empty() {
            if let Some(worker) = self.workers.get_mut(&slot.worker) {
                worker.mourned.insert(slot.number, mourned);
            }
        }
        for class in classes {
            self.offer(class);
        }
        self.finish_drain();
    }

    fn charge(&mut self, lost: &Dispatched, slot: &LostSlot, ending: &Ending) {
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
        call.extra
            .get_or_insert_with(|| Box::new(Extra::default()))
            .attempts
            .push(attempt);
    }

    fn retry_or_fail(&mut self, id: CallId, awaits_word: bool) {
        let call = self.calls.get_mut(id).expect("the caller holds it");
        if call.once || call.charged >= call.attempts_max {
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
            self.enqueue(id, true);
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
        self.enqueue(id, true);
    }
}
