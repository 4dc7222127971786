//! Groups: slots with the same offer, the one expected to be free first in front.

use crate::SlotId;
use crate::class::ClassId;
use crate::departing::Departing;
use crate::event::{Offer, Once, Target, WorkerKind};
use crate::time::MonoTime;
use crate::turns::Turns;
use std::collections::{BTreeMap, BTreeSet};

/// Index of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GroupId(pub u32);

/// Where a slot with credit stands in its group: idle ones before busy ones, the longest idle
/// first; busy ones by when they are expected free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// Idle since, or [`BUSY`] and when it is expected free: compared for every dispatch.
    at: u64,
    pub slot: SlotId,
}

/// Above every point in time that a slot could be idle since or free at.
const BUSY: u64 = 1 << 63;

/// Busy slots that are expected free within the same 64 µs stand alike: no estimate is better than
/// that, and a slot need not be moved with every short call that it is given or has answered.
const ALIKE_BITS: u32 = 6;

impl Rank {
    #[inline]
    pub fn idle(slot: SlotId, since: MonoTime) -> Self {
        let at = since.as_micros() & !BUSY;
        Rank { at, slot }
    }

    #[inline]
    pub fn busy(slot: SlotId, free_at: MonoTime) -> Self {
        let at = (free_at.as_micros() >> ALIKE_BITS) | BUSY;
        Rank { at, slot }
    }

    #[inline]
    pub fn is_busy(self) -> bool {
        self.at & BUSY != 0
    }
}

/// Slots of one kind and offer.
#[derive(Debug)]
pub(crate) struct Group {
    pub kind: WorkerKind,
    pub offer: Offer,
    /// Workers, linked slots or not: the group goes with its last worker.
    pub workers: usize,
    /// Slots with credit.
    pub ready: BTreeSet<Rank>,
    /// The slot that short calls of this turn go to together.
    pub departing: Option<Departing>,
    /// Slots with so much parked that an idle one should take some of it back, by when they are
    /// expected free.
    pub deep: BTreeSet<(MonoTime, SlotId)>,
    /// Classes with waiting calls that its slots can run, least served first.
    pub waiting: Turns<ClassId>,
    /// The virtual time of the class served last: where newly waiting classes start.
    pub clock: u64,
    /// Linked slots.
    pub slots: usize,
    /// Of these, lanes that answered JSON with something else.
    pub no_json: BTreeSet<SlotId>,
}

impl Group {
    /// Whether a registration names the target.
    pub fn names(&self, target: &Target) -> bool {
        match target {
            Target::Method(method) | Target::MethodAt { method, .. } => {
                self.once_of(method).is_some()
            }
            Target::Raw | Target::RawAt(_) => self.offer.raw,
        }
    }

    /// Whether it may know the method though nobody said so.
    pub fn takes_anything(&self) -> bool {
        self.offer.anything
    }

    /// Whether the method is on offer, and if so whether it may run twice.
    pub fn once_of(&self, method: &str) -> Option<Once> {
        let from = (Box::from(method), Once::No);
        let (name, once) = self.offer.methods.range(from..).next()?;
        (name.as_ref() == method).then_some(*once)
    }
}

/// Groups by index and by offer.
#[derive(Debug, Default)]
pub(crate) struct GroupTable {
    groups: Vec<Option<Group>>,
    by_offer: BTreeMap<(WorkerKind, Offer), GroupId>,
}

impl GroupTable {
    pub fn find(&self, kind: WorkerKind, offer: &Offer) -> Option<GroupId> {
        self.by_offer.get(&(kind, offer.clone())).copied()
    }

    pub fn insert(&mut self, kind: WorkerKind, offer: Offer) -> GroupId {
        let group = Group {
            kind,
            offer: offer.clone(),
            workers: 0,
            ready: BTreeSet::new(),
            departing: None,
            deep: BTreeSet::new(),
            waiting: Turns::default(),
            clock: 0,
            slots: 0,
            no_json: BTreeSet::new(),
        };
        let free = self.groups.iter().position(Option::is_none);
        let at = free.unwrap_or(self.groups.len());
        if at == self.groups.len() {
            self.groups.push(None);
        }
        self.groups[at] = Some(group);
        let id = GroupId(at as u32);
        self.by_offer.insert((kind, offer), id);
        id
    }

    pub fn remove(&mut self, id: GroupId) {
        if let Some(group) = self.groups[id.0 as usize].take() {
            self.by_offer.remove(&(group.kind, group.offer));
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        let numbered = self.groups.iter().enumerate();
        numbered.filter_map(|(n, group)| Some((GroupId(n as u32), group.as_ref()?)))
    }
}

impl std::ops::Index<GroupId> for GroupTable {
    type Output = Group;

    #[inline]
    fn index(&self, id: GroupId) -> &Group {
        self.groups[id.0 as usize]
            .as_ref()
            .expect("a group outlives its slots")
    }
}

impl std::ops::IndexMut<GroupId> for GroupTable {
    #[inline]
    fn index_mut(&mut self, id: GroupId) -> &mut Group {
        self.groups[id.0 as usize]
            .as_mut()
            .expect("a group outlives its slots")
    }
}
