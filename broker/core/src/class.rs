//! Capability classes: the calls that the same slots can run.

use crate::SlotId;
use crate::event::Target;
use crate::group::GroupId;
use crate::queue::FairQueue;
use crate::recent::Histogram;
use crate::turns::Turns;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::rc::Rc;

/// Index of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClassId(pub u32);

/// The calls for one method (or raw bodies), to anybody or to one worker.
#[derive(Debug)]
pub(crate) struct Class {
    pub target: Rc<Target>,
    pub queue: FairQueue,
    /// The groups whose slots can run it.
    pub groups: Vec<GroupId>,
    /// Lanes that answered that they do not know the method.
    pub refused_by: BTreeSet<SlotId>,
    /// Service given so far, in virtual microseconds: the class with the least goes first.
    pub served: u64,
    pub estimate: Estimate,
    /// Calls of the class that are not resolved.
    pub open_calls: usize,
    /// Some registration says that it must never run twice.
    pub once: bool,
    /// How long its calls took.
    pub latency: Histogram,
    /// Its calls that ended with anything but a result.
    pub failures: u64,
}

/// A running estimate of a method's service time per item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Estimate {
    /// In nanoseconds per item; `None` until the first answer.
    per_item_ns: Option<u64>,
    /// All that was learnt from, together.
    total_ns: u64,
}

impl Estimate {
    /// Learns from an answer. A longer time counts more than a shorter one: to think a call short
    /// that is long parks others behind it, the other error costs a round trip.
    #[inline]
    pub fn learn(&mut self, service_ns: u64, items: u32) {
        self.total_ns = self.total_ns.wrapping_add(service_ns);
        let sample = service_ns / u64::from(items.max(1));
        self.per_item_ns = Some(match self.per_item_ns {
            None => sample,
            Some(old) if sample > old => old + (sample - old) / 4 + 1,
            Some(old) => old - (old - sample) / 16,
        });
    }

    /// What `items` take, in microseconds rounded up, if it is known.
    #[inline]
    pub fn micros(&self, items: u32) -> Option<u64> {
        let ns = self.per_item_ns?.saturating_mul(u64::from(items));
        Some(ns.div_ceil(1_000))
    }

    /// Nanoseconds of service given.
    pub fn total_ns(&self) -> u64 {
        self.total_ns
    }

    /// Nanoseconds per item.
    pub fn per_item_ns(&self) -> Option<u64> {
        self.per_item_ns
    }
}

/// The classes for one worker.
#[derive(Debug, Default)]
pub(crate) struct Addressed {
    pub classes: BTreeSet<ClassId>,
    /// Those with waiting calls, least served first.
    pub waiting: Turns<ClassId>,
}

/// Classes by index and by target.
#[derive(Debug, Default)]
pub(crate) struct ClassTable {
    classes: Vec<Option<Class>>,
    free: Vec<ClassId>,
    /// Classes without open calls.
    idle: usize,
    by_target: FxHashMap<Rc<Target>, ClassId>,
}

impl ClassTable {
    pub fn len(&self) -> usize {
        self.by_target.len()
    }

    /// Classes that hold no call.
    pub fn idle(&self) -> usize {
        self.idle
    }

    /// Books an open call.
    #[inline]
    pub fn open(&mut self, id: ClassId) {
        let class = &mut self[id];
        class.open_calls += 1;
        let was_idle = class.open_calls == 1;
        self.idle -= usize::from(was_idle);
    }

    /// A call of the class is resolved.
    #[inline]
    pub fn close(&mut self, id: ClassId) {
        let class = &mut self[id];
        class.open_calls -= 1;
        let is_idle = class.open_calls == 0;
        self.idle += usize::from(is_idle);
    }

    #[inline]
    pub fn find(&self, target: &Target) -> Option<ClassId> {
        self.by_target.get(target).copied()
    }

    pub fn insert(&mut self, class: Class) -> ClassId {
        let id = self
            .free
            .pop()
            .unwrap_or(ClassId(self.classes.len() as u32));
        self.by_target.insert(class.target.clone(), id);
        self.idle += 1;
        if id.0 as usize == self.classes.len() {
            self.classes.push(Some(class));
        } else {
            self.classes[id.0 as usize] = Some(class);
        }
        id
    }

    pub fn remove(&mut self, id: ClassId) -> Option<Class> {
        let class = self.classes.get_mut(id.0 as usize)?.take()?;
        self.by_target.remove(&class.target);
        self.idle -= 1;
        self.free.push(id);
        Some(class)
    }

    #[inline]
    pub fn get(&self, id: ClassId) -> Option<&Class> {
        self.classes.get(id.0 as usize)?.as_ref()
    }

    #[inline]
    pub fn get_mut(&mut self, id: ClassId) -> Option<&mut Class> {
        self.classes.get_mut(id.0 as usize)?.as_mut()
    }

    pub fn iter(&self) -> impl Iterator<Item = (ClassId, &Class)> {
        let numbered = self.classes.iter().enumerate();
        numbered.filter_map(|(n, class)| Some((ClassId(n as u32), class.as_ref()?)))
    }

    pub fn ids(&self) -> Vec<ClassId> {
        self.iter().map(|(id, _)| id).collect()
    }
}

impl std::ops::Index<ClassId> for ClassTable {
    type Output = Class;

    #[inline]
    fn index(&self, id: ClassId) -> &Class {
        self.classes[id.0 as usize]
            .as_ref()
            .expect("a class outlives its calls")
    }
}

impl std::ops::IndexMut<ClassId> for ClassTable {
    #[inline]
    fn index_mut(&mut self, id: ClassId) -> &mut Class {
        self.classes[id.0 as usize]
            .as_mut()
            .expect("a class outlives its calls")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_rises_faster_than_it_falls() {
        let mut estimate = Estimate::default();
        assert_eq!(estimate.micros(1), None);
        estimate.learn(1_000, 1);
        assert_eq!(estimate.micros(1), Some(1));
        estimate.learn(1_001_000, 1);
        let risen = estimate.micros(1).unwrap();
        assert!((240..=260).contains(&risen), "{risen}");
        estimate.learn(0, 1);
        assert!(estimate.micros(1).unwrap() > 230);
    }

    #[test]
    fn an_estimate_goes_a_quarter_of_the_way_up_and_a_sixteenth_down() {
        let mut estimate = Estimate::default();
        for (sample, expected) in [(1_000, 1_000), (1_001_000, 251_001), (0, 235_314)] {
            estimate.learn(sample, 1);
            assert_eq!(estimate.per_item_ns(), Some(expected));
        }
    }

    #[test]
    fn a_chunk_is_estimated_by_its_items() {
        let mut estimate = Estimate::default();
        estimate.learn(50_000_000, 1_000);
        assert_eq!(estimate.micros(1), Some(50));
        assert_eq!(estimate.micros(10_000), Some(500_000));
    }
}
