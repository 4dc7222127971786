//! The waiting calls of one class, shared out fairly between its clients.
//!
//! Each client has a queue of its own, ordered by priority, then by id, which is arrival: a call
//! that comes back from a slot is older than those that never left, and so goes in front of them.
//! The next call comes from the client that has been given the least service so far (start-time
//! fair queueing: each client carries a virtual time that advances by the cost of what it is
//! given; one that was away starts at the present, or where it left off if that lies ahead). This
//! is deficit round robin without rounds: exact for calls of any cost, in O(log clients).

use crate::ClientId;
use crate::turns::Turns;
use muster_proto::id::CallId;
use rustc_hash::FxHashMap;
use std::collections::{BTreeSet, VecDeque};

/// Calls of one class that wait.
#[derive(Debug, Default)]
pub(crate) struct FairQueue {
    clients: FxHashMap<ClientId, ClientQueue>,
    /// Clients with calls, least served first.
    turns: Turns<ClientId>,
    /// Clients without calls that were given service ahead of the present. Without them a client
    /// that asks again as soon as it is served would start at the present each time, before
    /// everybody who waits, for ever.
    resting: BTreeSet<(u64, ClientId)>,
    /// The virtual time of the client served last: where newcomers start.
    present: u64,
    /// The call to serve next: asked for more often than it changes.
    first: Option<CallId>,
    len: usize,
}

#[derive(Debug, Default)]
struct ClientQueue {
    /// Highest priority first; one without calls is dropped.
    by_priority: Vec<(i8, Waiting)>,
    served: u64,
}

/// Set in an entry whose call was taken out of the middle: the others need not move up.
const TAKEN_OUT: u64 = 1 << 63;

/// Call ids in order. The first and the last entry are always there to be served.
#[derive(Debug, Default)]
struct Waiting {
    entries: VecDeque<u64>,
    taken_out: usize,
}

impl Waiting {
    #[inline]
    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[inline]
    fn len(&self) -> usize {
        self.entries.len() - self.taken_out
    }

    fn insert(&mut self, call: CallId) {
        if self.entries.back().is_none_or(|&last| last < call.0) {
            self.entries.push_back(call.0);
            return;
        }
        // Calls that come back are older than the others: mostly this moves nothing.
        let at = self
            .entries
            .partition_point(|entry| entry & !TAKEN_OUT < call.0);
        if self.entries[at] == call.0 | TAKEN_OUT {
            self.entries[at] = call.0;
            self.taken_out -= 1;
        } else {
            self.entries.insert(at, call.0);
        }
    }

    fn remove(&mut self, call: CallId) -> bool {
        let Ok(at) = self
            .entries
            .binary_search_by_key(&call.0, |entry| entry & !TAKEN_OUT)
        else {
            return false;
        };
        if self.entries[at] != call.0 {
            return false;
        }
        self.entries[at] |= TAKEN_OUT;
        self.taken_out += 1;
        self.trim();
        true
    }

    fn pop(&mut self) -> Option<CallId> {
        let call = self.entries.pop_front()?;
        self.trim();
        Some(CallId(call))
    }

    #[inline]
    fn first(&self) -> Option<CallId> {
        self.entries.front().copied().map(CallId)
    }

    fn iter(&self) -> impl Iterator<Item = CallId> {
        let there = self.entries.iter().filter(|&entry| entry & TAKEN_OUT == 0);
        there.copied().map(CallId)
    }

    /// Keeps the ends served, and at least half of the entries, and no more room than that needs.
    fn trim(&mut self) {
        while self
            .entries
            .front()
            .is_some_and(|entry| entry & TAKEN_OUT != 0)
        {
            self.entries.pop_front();
            self.taken_out -= 1;
        }
        while self
            .entries
            .back()
            .is_some_and(|entry| entry & TAKEN_OUT != 0)
        {
            self.entries.pop_back();
            self.taken_out -= 1;
        }
        if 2 * self.taken_out > self.entries.len() {
            self.entries.retain(|entry| entry & TAKEN_OUT == 0);
            self.taken_out = 0;
        }
        if self.entries.capacity() > 1_024 && self.entries.len() < self.entries.capacity() / 8 {
            self.entries.shrink_to(2 * self.entries.len());
        }
    }
}

impl FairQueue {
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a call where it belongs among those of its client and priority.
    pub fn push(&mut self, client: ClientId, priority: i8, call: CallId) {
        self.len += 1;
        let present = self.present;
        let queue = self.clients.entry(client).or_insert_with(|| ClientQueue {
            by_priority: Vec::new(),
            served: present,
        });
        if queue.by_priority.is_empty() {
            self.resting.remove(&(queue.served, client));
            queue.served = queue.served.max(present);
            self.turns.insert((queue.served, client));
        }
        let at = queue.by_priority.partition_point(|(p, _)| *p > priority);
        let is_there = queue
            .by_priority
            .get(at)
            .is_some_and(|(p, _)| *p == priority);
        if !is_there {
            let waiting = Waiting::default();
            queue.by_priority.insert(at, (priority, waiting));
        }
        queue.by_priority[at].1.insert(call);
        self.find_first();
    }

    /// The call to serve next, without taking it.
    #[inline]
    pub fn first(&self) -> Option<CallId> {
        self.first
    }

    /// Takes [`Self::first`], which costs its client `cost`.
    pub fn pop(&mut self, cost: u64) -> Option<CallId> {
        let (served, client) = self.turns.pop_first()?;
        let queue = self
            .clients
            .get_mut(&client)
            .expect("a client with a turn has a queue");
        let (_, calls) = queue
            .by_priority
            .first_mut()
            .expect("a client with a turn has calls");
        let call = calls.pop().expect("no priority is kept without calls");
        if calls.is_empty() {
            queue.by_priority.remove(0);
        }
        self.len -= 1;
        self.present = served;
        queue.served = served.saturating_add(cost.max(1));
        if queue.by_priority.is_empty() {
            self.resting.insert((queue.served, client));
        } else {
            self.turns.insert((queue.served, client));
        }
        self.wake_rested();
        self.find_first();
        Some(call)
    }

    /// Takes a call out of the middle.
    pub fn remove(&mut self, client: ClientId, priority: i8, call: CallId) -> bool {
        let Some(queue) = self.clients.get_mut(&client) else {
            return false;
        };
        let Some(at) = queue.by_priority.iter().position(|(p, _)| *p == priority) else {
            return false;
        };
        if !queue.by_priority[at].1.remove(call) {
            return false;
        }
        self.len -= 1;
        if queue.by_priority[at].1.is_empty() {
            queue.by_priority.remove(at);
        }
        if queue.by_priority.is_empty() {
            self.turns.remove(&(queue.served, client));
            self.resting.insert((queue.served, client));
            self.wake_rested();
        }
        self.find_first();
        true
    }

    /// How many calls go before this one, as far as can be told now: those of its own client.
    pub fn position(&self, client: ClientId, priority: i8, call: CallId) -> Option<usize> {
        let mut before = 0;
        for (p, calls) in &self.clients.get(&client)?.by_priority {
            if *p == priority {
                return calls
                    .iter()
                    .position(|waiting| waiting == call)
                    .map(|at| before + at);
            }
            before += calls.len();
        }
        None
    }

    /// Every waiting call.
    pub fn iter(&self) -> impl Iterator<Item = CallId> {
        self.turns.iter().flat_map(|(_, client)| {
            let by_priority = &self.clients[client].by_priority;
            by_priority.iter().flat_map(|(_, calls)| calls.iter())
        })
    }

    fn find_first(&mut self) {
        let client = self.turns.first().map(|(_, client)| &self.clients[client]);
        let calls = client.and_then(|client| client.by_priority.first());
        self.first = calls.and_then(|(_, calls)| calls.first());
    }

    /// Forgets the clients that the present has caught up with: they start there anyway. When
    /// nobody waits, nobody is ahead of anybody.
    fn wake_rested(&mut self) {
        if self.len == 0 && self.resting.len() > 1 {
            self.resting.clear();
            self.clients.clear();
            self.clients.shrink_to(16);
            return;
        }
        let present = if self.len == 0 {
            u64::MAX
        } else {
            self.present
        };
        while let Some(&(served, client)) = self.resting.first() {
            if served > present {
                return;
            }
            self.resting.pop_first();
            self.clients.remove(&client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ClientId = ClientId(1);
    const B: ClientId = ClientId(2);

    fn drain(queue: &mut FairQueue, cost: u64) -> Vec<u64> {
        std::iter::from_fn(|| queue.pop(cost).map(|call| call.0)).collect()
    }

    #[test]
    fn clients_take_turns_whatever_the_length_of_their_queues() {
        let mut queue = FairQueue::default();
        for call in 1..=4 {
            queue.push(A, 0, CallId(call));
        }
        queue.push(B, 0, CallId(5));
        queue.push(B, 0, CallId(6));
        assert_eq!(drain(&mut queue, 10), [1, 5, 2, 6, 3, 4]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_call_stands_behind_those_of_higher_priority_and_none_that_were_taken_out() {
        let mut queue = FairQueue::default();
        for call in 1..=4 {
            queue.push(A, 0, CallId(call));
        }
        queue.push(A, -1, CallId(5));
        queue.push(A, -1, CallId(6));
        assert_eq!(queue.position(A, -1, CallId(6)), Some(5));
        assert!(queue.remove(A, 0, CallId(3)) && queue.remove(A, 0, CallId(4)));
        assert_eq!(queue.position(A, -1, CallId(6)), Some(3));
        assert_eq!(queue.position(A, 0, CallId(4)), None);
        assert_eq!(queue.position(B, 0, CallId(6)), None);
        assert_eq!(queue.len(), 4);
    }

    #[test]
    fn a_newcomer_is_served_next_and_owes_nothing_for_its_absence() {
        let mut queue = FairQueue::default();
        for call in 1..=100 {
            queue.push(A, 0, CallId(call));
        }
        for _ in 0..50 {
            queue.pop(10);
        }
        queue.push(B, 0, CallId(200));
        queue.push(B, 0, CallId(201));
        assert_eq!(
            (queue.pop(10), queue.pop(10)),
            (Some(CallId(200)), Some(CallId(51)))
        );
    }

    #[test]
    fn a_client_that_asks_again_when_it_is_served_waits_for_its_turn() {
        let mut queue = FairQueue::default();
        for call in 1..=10 {
            queue.push(A, 0, CallId(call));
        }
        let mut served = Vec::new();
        for call in 100..106 {
            queue.push(B, 0, CallId(call));
            served.extend([queue.pop(10).unwrap().0, queue.pop(10).unwrap().0]);
        }
        assert_eq!(
            served.iter().filter(|&&call| call < 100).count(),
            6,
            "{served:?}"
        );
    }

    #[test]
    fn a_costly_call_counts_for_what_it_costs() {
        let mut queue = FairQueue::default();
        queue.push(A, 0, CallId(1));
        queue.push(A, 0, CallId(2));
        for call in 10..15 {
            queue.push(B, 0, CallId(call));
        }
        assert_eq!(queue.pop(30), Some(CallId(1)));
        let next: Vec<_> = (0..4).map(|_| queue.pop(10).unwrap().0).collect();
        assert_eq!(next, [10, 11, 12, 2]);
    }

    #[test]
    fn priority_orders_a_clients_own_calls_only() {
        let mut queue = FairQueue::default();
        queue.push(A, 0, CallId(1));
        queue.push(A, 5, CallId(2));
        queue.push(A, -5, CallId(3));
        queue.push(B, 0, CallId(4));
        assert_eq!(drain(&mut queue, 10), [2, 4, 1, 3]);
    }

    #[test]
    fn a_call_that_comes_back_goes_in_front_of_younger_ones() {
        let mut queue = FairQueue::default();
        for call in [3, 4, 5] {
            queue.push(A, 0, CallId(call));
        }
        queue.push(A, 0, CallId(2));
        queue.push(A, 0, CallId(1));
        assert_eq!(queue.position(A, 0, CallId(4)), Some(3));
        assert_eq!(drain(&mut queue, 10), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn calls_are_taken_out_of_the_middle_and_put_in_again() {
        let mut queue = FairQueue::default();
        for call in 1..=9 {
            queue.push(A, 0, CallId(call));
        }
        for call in [5, 3, 1, 9] {
            assert!(queue.remove(A, 0, CallId(call)));
            assert!(!queue.remove(A, 0, CallId(call)));
        }
        queue.push(A, 0, CallId(3));
        assert_eq!((queue.len(), queue.position(A, 0, CallId(4))), (6, Some(2)));
        assert_eq!(
            queue.iter().map(|call| call.0).collect::<Vec<_>>(),
            [2, 3, 4, 6, 7, 8]
        );
        for call in [4, 6, 7, 3] {
            assert!(queue.remove(A, 0, CallId(call)));
        }
        assert_eq!(drain(&mut queue, 1), [2, 8]);
        assert!(queue.clients.is_empty() && queue.resting.is_empty());
    }

    #[test]
    fn who_rests_ahead_of_the_present_goes_on_from_there() {
        let mut queue = FairQueue::default();
        for call in 1..=5 {
            queue.push(A, 0, CallId(call));
        }
        queue.push(B, 0, CallId(100));
        assert_eq!(queue.pop(10), Some(CallId(1)));
        // It was given as much as three of the other's calls, and asks again a little later.
        assert_eq!(queue.pop(30), Some(CallId(100)));
        assert_eq!(queue.pop(10), Some(CallId(2)));
        queue.push(B, 0, CallId(101));
        assert_eq!(drain(&mut queue, 10), [3, 4, 101, 5]);
    }

    fn waiting(calls: std::ops::RangeInclusive<u64>) -> Waiting {
        let mut waiting = Waiting::default();
        calls.for_each(|call| waiting.insert(CallId(call)));
        waiting
    }

    #[test]
    fn what_was_taken_out_counts_no_more_wherever_it_stood() {
        let mut waiting = waiting(1..=12);
        // In the middle, and in again.
        assert!(waiting.remove(CallId(6)));
        assert_eq!(waiting.len(), 11);
        waiting.insert(CallId(6));
        assert_eq!(waiting.len(), 12);
        assert!(waiting.remove(CallId(6)), "it is there once");
        // Next to both ends, then the ends.
        assert!(waiting.remove(CallId(2)) && waiting.remove(CallId(11)));
        assert_eq!(waiting.len(), 9);
        assert_eq!(waiting.pop(), Some(CallId(1)));
        assert_eq!((waiting.len(), waiting.first()), (8, Some(CallId(3))));
        assert!(waiting.remove(CallId(12)));
        assert_eq!((waiting.len(), waiting.taken_out), (7, 1));
        let left: Vec<u64> = waiting.iter().map(|call| call.0).collect();
        assert_eq!(left, [3, 4, 5, 7, 8, 9, 10]);
    }

    #[test]
    fn a_queue_that_was_long_keeps_no_room_for_it() {
        let mut long = waiting(1..=100_000);
        while long.len() > 10 {
            long.pop();
        }
        assert!(
            long.entries.capacity() <= 1_024,
            "{:?}",
            long.entries.capacity()
        );
        let mut short = waiting(1..=500);
        let room = short.entries.capacity();
        while short.len() > 10 {
            short.pop();
        }
        assert_eq!(short.entries.capacity(), room, "a little is not worth it");
    }
}
