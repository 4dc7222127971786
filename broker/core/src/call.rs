//! The calls the core holds, by id.

use crate::action::Attempt;
use crate::class::ClassId;
use crate::client::Entry;
use crate::nest::Nested;
use crate::time::MonoTime;
use crate::{ClientId, SlotId};
use muster_proto::id::CallId;
use rustc_hash::FxHashMap;

/// One call from admission to its answer.
#[derive(Debug)]
pub(crate) struct Call<Q> {
    pub request: Q,
    pub client: ClientId,
    /// Where its client's list has it.
    pub place: u32,
    pub class: ClassId,
    pub state: CallState,
    pub origin: Origin,
    pub admitted: MonoTime,
    /// [`MonoTime::NEVER`] without one.
    pub deadline: MonoTime,
    pub items: u32,
    pub bytes: u32,
    /// Dispatches so far, the current one included: the fence.
    pub dispatches: u32,
    /// How often it was given back unstarted.
    pub returns: u8,
    /// Attempts charged so far.
    pub charged: u16,
    pub attempts_max: u16,
    pub priority: i8,
    /// Its caller wants it started once at most.
    pub once: bool,
    /// A suspect: it was parked beside a call that took its slot down, or may be the culprit, and
    /// so runs on an otherwise empty slot.
    pub alone: bool,
    pub extra: Option<Box<Extra>>,
}

impl<Q> Call<Q> {
    /// Where it belongs, if it was made inside another.
    #[inline]
    pub fn nested(&self) -> Option<Nested> {
        self.extra.as_ref()?.nested
    }

    /// It as its client has it.
    #[inline]
    pub fn entry(&self) -> Entry {
        Entry {
            client: self.client,
            place: self.place,
            bytes: self.bytes,
        }
    }

    /// Whether its client may find it again by another connection.
    pub fn is_keyed(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.key.is_some())
    }
}

/// What few calls have.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    pub key: Option<Box<str>>,
    /// It was made inside another.
    pub nested: Option<Nested>,
    pub attempts: Vec<Attempt>,
}

/// Where a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallState {
    /// In its class's queue.
    Queued,
    /// Retried later.
    Delayed { until: MonoTime },
    /// Lost for good; waits for word of how its child ended before it says so.
    Dying { until: MonoTime },
    /// On a slot.
    Dispatched { slot: SlotId },
}

/// To whom the outcome goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Its client.
    Single,
    /// Nobody; its client hears that it is taken on.
    Notification,
    /// Nobody: a notification in a batch, which is answered as a whole.
    SilentItem,
    /// A batch, at this place.
    Item { batch: u32, index: u32 },
}

impl Origin {
    /// Whether nobody waits for the outcome.
    pub fn is_silent(self) -> bool {
        matches!(self, Origin::Notification | Origin::SilentItem)
    }
}

const PAGE_CALLS: u64 = 64;

/// Calls by id. Ids count up, so pages of neighbours are dense while their calls live: a call
/// costs its own size and nothing for the table.
#[derive(Debug)]
pub(crate) struct CallTable<Q> {
    pages: FxHashMap<u64, Page<Q>>,
    /// The last emptied page, so that a single call at a time allocates nothing.
    spare: Option<Page<Q>>,
    last_id: u64,
    len: usize,
}

#[derive(Debug)]
struct Page<Q> {
    calls: Box<[Option<Call<Q>>]>,
    len: usize,
}

impl<Q> CallTable<Q> {
    pub fn new() -> Self {
        CallTable {
            pages: FxHashMap::default(),
            spare: None,
            last_id: 0,
            len: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether a call ever had this id.
    pub fn was_issued(&self, id: CallId) -> bool {
        (1..=self.last_id).contains(&id.0)
    }

    /// The id that the next call gets.
    #[inline]
    pub fn next_id(&self) -> CallId {
        CallId(self.last_id + 1)
    }

    pub fn insert(&mut self, call: Call<Q>) -> CallId {
        self.last_id += 1;
        let (number, place) = Self::place(CallId(self.last_id));
        let spare = &mut self.spare;
        let page = self.pages.entry(number).or_insert_with(|| {
            spare.take().unwrap_or_else(|| Page {
                calls: std::iter::repeat_with(|| None)
                    .take(PAGE_CALLS as usize)
                    .collect(),
                len: 0,
            })
        });
        page.calls[place] = Some(call);
        page.len += 1;
        self.len += 1;
        CallId(self.last_id)
    }

    pub fn get(&self, id: CallId) -> Option<&Call<Q>> {
        let (number, place) = Self::place(id);
        self.pages.get(&number)?.calls[place].as_ref()
    }

    pub fn get_mut(&mut self, id: CallId) -> Option<&mut Call<Q>> {
        let (number, place) = Self::place(id);
        self.pages.get_mut(&number)?.calls[place].as_mut()
    }

    pub fn remove(&mut self, id: CallId) -> Option<Call<Q>> {
        let (number, place) = Self::place(id);
        let page = self.pages.get_mut(&number)?;
        let call = page.calls[place].take()?;
        page.len -= 1;
        self.len -= 1;
        // The page that the next call goes to stays, so that one call at a time moves no page.
        let is_current = number == (self.last_id + 1) / PAGE_CALLS;
        if page.len == 0 && !is_current {
            self.spare = self.pages.remove(&number);
        }
        Some(call)
    }

    /// Every call, in the order of admission.
    pub fn iter(&self) -> impl Iterator<Item = (CallId, &Call<Q>)> {
        let mut numbers: Vec<_> = self.pages.keys().copied().collect();
        numbers.sort_unstable();
        numbers.into_iter().flat_map(move |number| {
            self.pages[&number]
                .calls
                .iter()
                .enumerate()
                .filter_map(move |(place, call)| {
                    Some((CallId(number * PAGE_CALLS + place as u64), call.as_ref()?))
                })
        })
    }

    fn place(id: CallId) -> (u64, usize) {
        (id.0 / PAGE_CALLS, (id.0 % PAGE_CALLS) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(items: u32) -> Call<()> {
        Call {
            request: (),
            client: ClientId(1),
            place: 0,
            class: ClassId(0),
            state: CallState::Queued,
            origin: Origin::Single,
            admitted: MonoTime::ZERO,
            deadline: MonoTime::NEVER,
            items,
            bytes: 0,
            dispatches: 0,
            returns: 0,
            charged: 0,
            attempts_max: 3,
            priority: 0,
            once: false,
            alone: false,
            extra: None,
        }
    }

    #[test]
    fn ids_count_up_and_are_never_given_twice() {
        let mut table = CallTable::new();
        let first = table.insert(call(1));
        assert_eq!(first, CallId(1));
        assert!(table.remove(first).is_some() && table.remove(first).is_none());
        assert_eq!(table.insert(call(1)), CallId(2));
        assert!(table.get(first).is_none() && table.get(CallId(0)).is_none());
        assert!(table.get_mut(CallId(u64::MAX)).is_none());
    }

    #[test]
    fn calls_are_found_across_pages_and_listed_in_order() {
        let mut table = CallTable::new();
        let ids: Vec<CallId> = (0..300).map(|n| table.insert(call(n))).collect();
        for id in ids.iter().filter(|id| id.0 % 7 != 0) {
            table.remove(*id);
        }
        assert_eq!(table.len(), 300 / 7);
        let listed: Vec<u64> = table.iter().map(|(id, _)| id.0).collect();
        assert_eq!(listed, (1..=42).map(|n| n * 7).collect::<Vec<u64>>());
        assert_eq!(table.get(CallId(7)).map(|call| call.items), Some(6));
    }

    #[test]
    fn pages_go_with_their_calls() {
        let mut table = CallTable::new();
        for _ in 0..100 {
            let ids: Vec<CallId> = (0..1_000).map(|_| table.insert(call(1))).collect();
            for id in ids {
                table.remove(id);
            }
        }
        assert_eq!(table.len(), 0);
        assert!(
            table.pages.len() <= 1,
            "{} pages of nothing",
            table.pages.len()
        );
        for _ in 0..1_000 {
            let id = table.insert(call(1));
            table.remove(id);
        }
        assert!(
            table.pages.len() <= 1,
            "{} pages of nothing",
            table.pages.len()
        );
    }
}
