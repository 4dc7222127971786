//! A running slot, as its supervisor sees it: a thread of this process, or a process.

use crate::registry::Registry;
use crate::slot::{Cancel, Desk, LinkOrder, Phase, ReloadOrder};
use crate::slot_orders::SlotProgram;
use crate::slot_process::{CANCEL_GRACE, SlotProcess};
use muster_proto::socket::{SocketError, Wake};
use muster_proto::worker::SlotCall;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// A running slot, as its supervisor sees it.
pub(crate) enum SlotHandle {
    Thread(ThreadSlot),
    Process(Box<SlotProcess>),
}

/// A slot that is a thread of this process.
pub(crate) struct ThreadSlot {
    pub desk: Arc<Desk>,
    has_ended: Arc<AtomicBool>,
    /// Cancelled calls that ran when they were cancelled, and when they should have ended.
    cancels: Vec<(u32, Instant)>,
    /// How a reload went.
    reloaded: Arc<Mutex<Option<bool>>>,
    wake: Wake,
    thread: Option<JoinHandle<Result<(), SocketError>>>,
}

impl SlotHandle {
    pub fn order_link(&mut self, link: &LinkOrder) {
        match self {
            SlotHandle::Thread(slot) => slot.desk.order_link(link.clone()),
            SlotHandle::Process(slot) => slot.order_link(link.clone()),
        }
    }

    pub fn suspend(&mut self) {
        match self {
            SlotHandle::Thread(slot) => slot.desk.suspend(),
            SlotHandle::Process(slot) => slot.suspend(),
        }
    }

    /// Has it take a fresh Python child; whether it will say how that went.
    pub fn reload(&mut self, program: &SlotProgram, registry: &Arc<Registry>) -> bool {
        match self {
            SlotHandle::Thread(slot) => {
                slot.reload(Arc::clone(registry));
                true
            }
            SlotHandle::Process(slot) => slot.reload(program),
        }
    }

    pub fn order_end(&mut self, phase: Phase) {
        match self {
            SlotHandle::Thread(slot) => slot.order_end(phase),
            SlotHandle::Process(slot) => slot.order_end(phase),
        }
    }

    /// Gives a call back; `None`: the answer comes later.
    pub fn recall(&mut self, call: SlotCall) -> Option<bool> {
        match self {
            SlotHandle::Thread(slot) => Some(slot.desk.gate.recall(call.seq)),
            SlotHandle::Process(slot) => {
                slot.recall(call);
                None
            }
        }
    }

    pub fn cancel(&mut self, seq: u32) {
        match self {
            SlotHandle::Thread(slot) => slot.cancel(seq),
            SlotHandle::Process(slot) => slot.cancel(seq),
        }
    }

    pub fn due(&self) -> Option<Instant> {
        match self {
            SlotHandle::Thread(slot) => slot.due(),
            SlotHandle::Process(slot) => slot.due(),
        }
    }
}

/// Tells the supervisor that a slot's thread ends, by a panic, too.
struct EndSignal {
    has_ended: Arc<AtomicBool>,
    wake: Wake,
}

impl Drop for EndSignal {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::Release);
        self.wake.wake();
    }
}

impl ThreadSlot {
    /// Starts a slot's thread. `wake` is woken when it ends.
    pub fn start(
        label: String,
        desk: Arc<Desk>,
        wake: &Wake,
        run: impl FnOnce() -> Result<(), SocketError> + Send + 'static,
    ) -> io::Result<Self> {
        let has_ended = Arc::new(AtomicBool::new(false));
        let signal = EndSignal {
            has_ended: Arc::clone(&has_ended),
            wake: wake.clone(),
        };
        let thread = std::thread::Builder::new().name(label).spawn(move || {
            let _signal = signal;
            run()
        })?;
        Ok(ThreadSlot {
            desk,
            has_ended,
            cancels: Vec::new(),
            reloaded: Arc::default(),
            wake: wake.clone(),
            thread: Some(thread),
        })
    }

    /// How the thread ended, if it has: `Some(None)` as ordered, else why.
    pub fn ended(&mut self) -> Option<Option<String>> {
        // Not `is_finished`: that comes true a moment after the wake, and nobody would look again.
        if !self.has_ended.load(Ordering::Acquire) {
            return None;
        }
        let result = self.thread.take()?.join();
        Some(match result {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("a panic".to_owned()),
        })
    }

    /// Cancels a call: a function sees its flag, a child is replaced.
    pub fn cancel(&mut self, seq: u32) {
        if self.desk.gate.cancel(seq) == Cancel::Running {
            self.desk.wake.wake();
            self.cancels.push((seq, Instant::now() + CANCEL_GRACE));
        }
    }

    /// When to look at a cancelled call again.
    pub fn due(&self) -> Option<Instant> {
        self.cancels.first().map(|&(_, due)| due)
    }

    /// Tells of cancelled calls that go on: a thread can't be ended from outside.
    pub fn look_at_cancelled(&mut self, label: &str) {
        while self.due().is_some_and(|due| due <= Instant::now()) {
            let (seq, _) = self.cancels.remove(0);
            if self.desk.gate.is_running(seq) {
                log::warn!("slot={label}: stuck, a cancelled function does not end");
            }
        }
    }

    /// Has it take a fresh Python child.
    pub fn reload(&self, registry: Arc<Registry>) {
        let (reloaded, wake) = (Arc::clone(&self.reloaded), self.wake.clone());
        let done = move |is_done| {
            *reloaded.lock().unwrap_or_else(PoisonError::into_inner) = Some(is_done);
            wake.wake();
        };
        self.desk.order_reload(ReloadOrder {
            registry,
            done: Box::new(done),
        });
    }

    /// How a reload went that was not asked for before.
    pub fn take_reloaded(&self) -> Option<bool> {
        self.reloaded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Has the slot end.
    pub fn order_end(&self, phase: Phase) {
        self.desk.order_end(phase);
    }
}
