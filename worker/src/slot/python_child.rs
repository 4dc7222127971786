//! The slot's Python child itself: lost, replaced, over its memory, or followed by a fresh one.

use super::estimate::Estimate;
use super::{ReloadOrder, Slot};
use crate::link::json_message;
use crate::python::{Keeper, Succession};
use muster_proto::socket::SocketError;
use muster_proto::worker::{Command, SlotLost, SlotReady};

impl Slot {
    /// Between any two looks at the child: whether it has too much memory, and whether its
    /// successor can take over.
    pub(super) fn tend_child(&mut self) -> Result<(), SocketError> {
        let Some(keeper) = &mut self.keeper else {
            return Ok(());
        };
        let is_running = !self.outstanding.is_empty();
        if let Some(lost) = keeper.look_at_memory(is_running) {
            return self.tell_lost(&lost);
        }
        match keeper.tend(&self.origin) {
            Succession::Loaded if !is_running => {
                keeper.take_over();
                self.end_reload(true);
                self.child_replaced()
            }
            Succession::Failed => {
                self.end_reload(false);
                Ok(())
            }
            Succession::Loaded | Succession::Loading | Succession::None => Ok(()),
        }
    }

    /// Has a fresh child load the files as they are now.
    pub(super) fn begin_reload(&mut self, order: ReloadOrder) {
        let is_begun = match &mut self.keeper {
            Some(keeper) => keeper.prepare(&self.origin),
            None => false,
        };
        self.reload = Some(order);
        if !is_begun {
            self.end_reload(false);
        }
    }

    fn end_reload(&mut self, is_done: bool) {
        let Some(ReloadOrder { registry, done }) = self.reload.take() else {
            return;
        };
        if is_done {
            // How long the new functions take is not known.
            self.estimates = vec![Estimate::default(); registry.len()];
            self.registry = registry;
        }
        done(is_done);
    }

    /// Whether the child has had its share of calls: it is given no more.
    pub(super) fn is_child_spent(&self) -> bool {
        self.keeper.as_ref().is_some_and(Keeper::is_spent)
    }

    /// Whether calls wait for the successor of a child that is given no more.
    pub(super) fn awaits_successor(&self) -> bool {
        let is_stopped = self.desk.is_stopped() || self.is_down || self.desk.has_news();
        self.is_child_spent() && !is_stopped && !self.inbox.is_empty() && self.joining.is_joined()
    }

    /// A fresh child serves. Nothing is lost with the one before, so calls at hand stay.
    fn child_replaced(&mut self) -> Result<(), SocketError> {
        if self.is_down {
            return self.tell_ready();
        }
        self.say_ready()
    }

    /// The child ended by itself: its calls are lost with it.
    pub(super) fn lose_child(&mut self) -> Result<(), SocketError> {
        match &mut self.keeper {
            Some(keeper) if !keeper.is_down() => {
                let lost = keeper.lost();
                self.tell_lost(&lost)
            }
            _ => Ok(()),
        }
    }

    /// Ends the child on purpose; its successor starts at once.
    pub(super) fn replace_child(&mut self, why: &str) -> Result<(), SocketError> {
        let Some(keeper) = &mut self.keeper else {
            return Ok(());
        };
        let pid = keeper.pid();
        let lost = keeper.replace();
        log::info!(
            "slot={} pid={pid}: call {why}, its Python child is replaced",
            self.label
        );
        self.tell_lost(&lost)
    }

    /// What ran the slot's calls is gone, and they are lost with it.
    pub(super) fn tell_lost(&mut self, lost: &SlotLost) -> Result<(), SocketError> {
        for call in self.outstanding.drain(..) {
            self.desk.gate.end(call.seq);
        }
        self.inbox.clear();
        self.is_down = true;
        self.say(Command::Lost, lost)
    }

    /// The successor is up. Calls that came meanwhile were others' before they came.
    pub(super) fn tell_ready(&mut self) -> Result<(), SocketError> {
        self.receive()?;
        self.inbox.clear();
        self.is_down = false;
        self.say_ready()
    }

    fn say_ready(&mut self) -> Result<(), SocketError> {
        let pid = self.keeper.as_ref().map_or(0, Keeper::pid);
        self.say(
            Command::Ready,
            &SlotReady {
                slot: self.number,
                pid,
            },
        )
    }

    /// Tells a broker that knows the slot; another one learns it from the join.
    fn say(&mut self, command: Command, body: &impl serde::Serialize) -> Result<(), SocketError> {
        match self.joining.socket() {
            Some(socket) if self.joining.has_asked() => {
                self.replies.send_after(json_message(command, body), socket)
            }
            _ => Ok(()),
        }
    }
}
