//! Keeps one slot's Python child alive: starts it, and its successor when it ends.

use super::{Python, Source, StartError};
use crate::backoff::Backoff;
use crate::call_error::Origin;
use crate::child::Ended;
use muster_proto::socket::Wake;
use muster_proto::worker::SlotLost;
use std::time::{Duration, Instant};

/// The child of one slot and its successors.
pub(crate) struct Keeper {
    source: Source,
    /// The slot's number and name.
    slot: u32,
    label: String,
    state: State,
    backoff: Backoff,
}

enum State {
    /// It serves.
    Up {
        python: Box<Python>,
        started: Instant,
    },
    /// It ended; its successor starts then.
    Down { until: Instant },
}

impl Keeper {
    /// `python`: a child that has loaded its modules already.
    pub fn new(source: Source, slot: u32, label: String, python: Option<Python>) -> Self {
        let now = Instant::now();
        let state = match python {
            Some(python) => State::Up {
                python: Box::new(python),
                started: now,
            },
            None => State::Down { until: now },
        };
        Keeper {
            source,
            slot,
            label,
            state,
            backoff: Backoff::default(),
        }
    }

    /// The child, while it serves.
    pub fn python(&mut self) -> Option<&mut Python> {
        match &mut self.state {
            State::Up { python, .. } => Some(python),
            State::Down { .. } => None,
        }
    }

    /// The same, to be looked at.
    pub fn python_ref(&self) -> Option<&Python> {
        match &self.state {
            State::Up { python, .. } => Some(python),
            State::Down { .. } => None,
        }
    }

    /// The process that runs the calls; 0 while there is none.
    pub fn pid(&self) -> u32 {
        self.python_ref().map_or(0, Python::pid)
    }

    /// When the successor is due; `None` while the child serves.
    pub fn due(&self) -> Option<Instant> {
        match self.state {
            State::Up { .. } => None,
            State::Down { until } => Some(until),
        }
    }

    /// Starts the successor if it is due and waits until it has loaded its modules. True when it
    /// came up. `is_interrupted` is asked whenever `wake` is woken.
    pub fn revive(
        &mut self,
        origin: &Origin,
        wake: &Wake,
        is_interrupted: impl FnMut() -> bool,
    ) -> bool {
        let started = Instant::now();
        if self.due().is_none_or(|due| due > started) {
            return false;
        }
        let label = &self.label;
        let result = Python::start(&self.source, label, &origin.worker, &origin.host)
            .and_then(|mut python| Ok((python.wait_loaded(wake, is_interrupted)?, python)));
        match result {
            Ok((Some(hello), python)) => {
                let (pid, version) = (python.pid(), &hello.python);
                log::debug!("slot={label} pid={pid}: Python {version} is ready");
                self.state = State::Up {
                    python: Box::new(python),
                    started,
                };
                true
            }
            Ok((None, _)) => false,
            Err(error) => {
                if let StartError::Load(failure) = &error
                    && !failure.traceback.is_empty()
                {
                    log::debug!("slot={label}: {}", failure.traceback);
                }
                let wait = self.rest(started);
                let (label, wait_ms) = (&self.label, wait.as_millis());
                log::warn!("slot={label}: {error}; next try in {wait_ms} ms");
                false
            }
        }
    }

    /// The child ended by itself, or what it wrote made no sense: says how it ended.
    pub fn lost(&mut self) -> SlotLost {
        let State::Up { python, started } = &mut self.state else {
            return SlotLost {
                slot: self.slot,
                ..SlotLost::default()
            };
        };
        let (pid, started) = (python.pid(), *started);
        let ended = python.end();
        let stderr_tail = python.stderr_tail();
        let wait = self.rest(started);
        log::warn!(
            "slot={} pid={pid}: the Python child ended ({ended}); next one in {} ms",
            self.label,
            wait.as_millis()
        );
        SlotLost {
            stderr_tail,
            out_of_memory: was_out_of_memory(ended),
            backoff_ms: wait.as_millis() as u64,
            ..ended.lost(self.slot, pid)
        }
    }

    /// Ends the child on purpose; its successor is due at once.
    pub fn replace(&mut self) -> SlotLost {
        let State::Up { python, .. } = &mut self.state else {
            return SlotLost {
                slot: self.slot,
                on_purpose: true,
                ..SlotLost::default()
            };
        };
        let pid = python.pid();
        let lost = SlotLost {
            on_purpose: true,
            ..python.kill().lost(self.slot, pid)
        };
        self.state = State::Down {
            until: Instant::now(),
        };
        lost
    }

    fn rest(&mut self, started: Instant) -> Duration {
        let now = Instant::now();
        let (wait, is_loud) = self.backoff.crashed(started, now);
        if is_loud {
            log::error!(
                "slot={}: five Python children ended within a minute",
                self.label
            );
        }
        self.state = State::Down { until: now + wait };
        wait
    }
}

/// Nobody but the kernel's memory killer, or someone at a keyboard, sends SIGKILL: the worker's own
/// kills are on purpose and do not come here. Whether the killer was at work is in the counter of
/// this process's memory group, which children share.
fn was_out_of_memory(ended: Ended) -> bool {
    ended.signal == Some(libc::SIGKILL) && crate::memory::kills_have_grown()
}
