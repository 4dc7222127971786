//! How links and workers end, as the socket sees it.

use super::{Peer, Workers};
use crate::CoreEvent;
use log::warn;
use muster_core::{EndReason, Event, SlotId, WorkerId};

impl Workers {
    pub(super) fn peer_gone(&mut self, routing: &[u8]) {
        match self.peers.remove(routing) {
            Some(Peer::Data(slot)) => self.drop_slot(slot, EndReason::Disconnected),
            Some(Peer::Control(worker)) => {
                if let Some(link) = self.workers.get_mut(&worker) {
                    link.control = None;
                }
                self.give_up_unlinked(worker);
            }
            None => {}
        }
    }

    /// With its last link a worker is gone; with one left its heartbeat decides.
    fn give_up_unlinked(&mut self, worker: WorkerId) {
        let Some(link) = self.workers.get(&worker) else {
            return;
        };
        if link.control.is_none() && link.slots.is_empty() {
            warn!("worker={}: gone", link.registration.name);
            self.forget(worker);
            self.events.push_back(Event::WorkerGone {
                worker,
                reason: EndReason::Disconnected,
            });
        }
    }

    pub(super) fn drop_slot(&mut self, slot: SlotId, reason: EndReason) {
        let Some(link) = self.slots.remove(&slot) else {
            return;
        };
        self.peers.remove(&link.routing);
        self.events.push_back(Event::SlotGone { slot, reason });
        if let Some(worker) = self.workers.get_mut(&link.worker) {
            worker.slots.retain(|&other| other != slot);
        }
        self.give_up_unlinked(link.worker);
    }

    /// Drops the link of a slot that does not behave.
    pub fn close_link(&mut self, slot: SlotId) {
        warn!(
            "slot={}: it sent forged answers, its link is closed",
            slot.0
        );
        self.drop_slot(slot, EndReason::Disconnected);
    }

    /// Drops a worker's links: what comes over them from now on is a stranger's.
    pub fn forget(&mut self, worker: WorkerId) {
        let Some(link) = self.workers.remove(&worker) else {
            return;
        };
        self.by_token.remove(link.registration.token.as_str());
        if let Some(control) = link.control {
            self.peers.remove(&control);
        }
        for slot in link.slots {
            if let Some(slot) = self.slots.remove(&slot) {
                self.peers.remove(&slot.routing);
            }
        }
    }

    /// Forgets the workers that came with a key, which is worth nothing from now on.
    pub fn revoke(&mut self, user: &str) -> Vec<CoreEvent> {
        self.revoked.insert(user.to_owned());
        let theirs = self.workers.iter().filter(|(_, link)| link.user == user);
        let mut ids: Vec<WorkerId> = theirs.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        let gone = ids.into_iter().map(|worker| {
            self.forget(worker);
            Event::WorkerGone {
                worker,
                reason: EndReason::Disconnected,
            }
        });
        gone.collect()
    }
}
