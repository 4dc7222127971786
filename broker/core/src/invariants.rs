//! What must hold after every event. Scans everything: for tests and the simulation.

use crate::call::{CallState, Origin};
use crate::slot::DispatchedState;
use crate::{Core, MonoTime, Reply, Request};
use std::collections::BTreeMap;

impl<Q: Request, R: Reply> Core<Q, R> {
    /// Panics with the broken invariant's name. O(everything).
    ///
    /// # Panics
    /// When the core's state contradicts itself.
    pub fn check_invariants(&self) {
        self.check_calls();
        self.check_slots();
        self.check_queues();
        self.check_nobody_waits_in_vain();
    }

    fn check_calls(&self) {
        let mut queued = (0, 0);
        let mut open_by_client = BTreeMap::new();
        let mut open_by_class = BTreeMap::new();
        for (id, call) in self.calls.iter() {
            *open_by_client.entry(call.client).or_insert(0) += 1;
            *open_by_class.entry(call.class).or_insert(0) += 1;
            assert!(
                call.charged <= call.attempts_max,
                "{id}: charged more than allowed"
            );
            assert!(!(call.once && call.charged > 1), "{id}: ran twice");
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
            let all_there = self.calls.iter().filter(|(_, call)| call.client == *client);
            for (id, _) in all_there {
                assert!(entry.calls.contains(&id), "{id}: listed by its client");
            }
        }
        for (id, class) in self.classes.iter() {
            let open = open_by_class.get(&id).copied().unwrap_or(0);
            assert_eq!(open, class.open_calls, "open calls of class {}", id.0);
        }
        assert!(self.queued_calls <= self.config.queued_calls_max + self.slots.len() * 256);
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
            assert_eq!(
                slot.is_exclusive && slot.in_flight.is_empty(),
                false,
                "exclusive to whom"
            );
        }
        let ranked = self
            .slots
            .values()
            .filter(|slot| slot.rank.is_some())
            .count();
        let ready: usize = self.groups.iter().map(|(_, group)| group.ready.len()).sum();
        assert_eq!(ranked, ready, "no group keeps a slot that went");
    }

    fn check_queues(&self) {
        let mut queued = 0;
        for (id, class) in self.classes.iter() {
            for call in class.queue.iter() {
                let held = self.calls.get(call).expect("a queued call is held");
                assert!(
                    held.state == CallState::Queued && held.class == id,
                    "{call}: queued here"
                );
                queued += 1;
            }
            let is_listed = !class.queue.is_empty() && !crate::route::is_addressed(&class.target);
            for &group in &class.groups {
                let listed = self.groups[group].waiting.contains(&(class.served, id));
                assert_eq!(listed, is_listed, "class {} listed in its groups", id.0);
            }
        }
        assert_eq!(queued, self.queued_calls, "every queued call is in a queue");
    }

    /// No call waits while a slot that could run it has credit for it.
    fn check_nobody_waits_in_vain(&self) {
        if self.now == MonoTime::NEVER {
            return;
        }
        for (id, class) in self.classes.iter() {
            if let Some((_, call)) = class.queue.first() {
                assert!(
                    !self.has_slot_for(id, call),
                    "{call}: waits while a slot has credit"
                );
            }
        }
        let is_silent = |origin| origin == Origin::Notification;
        let open_items = self
            .calls
            .iter()
            .filter(|(_, call)| !is_silent(call.origin))
            .count();
        assert!(
            self.batches.len() <= open_items,
            "a batch without open items"
        );
    }
}
