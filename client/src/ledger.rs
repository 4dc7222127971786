//! The calls of one client that have no outcome yet.

use crate::entry::{Entry, Key};
use rustc_hash::FxHashMap;
use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// How long the broker keeps the call of a lost connection for a resend; with a margin for our
/// own noticing it late.
const KEPT: Duration = Duration::from_secs(8);

/// What the transport knows of a broker it has found again.
pub(crate) struct Found<'a> {
    /// It is the one that had the calls.
    pub(crate) is_same: bool,
    /// How long it was away.
    pub(crate) away: Duration,
    /// Methods of which it is known whether they may run only once.
    pub(crate) once: &'a FxHashMap<String, bool>,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Resend,
    Unknown,
    /// It depends on the method's registration, which isn't known yet.
    Ask,
}

/// Calls by number, and the order in which they are to be sent.
#[derive(Default)]
pub(crate) struct Ledger {
    entries: FxHashMap<u64, Entry>,
    outgoing: VecDeque<u64>,
    guards: BTreeSet<(Instant, u64)>,
    /// Calls that may be sent again once it is known that their method may run twice.
    asked: Vec<u64>,
}

impl Ledger {
    pub(crate) fn insert(&mut self, entry: Entry) {
        let id = entry.id;
        if let Some(guard) = entry.guard {
            self.guards.insert((guard, id));
        }
        // The transport's own questions go first: everything waits for their answers.
        if entry.is_own() {
            self.outgoing.push_front(id);
        } else {
            self.outgoing.push_back(id);
        }
        self.entries.insert(id, entry);
    }

    pub(crate) fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        if let Some(guard) = entry.guard {
            self.guards.remove(&(guard, id));
        }
        Some(entry)
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Entry> {
        self.entries.get(&id)
    }

    /// The next call to send; stays until [`Ledger::sent`].
    pub(crate) fn next_outgoing(&mut self) -> Option<&Entry> {
        while let Some(id) = self.outgoing.front() {
            if self.entries.get(id).is_some_and(|entry| !entry.is_sent) {
                return self.entries.get(id);
            }
            // Cancelled or answered meanwhile.
            self.outgoing.pop_front();
        }
        None
    }

    pub(crate) fn sent(&mut self) {
        if let Some(id) = self.outgoing.pop_front()
            && let Some(entry) = self.entries.get_mut(&id)
        {
            entry.is_sent = true;
        }
    }

    /// Whether somebody waits for an answer.
    pub(crate) fn has_calls(&self) -> bool {
        self.entries.values().any(|entry| !entry.is_own())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The last first: cancelled in this order, what waits is gone before a slot is free for it.
    pub(crate) fn ids_of_group(&self, group: u64) -> Vec<u64> {
        let mut ids: Vec<_> = self
            .entries
            .values()
            .filter(|entry| entry.group == group)
            .map(|entry| entry.id)
            .collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ids
    }

    pub(crate) fn next_guard(&self) -> Option<Instant> {
        self.guards.first().map(|(guard, _)| *guard)
    }

    pub(crate) fn pop_overdue(&mut self, now: Instant) -> Option<Entry> {
        let (_, id) = *self.guards.first().filter(|(guard, _)| *guard <= now)?;
        self.remove(id)
    }

    /// Drops the transport's own requests: their answers were lost with the link.
    pub(crate) fn drop_own(&mut self) {
        self.entries.retain(|_, entry| !entry.is_own());
    }

    /// The callers' calls, in the order of their numbers; the transport's own stay.
    pub(crate) fn take_others(&mut self) -> Vec<Entry> {
        let all = self.take_all();
        let (own, others) = all.into_iter().partition(Entry::is_own);
        let own: Vec<Entry> = own;
        for entry in own {
            match entry.is_sent {
                true => drop(self.entries.insert(entry.id, entry)),
                false => self.insert(entry),
            }
        }
        others
    }

    /// Every call, in the order of their numbers.
    pub(crate) fn take_all(&mut self) -> Vec<Entry> {
        let mut entries: Vec<_> = self.entries.drain().map(|(_, entry)| entry).collect();
        entries.sort_unstable_by_key(|entry| entry.id);
        self.outgoing.clear();
        self.guards.clear();
        self.asked.clear();
        entries
    }

    /// Has the calls that the old link carried sent again on a new one, as far as they may be;
    /// returns those whose outcome stays unknown.
    pub(crate) fn resend(&mut self, found: &Found<'_>) -> Vec<Entry> {
        let mut ids: Vec<_> = self.entries.keys().copied().collect();
        ids.sort_unstable();
        self.outgoing.clear();
        self.asked.clear();
        self.judge(ids, found)
    }

    /// Judges again the calls of methods that were not known before.
    pub(crate) fn resend_asked(&mut self, found: &Found<'_>) -> Vec<Entry> {
        let ids = std::mem::take(&mut self.asked);
        self.judge(ids, found)
    }

    /// Whether some call waits for [`Ledger::resend_asked`].
    pub(crate) fn has_asked(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Gives up on the calls whose method nobody offers any more.
    pub(crate) fn take_asked(&mut self) -> Vec<Entry> {
        let ids = std::mem::take(&mut self.asked);
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    fn judge(&mut self, ids: Vec<u64>, found: &Found<'_>) -> Vec<Entry> {
        let mut unknown = Vec::new();
        for id in ids {
            let Some(entry) = self.entries.get_mut(&id) else {
                continue;
            };
            match verdict(entry, found) {
                Verdict::Resend => {
                    entry.is_sent = false;
                    self.outgoing.push_back(id);
                }
                Verdict::Ask => self.asked.push(id),
                Verdict::Unknown => unknown.extend(self.remove(id)),
            }
        }
        unknown
    }
}

/// What becomes of a call whose link is lost, now that a broker is there again.
fn verdict(entry: &Entry, found: &Found<'_>) -> Verdict {
    if !entry.is_sent {
        return Verdict::Resend;
    }
    if found.is_same && entry.key != Key::None && found.away < KEPT {
        // The broker still has the call under its key, and the resend attaches to it.
        return Verdict::Resend;
    }
    if entry.is_once {
        return Verdict::Unknown;
    }
    let method = &*entry.method;
    if method == "system.multicall" {
        // Its calls are not looked at here, and one of them may be a method that runs only once.
        return Verdict::Unknown;
    }
    let is_brokers = ["broker.", "system.", "rpc."]
        .iter()
        .any(|prefix| method.starts_with(prefix));
    if method.is_empty() || is_brokers {
        return Verdict::Resend;
    }
    match found.once.get(method) {
        Some(true) => Verdict::Unknown,
        Some(false) => Verdict::Resend,
        None => Verdict::Ask,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Sink;
    use muster_proto::socket::Frame;
    use std::sync::Arc;

    fn entry(id: u64, method: &str) -> Entry {
        Entry {
            id,
            group: 0,
            method: method.into(),
            body: Frame::empty(),
            attachments: Vec::new(),
            is_by_path: false,
            is_once: false,
            key: Key::Numbered { count: 1 },
            timeout: Duration::ZERO,
            guard: None,
            sink: Sink::Promise(Arc::default()),
            is_sent: false,
        }
    }

    fn send_all(ledger: &mut Ledger) -> Vec<u64> {
        let mut ids = Vec::new();
        while let Some(entry) = ledger.next_outgoing() {
            ids.push(entry.id);
            ledger.sent();
        }
        ids
    }

    fn found(is_same: bool, once: &FxHashMap<String, bool>) -> Found<'_> {
        Found {
            is_same,
            away: Duration::from_secs(1),
            once,
        }
    }

    #[test]
    fn own_questions_go_first_and_answered_calls_are_not_sent() {
        let mut ledger = Ledger::default();
        ledger.insert(entry(1, "a"));
        ledger.insert(entry(2, "b"));
        ledger.insert(Entry {
            sink: Sink::Status,
            ..entry(3, "broker.status")
        });
        assert!(ledger.remove(1).is_some());
        assert_eq!(send_all(&mut ledger), [3, 2]);
        assert!(send_all(&mut ledger).is_empty());
    }

    #[test]
    fn the_same_broker_gets_every_call_again_in_order() {
        let mut ledger = Ledger::default();
        for id in [2, 1, 3] {
            ledger.insert(Entry {
                is_once: id == 3,
                ..entry(id, "a")
            });
        }
        send_all(&mut ledger);
        assert!(
            ledger
                .resend(&found(true, &FxHashMap::default()))
                .is_empty()
        );
        assert_eq!(send_all(&mut ledger), [1, 2, 3]);
    }

    #[test]
    fn another_broker_never_gets_what_must_run_once() {
        let mut ledger = Ledger::default();
        ledger.insert(Entry {
            is_once: true,
            ..entry(1, "a")
        });
        ledger.insert(entry(2, "a"));
        ledger.insert(entry(3, "pay"));
        ledger.insert(entry(4, "new"));
        send_all(&mut ledger);
        ledger.insert(Entry {
            is_once: true,
            ..entry(5, "pay")
        });
        let mut once = FxHashMap::default();
        once.insert("a".to_owned(), false);
        once.insert("pay".to_owned(), true);
        let unknown: Vec<_> = ledger
            .resend(&found(false, &once))
            .into_iter()
            .map(|entry| entry.id)
            .collect();
        assert_eq!(unknown, [1, 3]);
        assert!(ledger.has_asked());
        assert_eq!(send_all(&mut ledger), [2, 5]);
        once.insert("new".to_owned(), false);
        assert!(ledger.resend_asked(&found(false, &once)).is_empty());
        assert_eq!(send_all(&mut ledger), [4]);
    }

    #[test]
    fn a_call_that_runs_once_is_not_sent_to_a_broker_that_forgot_it() {
        let mut ledger = Ledger::default();
        ledger.insert(Entry {
            is_once: true,
            ..entry(1, "a")
        });
        ledger.insert(entry(2, "a"));
        send_all(&mut ledger);
        let once = [("a".to_owned(), false)].into_iter().collect();
        let found = Found {
            is_same: true,
            away: Duration::from_secs(9),
            once: &once,
        };
        let unknown: Vec<_> = ledger
            .resend(&found)
            .into_iter()
            .map(|entry| entry.id)
            .collect();
        assert_eq!(unknown, [1]);
        assert_eq!(send_all(&mut ledger), [2]);
    }

    #[test]
    fn overdue_calls_come_out_in_the_order_of_their_guards() {
        let mut ledger = Ledger::default();
        let now = Instant::now();
        for (id, ms) in [(1, 30), (2, 10), (3, 1000)] {
            let guard = Some(now + Duration::from_millis(ms));
            ledger.insert(Entry {
                guard,
                ..entry(id, "a")
            });
        }
        let late = now + Duration::from_millis(50);
        let ids: Vec<_> = std::iter::from_fn(|| ledger.pop_overdue(late))
            .map(|entry| entry.id)
            .collect();
        assert_eq!(ids, [2, 1]);
        assert_eq!(ledger.next_guard(), Some(now + Duration::from_secs(1)));
    }
}
