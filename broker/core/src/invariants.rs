//! What must hold after every event. Scans everything: for tests and the simulation.

use crate::call::{Call, CallState, Origin};
use crate::slot::DispatchedState;
use crate::timer::Due;
use crate::{Core, MonoTime, Reply, Request};
use muster_proto::id::CallId;
use std::collections::{BTreeMap, BTreeSet};

impl<Q: Request, R: Reply> Core<Q, R> {
    /// Panics with the broken invariant's name. O(everything).
    ///
    /// # Panics
    /// When the core's state contradicts itself.
    pub fn check_invariants(&self) {
        self.check_calls();
        self.check_slots();
        self.check_groups();
        self.check_queues();
        self.check_timers();
        self.check_nobody_waits_in_vain();
    }

    fn check_calls(&self) {
        let mut queued = (0, 0);
        let mut open_by_client = BTreeMap::new();
        let mut of_client = BTreeMap::new();
        let mut open_by_class = BTreeMap::new();
        for (id, call) in self.calls.iter() {
            *open_by_client.entry(call.client).or_insert(0) += 1;
            let listed: &mut Vec<CallId> = of_client.entry(call.client).or_default();
            listed.push(id);
            assert!(
                self.clients.contains_key(&call.client),
                "{id}: its client is known"
            );
            *open_by_class.entry(call.class).or_insert(0) += 1;
            assert!(
                call.charged <= call.attempts_max,
                "{id}: charged more than allowed"
            );
            assert!(
                !(self.runs_once(call) && call.charged > 1),
                "{id}: ran twice"
            );
            assert!(
                u32::from(call.charged) <= call.dispatches,
                "{id}: charged undispatched"
            );
            match call.state {
                CallState::Queued => {
                    queued.0 += 1;
                    queued.1 += call.bytes as usize;
                }
                CallState::Dispatched { slot } => {
                    let slot = self
                        .slots
                        .get(&slot)
                        .expect("a dispatched call's slot exists");
                    let holds = slot.in_flight.iter().filter(|d| {
                        d.call == id
                            && d.attempt == call.dispatches
                            && d.state != DispatchedState::Abandoned
                    });
                    assert_eq!(holds.count(), 1, "{id}: held once by its slot");
                }
                CallState::Delayed { until } | CallState::Dying { until } => {
                    assert!(until >= self.now, "{id}: overdue");
                }
            }
            assert!(
                call.deadline >= self.now,
                "{id}: its deadline passed unnoticed"
            );
        }
        assert_eq!(
            queued,
            (self.queued_calls, self.queued_bytes),
            "queue totals"
        );
        for (client, entry) in &self.clients {
            let open = open_by_client.get(client).copied().unwrap_or(0);
            assert_eq!(open, entry.open_calls, "open calls of client {}", client.0);
            let listed: BTreeSet<CallId> = entry.calls.iter().copied().collect();
            for id in of_client.get(client).into_iter().flatten() {
                assert!(listed.contains(id), "{id}: listed by its client");
            }
            assert!(
                open > 0 || !entry.is_gone,
                "a gone client is forgotten with its last call"
            );
        }
        for (id, class) in self.classes.iter() {
            let open = open_by_class.get(&id).copied().unwrap_or(0);
            assert_eq!(open, class.open_calls, "open calls of class {}", id.0);
        }
        // What comes back from a slot is not turned away.
        let is_fresh = |call: &Call<Q>| call.state == CallState::Queued && call.dispatches == 0;
        let fresh = self.calls.iter().filter(|(_, call)| is_fresh(call));
        let (mut count, mut bytes) = (0, 0);
        for (_, call) in fresh {
            count += 1;
            bytes += call.bytes as usize;
        }
        assert!(count <= self.config.queued_calls_max, "queued calls");
        assert!(bytes <= self.config.queued_bytes_max, "queued bytes");
    }

    fn check_slots(&self) {
        for (id, slot) in &self.slots {
            let worker = &self.workers[&slot.worker];
            assert_eq!(
                worker.slots.get(&slot.number),
                Some(id),
                "a slot is its worker's"
            );
            assert_eq!(worker.group, slot.group, "a slot is in its worker's group");
            let expected: u64 = slot.in_flight.iter().filter_map(|d| d.expected_us).sum();
            assert_eq!(expected, slot.backlog_us, "backlog");
            assert!(slot.in_flight.len() <= self.config.slot_calls_max, "credit");
            let group = &self.groups[slot.group];
            if let Some(rank) = slot.rank {
                assert!(
                    group.ready.contains(&rank),
                    "a ranked slot is in its group's order"
                );
                assert!(
                    !slot.is_down && !worker.is_draining,
                    "a slot that takes calls"
                );
            }
            let is_alone = slot.in_flight.iter().any(|d| {
                d.state == DispatchedState::Open
                    && self
                        .calls
                        .get(d.call)
                        .is_some_and(|call| call.alone || call.once)
            });
            assert!(
                !is_alone || slot.in_flight.len() == 1,
                "what runs alone is alone"
            );
            let is_empty = slot.in_flight.is_empty();
            assert!(!(slot.is_exclusive && is_empty), "exclusive to whom");
        }
        let ranked = self
            .slots
            .values()
            .filter(|slot| slot.rank.is_some())
            .count();
        let ready: usize = self.groups.iter().map(|(_, group)| group.ready.len()).sum();
        assert_eq!(ranked, ready, "no group keeps a slot that went");
    }

    fn check_groups(&self) {
        for (id, group) in self.groups.iter() {
            let workers = self.workers.values().filter(|worker| worker.group == id);
            assert_eq!(workers.count(), group.workers, "workers of group {}", id.0);
            let slots = || self.slots.iter().filter(|(_, slot)| slot.group == id);
            assert_eq!(slots().count(), group.slots, "slots of group {}", id.0);
            let no_json: Vec<_> = slots().filter(|(_, slot)| slot.no_json).collect();
            assert_eq!(no_json.len(), group.no_json.len(), "lanes without JSON");
        }
        for (id, class) in self.classes.iter() {
            for slot in &class.refused_by {
                let slot = &self.slots[slot];
                assert!(slot.refused.contains(&id), "a lane knows what it refused");
            }
        }
    }

    fn check_queues(&self) {
        let (mut queued, mut addressed_waiting) = (0, 0);
        for (id, class) in self.classes.iter() {
            for call in class.queue.iter() {
                let held = self.calls.get(call).expect("a queued call is held");
                assert!(
                    held.state == CallState::Queued && held.class == id,
                    "{call}: queued here"
                );
                queued += 1;
            }
            let is_waiting = !class.queue.is_empty();
            let entry = (class.served, id);
            if let Some(worker) = class.target.worker() {
                let addressed = &self.addressed[worker];
                assert!(addressed.classes.contains(&id), "entered under its worker");
                assert_eq!(
                    addressed.waiting.contains(&entry),
                    is_waiting,
                    "listed at its worker"
                );
                addressed_waiting += usize::from(is_waiting);
                continue;
            }
            for &group in &class.groups {
                let listed = self.groups[group].waiting.contains(&entry);
                assert_eq!(listed, is_waiting, "class {} listed in its groups", id.0);
            }
        }
        assert_eq!(queued, self.queued_calls, "every queued call is in a queue");
        assert_eq!(
            addressed_waiting, self.addressed_waiting,
            "addressed classes that wait"
        );
        let listed: usize = self.addressed.values().map(|at| at.waiting.len()).sum();
        assert_eq!(
            listed, addressed_waiting,
            "nothing else is listed at a worker"
        );
        let idle = self
            .classes
            .iter()
            .filter(|(_, class)| class.open_calls == 0);
        assert_eq!(idle.count(), self.classes.idle(), "classes without calls");
        assert!(self.stirred.is_empty(), "every change was followed up");
    }

    fn check_timers(&self) {
        for (id, call) in self.calls.iter() {
            assert!(
                self.timers.has(call.deadline, Due::Deadline(id)),
                "{id}: its deadline"
            );
            let is_armed = match call.state {
                CallState::Delayed { until } => self.timers.has(until, Due::Retry(id)),
                CallState::Dying { until } => self.timers.has(until, Due::Obituary(id)),
                CallState::Queued | CallState::Dispatched { .. } => true,
            };
            assert!(is_armed, "{id}: the timer of its state");
        }
        for (&id, worker) in &self.workers {
            assert!(
                self.timers.has(worker.silence_timer, Due::Heartbeat(id)),
                "a heartbeat"
            );
        }
        for (&id, slot) in &self.slots {
            assert!(
                self.timers.has(slot.overrun_timer, Due::Overrun(id)),
                "an overrun"
            );
        }
        let with_deadline = self
            .calls
            .iter()
            .filter(|(_, c)| c.deadline != MonoTime::NEVER);
        let of_calls = self.calls.len() + with_deadline.count();
        // Of clients that left, and of answers that are kept.
        let max = of_calls + self.workers.len() + self.slots.len() + self.timers.orphans() + 8;
        assert!(self.timers.len() <= max, "timers of things that are gone");
    }

    /// No call waits while a slot that could run it has credit for it.
    fn check_nobody_waits_in_vain(&self) {
        for (id, class) in self.classes.iter() {
            if let Some(call) = class.queue.first() {
                assert!(
                    !self.has_slot_for(id, call),
                    "{call}: waits while a slot has credit"
                );
            }
        }
        let is_wanted = |origin: Origin| matches!(origin, Origin::Item { .. });
        let open_items = self
            .calls
            .iter()
            .filter(|(_, call)| is_wanted(call.origin))
            .count();
        assert!(
            self.batches.len() <= open_items,
            "a batch without open items"
        );
    }
}
