//! What lanes turn out not to know.
//!
//! A lane says nothing of itself. One that answers that it does not know a method is not asked for
//! it again, one that does not speak JSON gets no more of it, and what no lane knows is not found.

use crate::class::{Class, ClassId};
use crate::event::WorkerKind;
use crate::route::is_json;
use crate::slot::Slot;
use crate::{Core, Failure, Outcome, Reply, Request, SlotId};

impl<Q: Request, R: Reply> Core<Q, R> {
    /// Whether every slot that could run the class said that it does not know the method, or does
    /// not speak JSON at all. Only lanes say such things, and while none is up nobody knows.
    pub(crate) fn is_unknown_everywhere(&self, class_id: ClassId) -> bool {
        let class = &self.classes[class_id];
        let kind = |group| self.groups[group].kind;
        if class
            .groups
            .first()
            .is_some_and(|&group| kind(group) == WorkerKind::Managed)
        {
            return false;
        }
        let is_json = is_json(&class.target);
        if class.refused_by.is_empty() && !is_json {
            return false;
        }
        if let Some(name) = class.target.worker() {
            let worker = self.worker_names.get(name).map(|id| &self.workers[id]);
            return worker.is_some_and(|worker| {
                let mut slots = worker.slots.values();
                !worker.slots.is_empty() && slots.all(|id| !can_run(class, *id, &self.slots[id]))
            });
        }
        let mut unable = 0;
        let mut there = 0;
        for &group in &class.groups {
            let group = &self.groups[group];
            if group.kind == WorkerKind::Managed {
                return false;
            }
            there += group.slots;
            unable += if is_json { group.no_json.len() } else { 0 };
        }
        let refusing = class.refused_by.iter().filter(|id| {
            let slot = &self.slots[id];
            class.groups.contains(&slot.group) && !(is_json && slot.no_json)
        });
        there > 0 && unable + refusing.count() >= there
    }

    /// Answers what waits for a method that no lane knows.
    pub(crate) fn refuse_waiting(&mut self, class: ClassId) {
        if !self.is_unknown_everywhere(class) {
            return;
        }
        let no_workers = false;
        while let Some(call) = self.classes[class].queue.first() {
            self.finish(
                call,
                Outcome::Failed(Failure::MethodNotFound { no_workers }),
            );
        }
    }
}

/// Whether nothing speaks against the class on this slot of one of its groups.
#[inline]
pub(crate) fn can_run(class: &Class, slot_id: SlotId, slot: &Slot) -> bool {
    let is_refused = class.refused_by.contains(&slot_id);
    let is_strange = slot.no_json && is_json(&class.target);
    slot.kind == WorkerKind::Managed || !(is_refused || is_strange)
}
