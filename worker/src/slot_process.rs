//! A slot in a process of its own, as its supervisor sees it.
//!
//! The data link is the slot's own; orders and reports go over pipes. How the process ends is seen
//! here and told on the control link, since nobody else can know.

mod running;

use crate::backoff::{Backoff, Rest};
use crate::memory::KillCount;
use crate::slot::{LinkOrder, Phase};
use crate::slot_orders::{Order, SlotProgram};
use muster_proto::socket::PollItem;
use muster_proto::worker::{Recalled, SlotCall, SlotLost};
use running::Running;
use std::io;
use std::time::{Duration, Instant};

/// How long a cancelled function may take to notice before its process is ended.
pub(crate) const CANCEL_GRACE: Duration = Duration::from_secs(1);

/// What happened to a slot process.
#[derive(Debug)]
pub(crate) enum ProcessEvent {
    /// A recall is answered.
    Recalled(Recalled),
    /// The process ended, and its successor starts later.
    Lost(SlotLost),
    /// Whether a fresh Python child serves, as ordered.
    Reloaded(bool),
    /// The process ended as ordered.
    Over,
}

/// The process of one slot and its successors.
pub(crate) struct SlotProcess {
    program: SlotProgram,
    number: u32,
    label: String,
    state: State,
    /// The process before, until it is buried.
    remains: Option<Box<Running>>,
    backoff: Backoff,
    kills: KillCount,
    /// The latest link order: a successor gets it, too.
    link: Option<LinkOrder>,
    ending: Option<Phase>,
}

enum State {
    Up(Box<Running>),
    Down { until: Instant },
}

impl SlotProcess {
    /// Starts the process.
    pub fn start(program: &SlotProgram, number: u32, label: String) -> io::Result<Self> {
        let mut process = SlotProcess {
            program: program.clone(),
            number,
            label,
            state: State::Down {
                until: Instant::now(),
            },
            remains: None,
            backoff: Backoff::default(),
            kills: KillCount::new(),
            link: None,
            ending: None,
        };
        process.revive()?;
        Ok(process)
    }

    fn revive(&mut self) -> io::Result<()> {
        let mut running = Running::start(&self.label, self.program.rules.memory_bytes_max)?;
        let program = Box::new(self.program.clone());
        running.order(&Order::Start {
            number: self.number,
            program,
        });
        if let Some(link) = &self.link {
            running.order(&Order::Link(link.clone()));
        }
        self.state = State::Up(Box::new(running));
        Ok(())
    }

    fn running(&mut self) -> Option<&mut Running> {
        match &mut self.state {
            State::Up(running) => Some(running),
            State::Down { .. } => None,
        }
    }

    /// Has it join a broker.
    pub fn order_link(&mut self, link: LinkOrder) {
        self.link = Some(link.clone());
        if let Some(running) = self.running() {
            running.order(&Order::Link(link));
        }
    }

    /// Has it wait for the next link order before it joins again.
    pub fn suspend(&mut self) {
        self.link = None;
        if let Some(running) = self.running() {
            running.order(&Order::Suspend);
        }
    }

    /// Asks for a call back; the answer comes as [`ProcessEvent::Recalled`].
    pub fn recall(&mut self, call: SlotCall) {
        if let Some(running) = self.running() {
            running.recall(call);
        }
    }

    /// Cancels a call.
    pub fn cancel(&mut self, seq: u32) {
        if let Some(running) = self.running() {
            running.cancel(seq);
        }
    }

    /// Has it take a fresh Python child; whether it will say how that went. A process that is yet
    /// to start loads the files as they are anyway, and starts at once.
    pub fn reload(&mut self, program: &SlotProgram) -> bool {
        self.program = program.clone();
        if let State::Down { until } = &mut self.state {
            *until = Instant::now();
            self.backoff.forgive();
        }
        let Some(running) = self.running() else {
            return false;
        };
        running.order(&Order::Reload(Box::new(program.clone())));
        true
    }

    /// Has it end, for good.
    pub fn order_end(&mut self, phase: Phase) {
        self.ending = self.ending.max(Some(phase));
        let Some(running) = self.running() else {
            return;
        };
        match phase {
            Phase::Serve => {}
            Phase::Drain => running.order(&Order::Drain),
            Phase::Stop => {
                running.child.kill();
            }
        }
    }

    /// When something is to be done: a successor is due, or a cancelled call must have ended.
    pub fn due(&self) -> Option<Instant> {
        match &self.state {
            State::Up(running) => running.due(),
            State::Down { until } => Some(*until),
        }
    }

    /// Everything that can happen to the process.
    pub fn poll_items(&self) -> impl Iterator<Item = PollItem<'_>> {
        let running = match &self.state {
            State::Up(running) => Some(running),
            State::Down { .. } => None,
        };
        running.into_iter().flat_map(|running| running.poll_items())
    }

    /// Looks at what happened, and starts a successor that is due.
    pub fn step(&mut self, events: &mut Vec<ProcessEvent>) {
        let (number, label) = (self.number, &self.label);
        let running = match &mut self.state {
            State::Up(running) => running,
            State::Down { .. } if self.ending.is_some() => {
                events.push(ProcessEvent::Over);
                return;
            }
            State::Down { until } if *until > Instant::now() => return,
            State::Down { .. } => {
                if let Err(error) = self.revive() {
                    let now = Instant::now();
                    let wait = self.backoff.crashed(now, now).wait;
                    log::error!("slot={}: cannot start its process: {error}", self.label);
                    self.state = State::Down { until: now + wait };
                }
                return;
            }
        };
        running.write();
        running.end_if_stuck();
        running.end_if_large(label);
        // Looked at before the pipes: what it wrote before its end is still read.
        let ended = running.child.try_wait();
        running.read_reports(label, events);
        running.read_output();
        let Some(ended) = ended else {
            self.kills.pass();
            return;
        };
        let (pid, now) = (running.child.pid(), Instant::now());
        if self.ending.is_some() {
            running.bury();
            events.push(ProcessEvent::Over);
            return;
        }
        if running.has_answered {
            self.backoff.answered();
        }
        let is_on_purpose = running.is_stuck;
        let wait = if is_on_purpose {
            log::warn!("slot={label} pid={pid}: a cancelled call did not end, it is replaced");
            Duration::ZERO
        } else {
            let Rest { wait, is_loud } = self.backoff.crashed(running.started, now);
            let wait_ms = wait.as_millis();
            log::warn!("slot={label} pid={pid}: the process ended ({ended}); next in {wait_ms} ms");
            if is_loud {
                log::error!(
                    "slot={label}: five processes ended within a minute; this slot is given up but for \
                     a try every half minute"
                );
            }
            wait
        };
        let over_memory = running.over_memory.take();
        let is_killed = ended.signal == Some(libc::SIGKILL) && !is_on_purpose;
        let out_of_memory = over_memory.is_some() || (is_killed && self.kills.has_grown());
        events.push(ProcessEvent::Lost(SlotLost {
            stderr_tail: running.output.tail() + &over_memory.unwrap_or_default(),
            on_purpose: is_on_purpose,
            out_of_memory,
            backoff_ms: wait.as_millis() as u64,
            ..ended.lost(number, pid)
        }));
        let down = State::Down { until: now + wait };
        if let State::Up(running) = std::mem::replace(&mut self.state, down) {
            self.remains = Some(running);
        }
    }

    /// Ends what the process that ended had started. That takes a look at every process of the
    /// machine, milliseconds, so its end is told first.
    pub fn bury(&mut self) {
        if let Some(mut running) = self.remains.take() {
            running.bury();
        }
    }
}
