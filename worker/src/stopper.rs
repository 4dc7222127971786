//! How a worker that serves is told to end, from any thread.

use crate::slot::Phase;
use muster_proto::socket::Wake;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Ends a worker that serves. Clones end the same one.
#[derive(Clone, Debug)]
pub struct Stopper {
    phase: Arc<AtomicU8>,
    wake: Wake,
}

impl Stopper {
    pub(crate) fn new() -> io::Result<Self> {
        let phase = Arc::new(AtomicU8::new(Phase::Serve as u8));
        Ok(Stopper {
            phase,
            wake: Wake::new()?,
        })
    }

    /// Takes no more calls, finishes what runs and leaves.
    pub fn drain(&self) {
        self.order(Phase::Drain);
    }

    /// Leaves at once.
    pub fn stop(&self) {
        self.order(Phase::Stop);
    }

    /// What a signal asks for: the first one drains, the second stops.
    pub fn signal(&self) {
        match self.phase() {
            Phase::Serve => self.drain(),
            Phase::Drain | Phase::Stop => self.stop(),
        }
    }

    fn order(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        self.wake.wake();
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Serve,
            1 => Phase::Drain,
            _ => Phase::Stop,
        }
    }

    pub(crate) fn wake(&self) -> &Wake {
        &self.wake
    }
}
