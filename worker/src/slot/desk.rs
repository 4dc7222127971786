//! What the supervisor wants of a slot: written by the supervisor's thread at any time, read by
//! the slot's between two calls.

use super::gate::Gate;
use crate::registry::Registry;
use muster_proto::connection::Curve;
use muster_proto::socket::Wake;
use muster_proto::worker::Nest;
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Which broker to join, and as whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LinkOrder {
    /// The broker's endpoint for managed workers.
    pub endpoint: String,
    /// Keys, when it asks for them.
    pub curve: Option<Curve>,
    /// The worker's token, which the broker knows by now.
    pub token: String,
    /// The name the broker knows the worker by.
    pub worker: String,
    /// Another one than before: the slot joins anew.
    pub generation: u64,
    /// Serve the calls inside this one alone.
    pub nest: Option<Nest>,
}

/// A fresh child, and what the slot offers once it serves.
pub(crate) struct ReloadOrder {
    pub registry: Arc<Registry>,
    /// Told once whether the fresh child serves.
    pub done: Box<dyn FnOnce(bool) + Send>,
}

impl std::fmt::Debug for ReloadOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReloadOrder({} methods)", self.registry.len())
    }
}

/// How long a slot goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// For ever.
    Serve = 0,
    /// Until it holds no call.
    Drain = 1,
    /// Not even that long.
    Stop = 2,
}

/// The desk of one slot.
#[derive(Debug)]
pub(crate) struct Desk {
    /// Which calls may start.
    pub gate: Gate,
    /// Ends the slot's waiting.
    pub wake: Wake,
    phase: AtomicU8,
    has_news: AtomicBool,
    is_suspended: AtomicBool,
    link: Mutex<Option<LinkOrder>>,
    reload: Mutex<Option<ReloadOrder>>,
    /// Tells whoever wants to know of the slot's first answer.
    first_answer: OnceLock<fn()>,
}

impl Desk {
    /// An empty desk.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn new() -> io::Result<Self> {
        Ok(Desk {
            gate: Gate::default(),
            wake: Wake::new()?,
            phase: AtomicU8::new(Phase::Serve as u8),
            has_news: AtomicBool::new(false),
            is_suspended: AtomicBool::new(false),
            link: Mutex::new(None),
            reload: Mutex::new(None),
            first_answer: OnceLock::new(),
        })
    }

    /// The worker has lost its broker. A slot that is joined goes on; one whose connection comes
    /// back waits for the next order, so that it does not join a broker that knows nothing of the
    /// worker yet, and then once more.
    pub fn suspend(&self) {
        self.is_suspended.store(true, Ordering::Release);
    }

    /// Whether to wait for an order before joining.
    pub fn is_suspended(&self) -> bool {
        self.is_suspended.load(Ordering::Acquire)
    }

    /// Puts down a new link order.
    pub fn order_link(&self, order: LinkOrder) {
        self.is_suspended.store(false, Ordering::Release);
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = Some(order);
        self.tell();
    }

    /// Has the slot take a fresh child.
    pub fn order_reload(&self, order: ReloadOrder) {
        *self.reload.lock().unwrap_or_else(PoisonError::into_inner) = Some(order);
        self.tell();
    }

    /// Takes the order to reload, if there is one: after [`Self::take_news`].
    pub fn take_reload(&self) -> Option<ReloadOrder> {
        self.reload
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Has the slot's first answer told, before the slot runs.
    pub fn on_first_answer(&self, tell: fn()) {
        let _ = self.first_answer.set(tell);
    }

    /// The slot has answered its first call.
    pub fn answered(&self) {
        if let Some(tell) = self.first_answer.get() {
            tell();
        }
    }

    /// Has the slot end, now or when it is idle. There is no way back.
    pub fn order_end(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        if phase == Phase::Stop {
            // A function that looks at its flag ends early.
            self.gate.cancel.set();
        }
        self.tell();
    }

    fn tell(&self) {
        self.has_news.store(true, Ordering::Release);
        self.wake.wake();
    }

    /// How long to go on.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Serve,
            1 => Phase::Drain,
            _ => Phase::Stop,
        }
    }

    /// Whether to stop at once.
    pub fn is_stopped(&self) -> bool {
        self.phase() == Phase::Stop
    }

    /// Whether something was put down since it was last taken. Cheap: asked before each call.
    pub fn has_news(&self) -> bool {
        self.has_news.load(Ordering::Acquire)
    }

    /// Takes the link order, if there is a new one.
    pub fn take_news(&self) -> Option<LinkOrder> {
        self.has_news.store(false, Ordering::Release);
        self.link
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_order_counts_and_an_end_is_final() {
        let desk = Desk::new().unwrap();
        assert!(!desk.has_news());
        let order = |generation| LinkOrder {
            endpoint: "ipc://x".into(),
            curve: None,
            token: "t".into(),
            worker: "w".into(),
            generation,
            nest: None,
        };
        desk.order_link(order(1));
        desk.suspend();
        assert!(desk.is_suspended());
        desk.order_link(order(2));
        assert!(!desk.is_suspended());
        assert!(desk.has_news() && desk.wake.drain());
        assert_eq!(desk.take_news(), Some(order(2)));
        assert_eq!((desk.take_news(), desk.has_news()), (None, false));
        desk.order_end(Phase::Stop);
        desk.order_end(Phase::Drain);
        assert!(desk.is_stopped() && desk.gate.cancel.is_set());
    }
}
