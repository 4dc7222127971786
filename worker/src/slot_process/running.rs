//! One process of a slot, with its pipes and what it was asked.

use super::{CANCEL_GRACE, ProcessEvent};
use crate::child::{Child, Output, own_program, set_nonblocking};
use crate::log_file;
use crate::memory::MemoryWatch;
use crate::slot_orders::{Order, Report};
use muster_proto::socket::{Interest, PollItem};
use muster_proto::worker::{Recalled, SlotCall};
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Instant;

/// The process that serves now.
pub(super) struct Running {
    pub child: Child,
    pub started: Instant,
    orders: Option<OwnedFd>,
    unwritten: VecDeque<u8>,
    reports: Option<OwnedFd>,
    report_line: Vec<u8>,
    stderr: Option<OwnedFd>,
    pub output: Output,
    /// Recalls that are not answered yet.
    recalls: Vec<SlotCall>,
    /// Cancelled calls of which it has not said that they ended, and when it must have.
    cancels: Vec<(u32, Instant)>,
    /// It was killed because a cancelled call did not end.
    pub is_stuck: bool,
    pub has_answered: bool,
    memory: MemoryWatch,
    /// Why it was killed, if it had too much memory.
    pub over_memory: Option<String>,
}

impl Running {
    pub fn start(label: &str, memory_bytes_max: Option<u64>) -> io::Result<Self> {
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

    /// Ends what it had started.
    pub fn bury(&mut self) {
        let pid = self.child.pid();
        self.child.end_descendants();
        // Its own children had marks of its making.
        crate::descendants::end_of_process(pid);
    }

    /// When it is to be looked at: a cancelled call must have ended, or its memory is measured.
    pub fn due(&self) -> Option<Instant> {
        let cancel_due = self.cancels.first().map(|&(_, due)| due);
        [cancel_due, self.memory.due()].into_iter().flatten().min()
    }

    /// Everything that can happen to it.
    pub fn poll_items(&self) -> impl Iterator<Item = PollItem<'_>> {
        let read = |pipe| PollItem::fd(pipe, Interest::Read);
        let orders = self.orders.as_ref().filter(|_| !self.unwritten.is_empty());
        [
            Some(PollItem::fd(&self.child, Interest::Read)),
            self.reports.as_ref().map(read),
            self.stderr.as_ref().map(read),
            orders.map(|pipe| PollItem::fd(pipe, Interest::Write)),
        ]
        .into_iter()
        .flatten()
    }

    /// Asks for a call back.
    pub fn recall(&mut self, call: SlotCall) {
        self.recalls.push(call);
        self.order(&Order::Recall(call.seq));
    }

    /// Cancels a call, which has to end soon.
    pub fn cancel(&mut self, seq: u32) {
        self.cancels.push((seq, Instant::now() + CANCEL_GRACE));
        self.order(&Order::Cancel(seq));
    }

    pub fn order(&mut self, order: &Order) {
        let line = serde_json::to_vec(order).expect("orders have string keys only");
        self.unwritten.extend(line);
        self.unwritten.push_back(b'\n');
        self.write();
    }

    /// Writes orders, as far as the pipe has room.
    pub fn write(&mut self) {
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

    /// Reads what it reports.
    pub fn read_reports(&mut self, label: &str, events: &mut Vec<ProcessEvent>) {
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
    pub fn end_if_stuck(&mut self) {
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

    /// Ends the process when it has more memory than it may.
    pub fn end_if_large(&mut self, label: &str) {
        let pid = self.child.pid();
        if let Some(reason) = self.memory.look(pid, true) {
            log::warn!("slot={label} pid={pid}: {reason}");
            self.over_memory = Some(reason);
            self.child.kill();
        }
    }

    /// The process writes its log there, finished lines: they pass through as they are.
    pub fn read_output(&mut self) {
        if let Some(stderr) = &self.stderr
            && !self.output.read(stderr, log_file::pass)
        {
            self.stderr = None;
        }
    }
}
