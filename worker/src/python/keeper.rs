//! Keeps one slot's Python child alive: starts it, its successor when it ends, and one that takes
//! over between two calls when the child has run its share or is to be reloaded.

use super::{Python, Source, StartError};
use crate::backoff::Backoff;
use crate::call_error::Origin;
use crate::child::Ended;
use crate::memory::{KillCount, MemoryWatch};
use muster_proto::socket::Wake;
use muster_proto::worker::SlotLost;
use std::time::{Duration, Instant};

/// With `--recycle N` the successor starts to load when so much of N is left, so that it is ready
/// when it is its turn.
const PREPARED_SHARE: u32 = 10;

/// The child of one slot and its successors.
pub(crate) struct Keeper {
    source: Source,
    /// The slot's number and name.
    slot: u32,
    label: String,
    state: State,
    /// The child before, until it is buried.
    remains: Option<Box<Python>>,
    backoff: Backoff,
    memory: MemoryWatch,
    kills: KillCount,
    /// Calls, and items of chunks, that the child was given.
    given: u32,
    /// Loads its modules, to take over.
    successor: Option<Box<Successor>>,
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

struct Successor {
    python: Python,
    started: Instant,
    is_loaded: bool,
}

/// What became of a successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Succession {
    /// There is none.
    None,
    /// It loads its modules.
    Loading,
    /// It can take over.
    Loaded,
    /// It could not load them, which has been told. The child goes on.
    Failed,
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
            memory: MemoryWatch::new(source.rules.memory_bytes_max),
            kills: KillCount::new(),
            source,
            slot,
            label,
            state,
            remains: None,
            backoff: Backoff::default(),
            given: 0,
            successor: None,
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

    /// The successor, to be waited for.
    pub fn successor(&self) -> Option<&Python> {
        self.successor.as_ref().map(|successor| &successor.python)
    }

    /// The same, to be told what was seen of it.
    pub fn successor_mut(&mut self) -> Option<&mut Python> {
        self.successor
            .as_mut()
            .map(|successor| &mut successor.python)
    }

    /// The process that runs the calls; 0 while there is none.
    pub fn pid(&self) -> u32 {
        self.python_ref().map_or(0, Python::pid)
    }

    /// When something is to be done: the successor of a child that ended is due, or the child's
    /// memory is to be looked at.
    pub fn due(&self) -> Option<Instant> {
        match self.state {
            State::Up { .. } => self.memory.due(),
            // One loads its modules already.
            State::Down { .. } if self.successor.is_some() => None,
            State::Down { until } => Some(until),
        }
    }

    /// Whether there is no child.
    pub fn is_down(&self) -> bool {
        matches!(self.state, State::Down { .. })
    }

    /// The child is given a call, or so many items of a chunk.
    pub fn give(&mut self, items: u32) {
        self.memory.arm();
        self.kills.begin();
        self.given = self.given.saturating_add(items.max(1));
    }

    /// Whether the child has had its share of calls, and its successor is to take over.
    pub fn is_spent(&self) -> bool {
        self.source
            .recycle_calls
            .is_some_and(|share| self.given >= share)
    }

    /// Starts the successor when the child's share comes to its end, and hears what it says.
    pub fn tend(&mut self, origin: &Origin) -> Succession {
        let nearly = |share: u32| share - (share / PREPARED_SHARE).max(1);
        let is_time = self
            .source
            .recycle_calls
            .is_some_and(|share| self.given >= nearly(share));
        if is_time && self.successor.is_none() && !self.is_down() {
            self.prepare(origin);
        }
        let Some(successor) = &mut self.successor else {
            return Succession::None;
        };
        if successor.is_loaded {
            return Succession::Loaded;
        }
        match successor.python.loaded() {
            Ok(None) => Succession::Loading,
            Ok(Some(_)) => {
                successor.is_loaded = true;
                Succession::Loaded
            }
            Err(error) => {
                log::error!("slot={}: its child goes on: {error}", self.label);
                self.successor = None;
                // After another share it is tried again.
                self.given = 0;
                Succession::Failed
            }
        }
    }

    /// Starts a child that loads its modules while this one goes on; whether it could be started.
    pub fn prepare(&mut self, origin: &Origin) -> bool {
        let started = Instant::now();
        match Python::start(&self.source, &self.label, &origin.worker, &origin.host) {
            Ok(python) => {
                self.successor = Some(Box::new(Successor {
                    python,
                    started,
                    is_loaded: false,
                }));
                true
            }
            Err(error) => {
                log::error!("slot={}: its child goes on: {error}", self.label);
                self.given = 0;
                false
            }
        }
    }

    /// Puts a successor that has loaded its modules into the child's place. Only between calls.
    pub fn take_over(&mut self) {
        let Some(successor) = self.successor.take().filter(|next| next.is_loaded) else {
            return;
        };
        let next = State::Up {
            started: successor.started,
            python: Box::new(successor.python),
        };
        let (label, given) = (&self.label, self.given);
        log::debug!("slot={label}: its child is replaced after {given} calls");
        if let State::Up { python, .. } = self.up(next) {
            python.dismiss();
        }
        self.backoff.forgive();
    }

    /// Returns the state before.
    fn up(&mut self, state: State) -> State {
        self.given = 0;
        self.memory = MemoryWatch::new(self.source.rules.memory_bytes_max);
        std::mem::replace(&mut self.state, state)
    }

    /// Starts the successor of a child that ended, if it is due, and waits until it has loaded its
    /// modules. True when it came up. `is_interrupted` is asked whenever `wake` is woken. First of
    /// all the child that ended is buried: whoever waits for word of its end is told before.
    pub fn revive(
        &mut self,
        origin: &Origin,
        wake: &Wake,
        is_interrupted: impl FnMut() -> bool,
    ) -> bool {
        self.bury();
        let started = Instant::now();
        match self.state {
            State::Down { until } if until <= started && self.successor.is_none() => {}
            _ => return false,
        }
        let label = &self.label;
        let result = Python::start(&self.source, label, &origin.worker, &origin.host)
            .and_then(|mut python| Ok((python.wait_loaded(wake, is_interrupted)?, python)));
        match result {
            Ok((Some(hello), python)) => {
                let (pid, version) = (python.pid(), &hello.python);
                log::debug!("slot={label} pid={pid}: Python {version} is ready");
                self.up(State::Up {
                    python: Box::new(python),
                    started,
                });
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
        let State::Up { python, .. } = &mut self.state else {
            return SlotLost {
                slot: self.slot,
                ..SlotLost::default()
            };
        };
        let pid = python.pid();
        let ended = python.end();
        let stderr_tail = python.stderr_tail();
        // Nobody but the kernel's memory killer, or someone at a keyboard, sends SIGKILL: the worker's
        // own kills are on purpose and do not come here.
        let is_memory = ended.signal == Some(libc::SIGKILL) && self.kills.has_grown();
        self.mourn(pid, ended, stderr_tail, is_memory)
    }

    /// Looks whether the child has more memory than it may, and ends it then. `goes_on`: it runs
    /// a call.
    pub fn look_at_memory(&mut self, goes_on: bool) -> Option<SlotLost> {
        let State::Up { python, .. } = &mut self.state else {
            return None;
        };
        let pid = python.pid();
        let reason = self.memory.look(pid, goes_on)?;
        let ended = python.kill();
        let mut stderr_tail = python.stderr_tail();
        if !stderr_tail.is_empty() && !stderr_tail.ends_with('\n') {
            stderr_tail.push('\n');
        }
        stderr_tail.push_str(&reason);
        log::warn!("slot={} pid={pid}: {reason}", self.label);
        Some(self.mourn(pid, ended, stderr_tail, true))
    }

    fn mourn(&mut self, pid: u32, ended: Ended, stderr_tail: String, is_memory: bool) -> SlotLost {
        let started = match self.state {
            State::Up { started, .. } => started,
            State::Down { .. } => Instant::now(),
        };
        let wait = self.rest(started);
        log::warn!(
            "slot={} pid={pid}: the Python child ended ({ended}); next one in {} ms",
            self.label,
            wait.as_millis()
        );
        SlotLost {
            stderr_tail,
            out_of_memory: is_memory,
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
        self.fall(Instant::now());
        lost
    }

    /// The child answered a call: it works, whatever crashed before.
    pub fn answered(&mut self) {
        self.backoff.answered();
    }

    /// There is no child until then.
    fn fall(&mut self, until: Instant) {
        if let State::Up { python, .. } = std::mem::replace(&mut self.state, State::Down { until })
        {
            self.bury();
            self.remains = Some(python);
        }
    }

    fn bury(&mut self) {
        if let Some(python) = self.remains.take() {
            python.bury();
        }
    }

    fn rest(&mut self, started: Instant) -> Duration {
        let now = Instant::now();
        let rest = self.backoff.crashed(started, now);
        if rest.is_loud {
            log::error!(
                "slot={}: five Python children ended within a minute; this slot is given up but for a \
                 try every half minute (`muster reload` tries at once)",
                self.label
            );
        }
        self.fall(now + rest.wait);
        rest.wait
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.bury();
    }
}
