//! What goes to workers: calls, packed while a turn of the loop lasts, and commands.

use super::{Order, Workers};
use muster_core::{NestId, SlotId, WorkerId};
use muster_proto::id::DispatchId;
use muster_proto::socket::{Frame, SendOutcome};
use muster_proto::worker::{Command, Nest, SlotCall};
use serde::Serialize;

/// A slot's packed calls are sent before the turn ends when they come to this much.
const PACKED_BYTES_MAX: usize = 64 << 10;

impl Workers {
    /// Packs a call for a slot. It goes out with [`Self::flush`].
    ///
    /// Returns the slot when its link is gone.
    pub fn dispatch(&mut self, order: &Order<'_>) -> Result<(), SlotId> {
        let slot = self.slots.get_mut(&order.slot).ok_or(order.slot)?;
        if slot.packed.is_empty() {
            self.unsent.push(order.slot);
        }
        order.pack(&mut slot.packed, &mut slot.frames);
        if slot.packed.len() >= PACKED_BYTES_MAX || slot.frames.len() >= 32 {
            return self.flush_slot(order.slot);
        }
        Ok(())
    }

    /// Sends what is packed. Gives the slots whose links are gone.
    pub fn flush(&mut self) -> Vec<SlotId> {
        let mut gone = Vec::new();
        let mut unsent = std::mem::take(&mut self.unsent);
        for slot in unsent.drain(..) {
            if let Err(slot) = self.flush_slot(slot) {
                gone.push(slot);
            }
        }
        self.unsent = unsent;
        // What is recalled has been sent now, so the answer can't overtake it.
        for (worker, command, packed) in std::mem::take(&mut self.untold) {
            let control = self
                .workers
                .get(&worker)
                .and_then(|link| link.control.as_ref());
            if let Some(control) = control {
                self.tell(control, command, Some(packed.into()));
            }
        }
        gone
    }

    fn flush_slot(&mut self, id: SlotId) -> Result<(), SlotId> {
        let Some(slot) = self.slots.get_mut(&id) else {
            return Ok(());
        };
        if slot.packed.is_empty() {
            return Ok(());
        }
        let message = &mut self.message;
        message.clear();
        message.push(Frame::from(&slot.routing[..]));
        message.push(Frame::from(&Command::Calls.frame()));
        message.push(Frame::take(&mut slot.packed));
        message.append(&mut slot.frames);
        match self.socket.send_frames(message) {
            Ok(SendOutcome::Sent) => Ok(()),
            _ => {
                message.clear();
                Err(id)
            }
        }
    }

    /// Tells a worker to stop or give back a dispatch, together with others at [`Self::flush`].
    pub fn tell_of_call(&mut self, command: Command, slot: SlotId, seq: u32, dispatch: DispatchId) {
        let Some(link) = self.slots.get(&slot) else {
            return;
        };
        let call = SlotCall {
            slot: link.number,
            seq,
            dispatch,
        };
        // Few workers are told something in one turn.
        let told = self
            .untold
            .iter_mut()
            .find(|(worker, told, _)| (*worker, *told) == (link.worker, command));
        match told {
            Some((_, _, packed)) => call.pack(packed),
            None => {
                let mut packed = Vec::with_capacity(32);
                call.pack(&mut packed);
                self.untold.push((link.worker, command, packed));
            }
        }
    }

    /// Asks a worker for a slot for the calls inside another.
    pub fn open_slot(&mut self, worker: WorkerId, nest: NestId) {
        let text = serde_json::to_string(&Nest {
            call: nest.call.to_string(),
            attempt: nest.attempt,
        });
        if let Ok(text) = text {
            self.command(worker, Command::Open, &text);
        }
    }

    /// Has a worker close such a slot.
    pub fn close_slot(&mut self, slot: SlotId) {
        if let Some(link) = self.slots.get(&slot) {
            let (worker, number) = (link.worker, link.number);
            self.command(worker, Command::Close, &number.to_string());
        }
    }

    /// Sends a worker a control command with a text. `false`: it has no control link now.
    pub fn command(&self, worker: WorkerId, command: Command, text: &str) -> bool {
        let control = self
            .workers
            .get(&worker)
            .and_then(|worker| worker.control.as_ref());
        let Some(control) = control else { return false };
        self.tell(control, command, Some(text.into()))
    }

    pub(super) fn tell_json(&self, routing: &[u8], command: Command, body: &impl Serialize) {
        let body = serde_json::to_vec(body).expect("protocol messages have string keys only");
        self.tell(routing, command, Some(body.into()));
    }

    pub(super) fn tell(&self, routing: &[u8], command: Command, body: Option<Frame>) -> bool {
        let head = [Frame::from(routing), Frame::from(&command.frame())];
        matches!(
            self.socket.send(head.into_iter().chain(body)),
            Ok(SendOutcome::Sent)
        )
    }
}
