//! The worker's slots: started, counted, and started again when they end.

use super::{Leaving, ServeError, Supervisor};
use crate::python::Python;
use crate::slot::Phase;
use crate::slot_handle::SlotHandle;
use crate::slot_process::ProcessEvent;
use muster_proto::limits;
use std::time::Instant;

impl Supervisor {
    /// Starts a slot, which joins if there is a broker.
    pub(super) fn start_slot(
        &mut self,
        number: u32,
        first_child: Option<Python>,
    ) -> Result<(), ServeError> {
        let wake = self.stopper.wake();
        let mut slot = self
            .crew
            .start_slot(number, &self.context, wake, first_child)?;
        if let Some(link) = &self.link {
            slot.order_link(&self.nested.order(number, link));
        }
        self.slots.insert(number, slot);
        Ok(())
    }

    /// Has so many slots. Those with the highest numbers go first.
    pub(super) fn resize(&mut self, wanted: u32) -> Result<(), ServeError> {
        let slots_max = match &self.crew.rep {
            // A server behind each slot, and no more than there are.
            Some(servers) => servers.count(),
            None => limits::WORKER_SLOTS_MAX,
        };
        let wanted = wanted.clamp(1, slots_max);
        if self.leaving != Leaving::No || wanted == self.control.registration().slots {
            return Ok(());
        }
        log::info!("worker={}: {wanted} slots from now on", self.crew.name);
        self.control
            .change(|registration| registration.slots = wanted)?;
        for (_, slot) in self.slots.range_mut(wanted + 1..=limits::WORKER_SLOTS_MAX) {
            slot.order_end(Phase::Drain);
        }
        for number in 1..=wanted {
            if !self.slots.contains_key(&number) && !self.fallen.contains_key(&number) {
                self.start_slot(number, None)?;
            }
        }
        Ok(())
    }

    /// Sees which slots ended, and starts their successors.
    pub(super) fn heed_slots(&mut self) -> Result<(), ServeError> {
        let mut over = Vec::new();
        let mut reloaded = Vec::new();
        let mut events = Vec::new();
        for (&number, slot) in &mut self.slots {
            match slot {
                SlotHandle::Thread(thread) => {
                    thread.look_at_cancelled(&self.crew.label(number));
                    reloaded.extend(thread.take_reloaded().map(|is_done| (number, is_done)));
                    if let Some(why) = thread.ended() {
                        over.push((number, why));
                    }
                }
                SlotHandle::Process(process) => {
                    process.step(&mut events);
                    for event in events.drain(..) {
                        match event {
                            ProcessEvent::Recalled(recalled) => {
                                self.control.send_recalled(&[recalled])?;
                            }
                            ProcessEvent::Lost(lost) => {
                                self.control.send_lost(&lost)?;
                                // Its successor loads the files as they are.
                                reloaded.push((number, true));
                            }
                            ProcessEvent::Reloaded(is_done) => reloaded.push((number, is_done)),
                            ProcessEvent::Over => over.push((number, None)),
                        }
                    }
                    process.bury();
                }
            }
        }
        let now = Instant::now();
        for (number, why) in over {
            self.slots.remove(&number);
            self.nested.forget(number);
            reloaded.push((number, true));
            if let Some(why) = why {
                let backoff = self.backoffs.entry(number).or_default();
                let wait = backoff.crashed(now, now).wait;
                log::error!("slot={}: it ended: {why}", self.crew.label(number));
                self.fallen.insert(number, now + wait);
            }
        }
        self.open_waiting_nested()?;
        for (number, is_done) in reloaded {
            self.slot_reloaded(number, is_done)?;
        }
        let due: Vec<u32> = self
            .fallen
            .iter()
            .filter(|&(_, &at)| at <= now)
            .map(|(&number, _)| number)
            .collect();
        for number in due {
            self.fallen.remove(&number);
            if self.leaving == Leaving::No && number <= self.control.registration().slots {
                self.start_slot(number, None)?;
            }
        }
        Ok(())
    }
}
