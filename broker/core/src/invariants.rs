//! What must hold after every event. Scans everything: for tests and the simulation.

use crate::admit::RESERVE_SHARE;
use crate::call::{Call, CallState, Origin};
use crate::class::ClassId;
use crate::slot::{Dispatched, DispatchedState};
use crate::timer::Due;
use crate::{ClientId, Core, MonoTime, Reply, Request};
use muster_proto::id::CallId;
use rustc_hash::FxHashMap;

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
        self.check_nobody_waits_in_vain();
        self.check_queued_nests();
    }

    fn check_calls(&self) {
        let mut queued = (0, 0);
        // What comes back from a slot is not turned away, so only the others are capped.
        let mut fresh = (0, 0);
        let mut items = 0;
        let mut with_deadline = 0;
        let mut of_client: FxHashMap<ClientId, (usize, usize)> = FxHashMap::default();
        let mut of_class: FxHashMap<ClassId, usize> = FxHashMap::default();
        for (id, call) in self.calls.iter() {
            let bytes = call.bytes as usize;
            let of_client = of_client.entry(call.client).or_default();
            *of_client = (of_client.0 + 1, of_client.1 + bytes);
            *of_class.entry(call.class).or_insert(0) += 1;
            if call.state == CallState::Queued {
                queued = (queued.0 + 1, queued.1 + bytes);
                if call.dispatches == 0 {
                    fresh = (fresh.0 + 1, fresh.1 + bytes);
                }
            }
            items += usize::from(matches!(call.origin, Origin::Item { .. }));
            with_deadline += usize::from(call.deadline != MonoTime::NEVER);
            self.check_call(id, call);
        }
        assert_eq!(
            queued,
            (self.queued_calls, self.queued_bytes),
            "queue totals"
        );
        let with_reserve = |max: usize| max.saturating_add(max / RESERVE_SHARE);
        let (calls_max, bytes_max) = (self.config.queued_calls_max, self.config.queued_bytes_max);
        assert!(fresh.0 <= with_reserve(calls_max), "queued calls");
        assert!(fresh.1 <= with_reserve(bytes_max), "queued bytes");
        assert!(self.batches.len() <= items, "a batch without open items");
        for (client, entry) in &self.clients {
            let (open, bytes) = of_client.remove(client).unwrap_or_default();
            assert_eq!(open, entry.calls.len(), "open calls of client {}", client.0);
            assert_eq!(bytes, entry.open_bytes, "bytes of client {}", client.0);
            for (place, id) in entry.calls.iter().enumerate() {
                let listed = self.calls.get(*id).expect("a client lists open calls");
                let found = (listed.client, listed.place as usize);
                assert_eq!(found, (*client, place), "call {id} in its client's list");
            }
            assert!(
                open > 0 || !entry.is_gone,
                "a gone client is forgotten with its last call"
            );
        }
        assert!(of_client.is_empty(), "every call's client is known");
        for (id, class) in self.classes.iter() {
            let open = of_class.remove(&id).unwrap_or(0);
            assert_eq!(open, class.open_calls, "open calls of class {}", id.0);
        }
        assert!(of_class.is_empty(), "every call's class is known");
        self.check_timers(self.calls.len() + with_deadline);
    }

    fn check_call(&self, id: CallId, call: &Call<Q>) {
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
        assert!(
            call.deadline >= self.now,
            "{id}: its deadline passed unnoticed"
        );
        assert!(
            self.timers.has(call.deadline, Due::Deadline(id)),
            "{id}: its deadline"
        );
        match call.state {
            CallState::Queued => {}
            CallState::Dispatched { slot } => {
                let slot = self.slots.get(&slot);
                let slot = slot.expect("a dispatched call's slot exists");
                let holds = slot.in_flight.iter().filter(|d| {
                    d.call == id && d.attempt == call.dispatches && d.state.holds_call()
                });
                assert_eq!(holds.count(), 1, "{id}: held once by its slot");
            }
            CallState::Delayed { until } => {
                assert!(until >= self.now, "{id}: overdue");
                assert!(self.timers.has(until, Due::Retry(id)), "{id}: its retry");
            }
            CallState::Dying { until } => {
                assert!(until >= self.now, "{id}: overdue");
                assert!(self.timers.has(until, Due::Obituary(id)), "{id}: its end");
            }
        }
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
            let expected: u64 = slot
                .in_flight
                .iter()
                .filter_map(Dispatched::occupies_us)
                .sum();
            assert_eq!(expected, slot.backlog_us, "backlog");
            assert!(slot.in_flight.len() <= self.config.slot_calls_max, "credit");
            let group = &self.groups[slot.group];
            assert_eq!(
                slot.is_leaving, worker.is_draining,
                "a slot knows that it leaves"
            );
            let stands = slot.rank_now(*id, &self.limits);
            assert_eq!(slot.rank, stands, "a slot is placed as it stands");
            if let Some(rank) = slot.rank {
                assert!(
                    group.ready.contains(&rank),
                    "a ranked slot is in its group's order"
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

    fn check_timers(&self, of_calls: usize) {
        for (&id, worker) in &self.workers {
            let at = worker.silence_timer;
            assert!(
                self.timers.has(at, Due::Heartbeat(id)),
                "a heartbeat is awaited"
            );
        }
        for (&id, slot) in &self.slots {
            let at = slot.overrun_timer;
            assert!(
                self.timers.has(at, Due::Overrun(id)),
                "an overrun is watched for"
            );
        }
        // Gone clients' and the few of which there is one each.
        let others = self.timers.orphans() + 8;
        let max = of_calls + self.workers.len() + self.slots.len() + others;
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
    }
}
