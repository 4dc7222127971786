//! Slots for calls inside others: opened when the broker asks, for as long as it wants them.

use super::{Leaving, ServeError, Supervisor};
use crate::slot::{LinkOrder, Phase};
use muster_proto::limits;
use muster_proto::worker::{Nest, NotOpened};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The slots of a worker that serve the calls inside others, by number.
///
/// Their numbers are above those that other slots can have.
#[derive(Debug, Default)]
pub(super) struct NestedSlots {
    nests: BTreeMap<u32, Nest>,
    /// Those that were told to end: their processes are still there.
    closing: BTreeSet<u32>,
    /// What is opened as they end. Never more than they are.
    waiting: VecDeque<Nest>,
}

/// What becomes of a request for a slot.
#[derive(Debug, PartialEq, Eq)]
enum Opening {
    /// It has this number.
    Now(u32),
    /// One that ends makes room for it.
    Later,
    /// There are enough.
    Never(Nest),
}

impl NestedSlots {
    /// Whether this is one of them.
    pub(super) fn has(&self, number: u32) -> bool {
        self.nests.contains_key(&number)
    }

    /// It has ended.
    pub(super) fn forget(&mut self, number: u32) {
        self.nests.remove(&number);
        self.closing.remove(&number);
    }

    /// Finds a slot its number or its turn, so that there are never more than `max`.
    fn admit(&mut self, nest: Nest, max: usize) -> Opening {
        if self.nests.len() < max {
            return Opening::Now(self.number_for(nest));
        }
        if self.waiting.len() < self.closing.len() {
            self.waiting.push_back(nest);
            return Opening::Later;
        }
        Opening::Never(nest)
    }

    /// The link order for a slot, made of that for all.
    pub(super) fn order(&self, number: u32, link: &LinkOrder) -> LinkOrder {
        LinkOrder {
            nest: self.nests.get(&number).cloned(),
            ..link.clone()
        }
    }

    fn number_for(&mut self, nest: Nest) -> u32 {
        let first = limits::WORKER_SLOTS_MAX + 1;
        let free = (first..).find(|number| !self.has(*number));
        let number = free.expect("there are fewer slots than numbers");
        self.nests.insert(number, nest);
        number
    }
}

impl Supervisor {
    /// Opens a slot for the calls inside another, at once or when one has ended, or says that there
    /// are enough.
    pub(super) fn open_nested(&mut self, nest: Nest) -> Result<(), ServeError> {
        let max = limits::NESTED_SLOTS_MAX * self.control.registration().slots;
        // A server behind each slot, and no more than there are.
        let max = if self.crew.rep.is_some() { 0 } else { max };
        let call = nest.call.clone();
        match self.nested.admit(nest, max as usize) {
            Opening::Now(number) => {
                log::debug!("worker={}: a slot for {call}", self.crew.name);
                self.start_slot(number, None)?;
            }
            Opening::Later => log::debug!("worker={}: a slot for {call} soon", self.crew.name),
            Opening::Never(nest) => self.control.send_not_opened(&NotOpened { nest, max })?,
        }
        Ok(())
    }

    /// Opens what waited for the slots that have ended.
    pub(super) fn open_waiting_nested(&mut self) -> Result<(), ServeError> {
        for nest in std::mem::take(&mut self.nested.waiting) {
            if self.leaving == Leaving::No {
                self.open_nested(nest)?;
            }
        }
        Ok(())
    }

    /// Ends such a slot, which the broker gives no calls any more.
    pub(super) fn close_nested(&mut self, number: u32) {
        if let Some(slot) = self.slots.get_mut(&number)
            && self.nested.has(number)
        {
            slot.order_end(Phase::Stop);
            self.nested.closing.insert(number);
        }
    }

    /// Another broker, or one that has forgotten the worker, knows nothing of these slots.
    pub(super) fn close_all_nested(&mut self) {
        for (number, slot) in &mut self.slots {
            if self.nested.has(*number) {
                slot.order_end(Phase::Stop);
                self.nested.closing.insert(*number);
            }
        }
        self.nested.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_ends_makes_room_for_one_that_waits() {
        let nest = |number: u32| Nest {
            call: format!("c{number}"),
            attempt: 1,
        };
        let first = limits::WORKER_SLOTS_MAX + 1;
        let mut nested = NestedSlots::default();
        assert_eq!(nested.admit(nest(1), 2), Opening::Now(first));
        assert_eq!(nested.admit(nest(2), 2), Opening::Now(first + 1));
        assert_eq!(nested.admit(nest(3), 2), Opening::Never(nest(3)));
        nested.closing.insert(first);
        assert_eq!(nested.admit(nest(4), 2), Opening::Later);
        assert_eq!(nested.admit(nest(5), 2), Opening::Never(nest(5)));
        nested.forget(first);
        assert_eq!(nested.waiting.pop_front(), Some(nest(4)));
        assert_eq!(nested.admit(nest(4), 2), Opening::Now(first));
        assert_eq!(nested.admit(nest(6), 2), Opening::Never(nest(6)));
    }
}
