//! Replies for clients that do not read: kept for a while, within caps.
//!
//! A ROUTER can't tell when a peer is writable again, so replies that did not go out wait here
//! and are tried again after a pause that doubles. A client is given up only when its cap is full
//! and nothing has moved for long.

use crate::ClientId;
use crate::time::MonoTime;
use rustc_hash::FxHashMap;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// What the outbox allows.
#[derive(Clone, Copy, Debug)]
pub struct OutboxCaps {
    /// Replies kept for one client.
    pub replies_max: usize,
    /// Bytes of replies kept for one client.
    pub bytes_max: usize,
    /// A full client that took nothing for so long is given up.
    pub patience: Duration,
}

/// Replies in order of each client, and when to try again. `M` is the caller's message.
#[derive(Debug)]
pub struct Outbox<M> {
    caps: OutboxCaps,
    clients: FxHashMap<ClientId, Waiting<M>>,
    due: BTreeSet<(MonoTime, ClientId)>,
}

#[derive(Debug)]
struct Waiting<M> {
    messages: VecDeque<(M, usize)>,
    bytes: usize,
    retry_at: MonoTime,
    pause: Duration,
    moved: MonoTime,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It waits.
    Kept,
    /// The client's cap is full and nothing moves: drop it with all that waits.
    GiveUp,
    /// The cap is full, but the client is still reading: only this message is dropped.
    Dropped,
}

const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);

impl<M> Outbox<M> {
    /// An empty one.
    pub fn new(caps: OutboxCaps) -> Self {
        Outbox {
            caps,
            clients: FxHashMap::default(),
            due: BTreeSet::new(),
        }
    }

    /// Whether replies of this client wait, so that a new one must wait behind them.
    pub fn holds(&self, client: ClientId) -> bool {
        !self.clients.is_empty() && self.clients.contains_key(&client)
    }

    /// Keeps a message of `bytes` that could not be sent.
    pub fn push(&mut self, now: MonoTime, client: ClientId, message: M, bytes: usize) -> Pushed {
        let due = &mut self.due;
        let waiting = self.clients.entry(client).or_insert_with(|| {
            let retry_at = now.after(PAUSE_MIN);
            due.insert((retry_at, client));
            Waiting {
                messages: VecDeque::new(),
                bytes: 0,
                retry_at,
                pause: PAUSE_MIN,
                moved: now,
            }
        });
        let is_full = waiting.messages.len() >= self.caps.replies_max
            || (waiting.bytes + bytes > self.caps.bytes_max && !waiting.messages.is_empty());
        if is_full {
            let is_stuck = now.since(waiting.moved) >= self.caps.patience;
            return if is_stuck {
                Pushed::GiveUp
            } else {
                Pushed::Dropped
            };
        }
        waiting.bytes += bytes;
        waiting.messages.push_back((message, bytes));
        Pushed::Kept
    }

    /// When the next client is to be tried.
    pub fn next_due(&self) -> Option<MonoTime> {
        self.due.first().map(|&(at, _)| at)
    }

    /// A client to be tried at `now`: send what [`Self::front`] gives until it blocks.
    pub fn pop_due(&mut self, now: MonoTime) -> Option<ClientId> {
        let &(at, client) = self.due.first()?;
        if at > now {
            return None;
        }
        self.due.pop_first();
        Some(client)
    }

    /// The message to send next to a client.
    pub fn front(&mut self, client: ClientId) -> Option<&mut M> {
        let waiting = self.clients.get_mut(&client)?;
        waiting.messages.front_mut().map(|(message, _)| message)
    }

    /// The front went out.
    pub fn sent(&mut self, now: MonoTime, client: ClientId) {
        let Some(waiting) = self.clients.get_mut(&client) else {
            return;
        };
        if let Some((_, bytes)) = waiting.messages.pop_front() {
            waiting.bytes -= bytes;
            waiting.moved = now;
            // Doubled when it blocks: a client that reads is tried again after the shortest pause.
            waiting.pause = PAUSE_MIN / 2;
        }
        if waiting.messages.is_empty() {
            let at = waiting.retry_at;
            self.clients.remove(&client);
            self.due.remove(&(at, client));
        }
    }

    /// The front still does not go out: try again after a longer pause.
    pub fn blocked(&mut self, now: MonoTime, client: ClientId) {
        let Some(waiting) = self.clients.get_mut(&client) else {
            return;
        };
        waiting.pause = (waiting.pause * 2).min(PAUSE_MAX);
        waiting.retry_at = now.after(waiting.pause);
        self.due.insert((waiting.retry_at, client));
    }

    /// Drops all that waits for a client; how many messages that were.
    pub fn drop_client(&mut self, client: ClientId) -> usize {
        let Some(waiting) = self.clients.remove(&client) else {
            return 0;
        };
        self.due.remove(&(waiting.retry_at, client));
        waiting.messages.len()
    }

    /// Messages that wait, of all clients.
    pub fn len(&self) -> usize {
        self.clients
            .values()
            .map(|waiting| waiting.messages.len())
            .sum()
    }

    /// Bytes of the messages that wait, of all clients.
    pub fn bytes(&self) -> usize {
        self.clients.values().map(|waiting| waiting.bytes).sum()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const C: ClientId = ClientId(1);

    fn outbox() -> Outbox<u32> {
        let patience = Duration::from_secs(10);
        Outbox::new(OutboxCaps {
            replies_max: 3,
            bytes_max: 100,
            patience,
        })
    }

    fn at(ms: u64) -> MonoTime {
        MonoTime::from_micros(ms * 1_000)
    }

    #[test]
    fn messages_go_out_in_order_when_their_time_comes() {
        let mut outbox = outbox();
        assert_eq!(outbox.push(at(0), C, 1, 10), Pushed::Kept);
        assert_eq!(outbox.push(at(0), C, 2, 10), Pushed::Kept);
        assert!(outbox.holds(C) && !outbox.holds(ClientId(2)) && !outbox.is_empty());
        assert_eq!((outbox.len(), outbox.bytes()), (2, 20));
        assert_eq!(outbox.pop_due(at(0)), None);
        assert_eq!(outbox.pop_due(at(1)), Some(C));
        assert_eq!(outbox.front(C).copied(), Some(1));
        outbox.sent(at(1), C);
        assert_eq!((outbox.len(), outbox.bytes()), (1, 10));
        assert_eq!(outbox.front(C).copied(), Some(2));
        outbox.blocked(at(1), C);
        // It took one: it is tried again after the shortest pause, and after longer ones from then on.
        assert_eq!(outbox.next_due(), Some(at(2)));
        assert_eq!(outbox.pop_due(at(2)), Some(C));
        outbox.blocked(at(2), C);
        assert_eq!(outbox.next_due(), Some(at(4)));
        assert_eq!(outbox.pop_due(at(4)), Some(C));
        outbox.sent(at(4), C);
        assert!(outbox.is_empty() && !outbox.holds(C));
        assert_eq!(outbox.next_due(), None);
    }

    #[test]
    fn a_full_client_is_given_up_only_when_nothing_moves() {
        let mut outbox = outbox();
        for n in 0..3 {
            assert_eq!(outbox.push(at(0), C, n, 10), Pushed::Kept);
        }
        assert_eq!(outbox.push(at(9_999), C, 3, 10), Pushed::Dropped);
        assert_eq!(outbox.push(at(10_000), C, 3, 10), Pushed::GiveUp);
        assert_eq!(outbox.drop_client(C), 3);
        assert_eq!(outbox.next_due(), None);
    }

    #[test]
    fn what_just_fits_is_kept() {
        let mut outbox = outbox();
        assert_eq!(outbox.push(at(0), C, 1, 60), Pushed::Kept);
        assert_eq!(outbox.push(at(0), C, 2, 40), Pushed::Kept);
        assert_eq!(outbox.push(at(0), C, 3, 1), Pushed::Dropped);
    }

    #[test]
    fn one_message_over_the_byte_cap_still_fits_alone() {
        let mut outbox = outbox();
        assert_eq!(outbox.push(at(0), C, 1, 1_000), Pushed::Kept);
        assert_eq!(outbox.push(at(0), C, 2, 1), Pushed::Dropped);
    }
}
