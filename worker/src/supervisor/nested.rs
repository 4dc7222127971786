//! Slots for calls inside others: opened when the broker asks, for as long as it wants them.

use super::{ServeError, Supervisor};
use crate::slot::{LinkOrder, Phase};
use muster_proto::limits;
use muster_proto::worker::{Nest, NotOpened};
use std::collections::BTreeMap;

/// The slots of a worker that serve the calls inside others, by number.
///
/// Their numbers are above those that other slots can have.
#[derive(Debug, Default)]
pub(super) struct NestedSlots(BTreeMap<u32, Nest>);

impl NestedSlots {
    /// Whether this is one of them.
    pub(super) fn has(&self, number: u32) -> bool {
        self.0.contains_key(&number)
    }

    /// It has ended.
    pub(super) fn forget(&mut self, number: u32) {
        self.0.remove(&number);
    }

    /// The link order for a slot, made of that for all.
    pub(super) fn order(&self, number: u32, link: &LinkOrder) -> LinkOrder {
        LinkOrder {
            nest: self.0.get(&number).cloned(),
            ..link.clone()
        }
    }

    fn number_for(&mut self, nest: Nest) -> u32 {
        let first = limits::WORKER_SLOTS_MAX + 1;
        let free = (first..).find(|number| !self.has(*number));
        let number = free.expect("there are fewer slots than numbers");
        self.0.insert(number, nest);
        number
    }
}

impl Supervisor {
    /// Opens a slot for the calls inside another, or says that there are enough.
    pub(super) fn open_nested(&mut self, nest: Nest) -> Result<(), ServeError> {
        let max = limits::NESTED_SLOTS_MAX * self.control.registration().slots;
        // A server behind each slot, and no more than there are.
        let max = if self.crew.rep.is_some() { 0 } else { max };
        if self.nested.0.len() >= max as usize {
            self.control.send_not_opened(&NotOpened { nest, max })?;
            return Ok(());
        }
        log::debug!("worker={}: a slot for {}", self.crew.name, nest.call);
        let number = self.nested.number_for(nest);
        self.start_slot(number, None)
    }

    /// Ends such a slot, which the broker gives no calls any more.
    pub(super) fn close_nested(&mut self, number: u32) {
        if let Some(slot) = self.slots.get_mut(&number)
            && self.nested.has(number)
        {
            slot.order_end(Phase::Stop);
        }
    }

    /// Another broker, or one that has forgotten the worker, knows nothing of these slots.
    pub(super) fn close_all_nested(&mut self) {
        for (number, slot) in &mut self.slots {
            if self.nested.has(*number) {
                slot.order_end(Phase::Stop);
            }
        }
    }
}
