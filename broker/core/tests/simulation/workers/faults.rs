//! What breaks: children, links, processes, hosts that stand still, offers that change.

use crate::world::{Happening, World};
use muster_core::{EndReason, Ending, Event, SlotId, WorkerId};
use std::collections::VecDeque;

impl World {
    /// A slot's child dies by itself: behind a living link, or with it.
    pub(super) fn child_dies(&mut self, id: SlotId) {
        let at = self.slots[id.0 as usize].worker;
        if self.workers[at].is_lane {
            self.crash(at);
            return;
        }
        if !self.workers[at].has_processes {
            self.kill(id, EndReason::ChildEnded);
            return;
        }
        let slot = &self.slots[id.0 as usize];
        let (registration, number) = (slot.registration, slot.number);
        self.cut(id);
        let gone = self.chance.between(50, 5_000);
        self.later(gone, Happening::SlotGone(id));
        if self.chance.permille(700) {
            let word = self.chance.between(50, 20_000);
            self.later(word, Happening::Obituary(registration, number));
        }
        let successor = self.new_slot(at, registration, number);
        self.workers[at].slots[number as usize - 1] = successor;
    }

    pub fn tell_obituary(&mut self, worker: WorkerId, number: u32) {
        let ending = Ending {
            reason: EndReason::ChildEnded,
            signal: Some(11),
            ..Ending::default()
        };
        self.tell(Event::Obituary {
            worker,
            number,
            ending,
        });
    }

    /// A slot's link is dead on the worker's side.
    pub(super) fn cut(&mut self, id: SlotId) {
        if self.slots[id.0 as usize].is_cut {
            return;
        }
        self.stop(id);
        let slot = &mut self.slots[id.0 as usize];
        slot.is_cut = true;
        slot.queue = VecDeque::new();
        slot.unsent = Vec::new();
    }

    /// A slot runs nothing any more; books its time.
    pub(super) fn stop(&mut self, id: SlotId) {
        let slot = &mut self.slots[id.0 as usize];
        if slot.running.take().is_some() && slot.joined <= self.now {
            self.busy_us += self.now - slot.since;
        }
        slot.run += 1;
        if !slot.is_child_down {
            self.up_us += self.now.saturating_sub(slot.joined);
        }
    }

    /// A worker's process dies with all its links.
    pub(super) fn crash(&mut self, at: usize) {
        let Some(registration) = self.workers[at].registration.take() else {
            return;
        };
        for slot in self.workers[at].slots.clone() {
            self.cut(slot);
        }
        let is_lane = self.workers[at].is_lane;
        // Some ends are seen at once; the heartbeat finds the others.
        if is_lane || self.chance.permille(800) {
            let seen = self.chance.between(50, 3_000);
            let reason = EndReason::Disconnected;
            self.later(seen, Happening::WorkerGone(registration, reason));
        }
        let restart = self.chance.between(20_000, 300_000);
        self.later(restart, Happening::Start(at));
    }

    pub fn worker_wakes_up(&mut self, at: usize, id: WorkerId) {
        if self.workers[at].registration != Some(id) {
            return;
        }
        for slot in self.workers[at].slots.clone() {
            self.go_on(slot);
        }
        if self.workers[at].is_forgotten {
            self.come_back(at);
        }
    }

    /// Something breaks, somewhere.
    pub fn fault(&mut self) {
        if self.is_ending {
            return;
        }
        let pause = self.chance.between(200, 16_000);
        self.later(pause, Happening::Fault);
        self.faults += 1;
        if self.chance.permille(150) {
            let client = self.chance.between(1, self.clients.len() as u64 - 1);
            self.later(0, Happening::Leaves(client as usize));
            return;
        }
        let at = self.chance.below(self.workers.len() as u64) as usize;
        let worker = &self.workers[at];
        let Some(id) = worker.registration else {
            return;
        };
        let slot = worker.slots[self.chance.below(worker.slots.len() as u64) as usize];
        match self.chance.below(20) {
            0..8 => {
                let state = &self.slots[slot.0 as usize];
                if !state.is_cut && !state.is_child_down {
                    self.child_dies(slot);
                }
            }
            8..11 => self.crash(at),
            11..13 if !worker.is_lane => {
                let long = if self.chance.permille(100) {
                    4_500_000
                } else {
                    300_000
                };
                let until = self.now + self.chance.between(20_000, long);
                self.workers[at].stalled_until = until;
                self.at(until, Happening::WakesUp(at, id));
            }
            13..15 if !worker.is_lane && self.is_registered(id) => {
                self.workers[at].is_draining = true;
                self.tell(Event::WorkerDraining { worker: id });
                let leaves = self.chance.between(30_000, 90_000);
                self.later(leaves, Happening::WorkerGone(id, EndReason::Goodbye));
                self.workers[at].registration = None;
                for slot in self.workers[at].slots.clone() {
                    let state = &self.slots[slot.0 as usize];
                    self.up_us += self.now.saturating_sub(state.joined);
                    self.slots[slot.0 as usize].joined = u64::MAX;
                }
                self.later(leaves + 10_000, Happening::Start(at));
            }
            15..18 if !worker.is_lane => {
                self.workers[at].offer = self.chance.below(3) as usize;
                self.worker_registers(at, id);
            }
            _ => {
                // The link breaks though the child lives; it joins again.
                if !worker.is_lane && !self.slots[slot.0 as usize].is_cut {
                    let number = self.slots[slot.0 as usize].number;
                    self.cut(slot);
                    self.later(100, Happening::SlotGone(slot));
                    let successor = self.new_slot(at, id, number);
                    self.workers[at].slots[number as usize - 1] = successor;
                }
            }
        }
    }
}
