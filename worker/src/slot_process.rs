//! A slot in a process of its own, as its supervisor sees it.
//!
//! The data link is the slot's own; orders and reports go over pipes. How the process ends is seen
//! here and told on the control link, since nobody else can know.

use crate::backoff::{Backoff, Rest};
use crate::child::{Child, Output, own_program, set_nonblocking};
use crate::log_file;
use crate::memory::{KillCount, MemoryWatch};
use crate::slot::{LinkOrder, Phase};
use crate::slot_orders::{Order, Report, SlotProgram};
use muster_proto::socket::{Interest, PollItem};
use muster_proto::worker::{Recalled, SlotCall, SlotLost};
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
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

struct Running {
    child: Child,
    started: Instant,
    orders: Option<OwnedFd>,
    unwritten: VecDeque<u8>,
    reports: Option<OwnedFd>,
    report_line: Vec<u8>,
    stderr: Option<OwnedFd>,
    output: Output,
    /// Recalls that are not answered yet.
    recalls: Vec<SlotCall>,
    /// Cancelled calls of which it has not said that they ended, and when it must have.
    cancels: Vec<(u32, Instant)>,
    /// It was killed because a cancelled call did not end.
    is_stuck: bool,
    has_answered: bool,
    memory: MemoryWatch,
    /// Why it was killed, if it had too much memory.
    over_memory: Option<String>,
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
            running.recalls.push(call);
            running.order(&Order::Recall(call.seq));
        }
    }

    /// Cancels a call.
    pub fn cancel(&mut self, seq: u32) {
        if let Some(running) = self.running() {
            running.cancels.push((seq, Instant::now() + CANCEL_GRACE));
            running.order(&Order::Cancel(seq));
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
            State::Up(running) => {
                let cancel_due = running.cancels.first().map(|&(_, due)| due);
                [cancel_due, running.memory.due()]
                    .into_iter()
                    .flatten()
                    .min()
            }
            State::Down { until } => Some(*until),
        }
    }

    /// Everything that can happen to the process.
    pub fn poll_items(&self) -> impl Iterator<Item = PollItem<'_>> {
        let running = match &self.state {
            State::Up(running) => Some(running),
            State::Down { .. } => None,
        };
        running.into_iter().flat_map(|running| {
            let read = |pipe| PollItem::fd(pipe, Interest::Read);
            let orders = running
                .orders
                .as_ref()
                .filter(|_| !running.unwritten.is_empty());
            [
                Some(PollItem::fd(&running.child, Interest::Read)),
                running.reports.as_ref().map(read),
                running.stderr.as_ref().map(read),
                orders.map(|pipe| PollItem::fd(pipe, Interest::Write)),
            ]
            .into_iter()
            .flatten()
        })
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

impl Running {
    fn start(label: &str, memory_bytes_max: Option<u64>) -> io::Result<Self> {
        let mut command = Command::new(own_program());
        command.arg0("muster-worker").args(["slot", label]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = Child::spawn(&mut command)?;
        let (orders, reports, stderr) = child.pipes();
        for pipe in [&orders, &reports, &stderr].into_iter().flatten() {
            set_nonblocking(pipe)?;
        }
        Ok(Running {
            child,
            started: Instant::now(),
            orders,
            unwritten: VecDeque::new(),
            reports,
            report_line: Vec::new(),
            stderr,
            output: Output::default(),
            recalls: Vec::new(),
            cancels: Vec::new(),
            is_stuck: false,
            has_answered: false,
            memory: MemoryWatch::always(memory_bytes_max),
            over_memory: None,
        })
    }

    fn bury(&mut self) {
        let pid = self.child.pid();
        self.child.end_descendants();
        // Its own children had marks of its making.
        crate::descendants::end_of_process(pid);
    }

    fn order(&mut self, order: &Order) {
        let line = serde_json::to_vec(order).expect("orders have string keys only");
        self.unwritten.extend(line);
        self.unwritten.push_back(b'\n');
        self.write();
    }

    fn write(&mut self) {
        let Some(orders) = &self.orders else { return };
        while !self.unwritten.is_empty() {
            match rustix::io::write(orders, self.unwritten.as_slices().0) {
                Ok(count) => drop(self.unwritten.drain(..count)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => {
                    // It is ending, which its descriptor tells.
                    self.unwritten.clear();
                    self.orders = None;
                    return;
                }
            }
        }
    }

    fn read_reports(&mut self, label: &str, events: &mut Vec<ProcessEvent>) {
        let mut buffer = [0; 4096];
        while let Some(reports) = &self.reports {
            match rustix::io::read(reports, &mut buffer) {
                Ok(0) => self.reports = None,
                Ok(count) => self.report_line.extend_from_slice(&buffer[..count]),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break,
            }
        }
        while let Some(end) = self.report_line.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.report_line.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(report) => self.heed(report, events),
                Err(error) => log::error!("slot={label}: an unreadable report: {error}"),
            }
        }
    }

    fn heed(&mut self, report: Report, events: &mut Vec<ProcessEvent>) {
        match report {
            Report::Recalled(seq, given_back) => {
                // Answers come in the order of the questions.
                if let Some(at) = self.recalls.iter().position(|call| call.seq == seq) {
                    let call = self.recalls.remove(at);
                    events.push(ProcessEvent::Recalled(Recalled { call, given_back }));
                }
            }
            Report::Reloaded(is_done) => events.push(ProcessEvent::Reloaded(is_done)),
            Report::Ended(seq) => self.cancels.retain(|&(cancelled, _)| cancelled != seq),
            Report::Answered => self.has_answered = true,
        }
    }

    /// Ends the process when a cancelled call has not ended in time: its function looks at no flag,
    /// or the process is stopped.
    fn end_if_stuck(&mut self) {
        if self
            .cancels
            .first()
            .is_some_and(|&(_, due)| due <= Instant::now())
        {
            self.cancels.clear();
            self.is_stuck = true;
            self.child.kill();
        }
    }

    fn end_if_large(&mut self, label: &str) {
        let pid = self.child.pid();
        if let Some(reason) = self.memory.look(pid, true) {
            log::warn!("slot={label} pid={pid}: {reason}");
            self.over_memory = Some(reason);
            self.child.kill();
        }
    }

    /// The process writes its log there, finished lines: they pass through as they are.
    fn read_output(&mut self) {
        if let Some(stderr) = &self.stderr
            && !self.output.read(stderr, log_file::pass)
        {
            self.stderr = None;
        }
    }
}
