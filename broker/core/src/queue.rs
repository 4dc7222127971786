//! The waiting calls of one class, shared out fairly between its clients.
//!
//! Each client has a queue of its own, ordered by priority, then by arrival. The next call comes
//! from the client that has been given the least service so far (start-time fair queueing: each
//! client carries a virtual time that advances by the cost of what it is given; one that was away
//! starts at the present). This is deficit round robin without rounds: exact for calls of any
//! cost, in O(log clients).

use crate::ClientId;
use muster_proto::id::CallId;
use rustc_hash::FxHashMap;
use std::collections::{BTreeSet, VecDeque};

/// Calls of one class that wait.
#[derive(Debug, Default)]
pub(crate) struct FairQueue {
    clients: FxHashMap<ClientId, ClientQueue>,
    /// Clients with calls, least served first.
    turns: BTreeSet<(u64, ClientId)>,
    /// The virtual time of the client served last: where newcomers start.
    present: u64,
    len: usize,
}

#[derive(Debug, Default)]
struct ClientQueue {
    /// Highest priority first; an empty one is dropped.
    by_priority: Vec<(i8, VecDeque<CallId>)>,
    served: u64,
}

impl FairQueue {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a call behind those of its client and priority.
    pub fn push_back(&mut self, client: ClientId, priority: i8, call: CallId) {
        self.queue_of(client, priority).push_back(call);
    }

    /// Puts a call back in front of those of its client and priority.
    pub fn push_front(&mut self, client: ClientId, priority: i8, call: CallId) {
        self.queue_of(client, priority).push_front(call);
    }

    /// The call to serve next, without taking it.
    pub fn first(&self) -> Option<(ClientId, CallId)> {
        let &(_, client) = self.turns.first()?;
        let (_, calls) = self.clients[&client].by_priority.first()?;
        Some((client, *calls.front()?))
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
        let call = calls
            .pop_front()
            .expect("no priority is kept without calls");
        if calls.is_empty() {
            queue.by_priority.remove(0);
        }
        self.len -= 1;
        self.present = served;
        queue.served = served.saturating_add(cost.max(1));
        if queue.by_priority.is_empty() {
            self.clients.remove(&client);
        } else {
            self.turns.insert((queue.served, client));
        }
        Some(call)
    }

    /// Takes a call out of the middle. O(calls of that client and priority) in the worst case, but
    /// what is cancelled or expires early is mostly near an end.
    pub fn remove(&mut self, client: ClientId, priority: i8, call: CallId) -> bool {
        let Some(queue) = self.clients.get_mut(&client) else {
            return false;
        };
        let Some(at) = queue.by_priority.iter().position(|(p, _)| *p == priority) else {
            return false;
        };
        let calls = &mut queue.by_priority[at].1;
        // Ids count up, so a queue is sorted except for retried calls put back at its head.
        let place = match calls.binary_search(&call) {
            Ok(place) => Some(place),
            Err(_) => calls.iter().position(|&waiting| waiting == call),
        };
        let Some(place) = place else { return false };
        calls.remove(place);
        self.len -= 1;
        if calls.is_empty() {
            queue.by_priority.remove(at);
        }
        if queue.by_priority.is_empty() {
            self.turns.remove(&(queue.served, client));
            self.clients.remove(&client);
        }
        true
    }

    /// How many calls go before this one, as far as can be told now: those of its own client.
    pub fn position(&self, client: ClientId, priority: i8, call: CallId) -> Option<usize> {
        let mut before = 0;
        for (p, calls) in &self.clients.get(&client)?.by_priority {
            if *p == priority {
                return calls
                    .iter()
                    .position(|&waiting| waiting == call)
                    .map(|at| before + at);
            }
            before += calls.len();
        }
        None
    }

    /// Every waiting call.
    pub fn iter(&self) -> impl Iterator<Item = CallId> {
        self.turns.iter().flat_map(|(_, client)| {
            self.clients[client]
                .by_priority
                .iter()
                .flat_map(|(_, calls)| calls.iter().copied())
        })
    }

    fn queue_of(&mut self, client: ClientId, priority: i8) -> &mut VecDeque<CallId> {
        self.len += 1;
        let present = self.present;
        let turns = &mut self.turns;
        let queue = self.clients.entry(client).or_insert_with(|| {
            turns.insert((present, client));
            ClientQueue {
                by_priority: Vec::new(),
                served: present,
            }
        });
        let at = queue.by_priority.partition_point(|(p, _)| *p > priority);
        if queue
            .by_priority
            .get(at)
            .is_none_or(|(p, _)| *p != priority)
        {
            queue.by_priority.insert(at, (priority, VecDeque::new()));
        }
        &mut queue.by_priority[at].1
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
            queue.push_back(A, 0, CallId(call));
        }
        queue.push_back(B, 0, CallId(5));
        queue.push_back(B, 0, CallId(6));
        assert_eq!(drain(&mut queue, 10), [1, 5, 2, 6, 3, 4]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_newcomer_is_served_next_and_owes_nothing_for_its_absence() {
        let mut queue = FairQueue::default();
        for call in 1..=100 {
            queue.push_back(A, 0, CallId(call));
        }
        for _ in 0..50 {
            queue.pop(10);
        }
        queue.push_back(B, 0, CallId(200));
        queue.push_back(B, 0, CallId(201));
        assert_eq!(
            (queue.pop(10), queue.pop(10)),
            (Some(CallId(200)), Some(CallId(51)))
        );
    }

    #[test]
    fn a_costly_call_counts_for_what_it_costs() {
        let mut queue = FairQueue::default();
        queue.push_back(A, 0, CallId(1));
        queue.push_back(A, 0, CallId(2));
        for call in 10..15 {
            queue.push_back(B, 0, CallId(call));
        }
        assert_eq!(queue.pop(30), Some(CallId(1)));
        let next: Vec<_> = (0..4).map(|_| queue.pop(10).unwrap().0).collect();
        assert_eq!(next, [10, 11, 12, 2]);
    }

    #[test]
    fn priority_orders_a_clients_own_calls_only() {
        let mut queue = FairQueue::default();
        queue.push_back(A, 0, CallId(1));
        queue.push_back(A, 5, CallId(2));
        queue.push_back(A, -5, CallId(3));
        queue.push_back(B, 0, CallId(4));
        assert_eq!(drain(&mut queue, 10), [2, 4, 1, 3]);
    }

    #[test]
    fn a_call_is_taken_out_of_the_middle() {
        let mut queue = FairQueue::default();
        for call in 1..=3 {
            queue.push_back(A, 0, CallId(call));
        }
        queue.push_front(A, 0, CallId(9));
        assert_eq!(queue.position(A, 0, CallId(3)), Some(3));
        assert!(queue.remove(A, 0, CallId(2)));
        assert!(!queue.remove(A, 0, CallId(2)));
        assert!(queue.remove(A, 0, CallId(9)));
        assert_eq!(drain(&mut queue, 1), [1, 3]);
    }
}
