//! One program under way: fed, drained, watched, and ended with everything it started.

use crate::call_error::CallError;
use crate::child::{Child, Ended, Output, set_nonblocking};
use crate::child_rules::ChildRules;
use crate::memory::MemoryWatch;
use muster_proto::limits;
use muster_proto::socket::{Interest, PollItem, Wake, poll};
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

/// A started program.
pub(super) struct Process {
    child: Child,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    input: Vec<u8>,
    written: usize,
    memory: MemoryWatch,
    keeps_stderr: bool,
    stdout_bytes: Vec<u8>,
    stderr_bytes: Vec<u8>,
    output: Output,
}

/// What a program left.
pub(super) struct Finished {
    pub ended: Ended,
    pub stdout: Vec<u8>,
    /// All of it, when it was to be kept.
    pub stderr: Vec<u8>,
    /// The last of it.
    pub stderr_tail: String,
    /// Why the worker ended it, if it did.
    pub reason: Option<String>,
}

impl Process {
    /// Starts a program. `input`: what it reads; `None`: nothing. `keeps_stderr`: its standard
    /// error is part of the result; else it goes to the log.
    pub fn start(
        command: &mut Command,
        rules: &ChildRules,
        input: Option<Vec<u8>>,
        keeps_stderr: bool,
    ) -> io::Result<Self> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(match input {
            Some(_) => Stdio::piped(),
            None => Stdio::null(),
        });
        let mut child = Child::spawn(command)?;
        let (stdin, stdout, stderr) = child.pipes();
        for pipe in [&stdin, &stdout, &stderr].into_iter().flatten() {
            set_nonblocking(pipe)?;
        }
        let mut memory = MemoryWatch::new(rules.memory_bytes_max);
        memory.arm();
        Ok(Process {
            child,
            stdin,
            stdout,
            stderr,
            input: input.unwrap_or_default(),
            written: 0,
            memory,
            keeps_stderr,
            stdout_bytes: Vec::new(),
            stderr_bytes: Vec::new(),
            output: Output::default(),
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Feeds and drains it until it has ended. A process it left behind may still hold its output:
    /// that is not waited for, and ends with the group. `wake` is woken when `is_cancelled` may
    /// have come true.
    ///
    /// # Errors
    /// [`CallError`]: cancelled, or it wrote too much.
    pub fn finish(
        mut self,
        wake: &Wake,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Finished, CallError> {
        loop {
            if is_cancelled() {
                return Err(CallError::Cancelled);
            }
            let has_ended = self.child.try_wait();
            self.write_input();
            self.read_stderr();
            self.read_stdout();
            self.check_size()?;
            if let Some(ended) = has_ended {
                return Ok(self.finished(ended, None));
            }
            if let Some(reason) = self.memory.look(self.child.pid(), true) {
                let ended = self.child.kill();
                self.read_stderr();
                return Ok(self.finished(ended, Some(reason)));
            }
            self.wait(wake)
                .map_err(|error| CallError::failed("OSError", error.to_string()))?;
        }
    }

    fn finished(self, ended: Ended, reason: Option<String>) -> Finished {
        Finished {
            ended,
            stderr_tail: self.output.tail(),
            stdout: self.stdout_bytes,
            stderr: self.stderr_bytes,
            reason,
        }
    }

    fn wait(&self, wake: &Wake) -> Result<(), muster_proto::socket::SocketError> {
        let mut items = Vec::with_capacity(5);
        items.push(PollItem::fd(&self.child, Interest::Read));
        items.push(PollItem::fd(wake, Interest::Read));
        let input = self.stdin.iter();
        items.extend(input.map(|pipe| PollItem::fd(pipe, Interest::Write)));
        let outputs = self.stdout.iter().chain(&self.stderr);
        items.extend(outputs.map(|pipe| PollItem::fd(pipe, Interest::Read)));
        poll(&mut items, self.memory.timeout())?;
        wake.drain();
        Ok(())
    }

    fn write_input(&mut self) {
        let Some(stdin) = &self.stdin else { return };
        while self.written < self.input.len() {
            match rustix::io::write(stdin, &self.input[self.written..]) {
                Ok(count) => self.written += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                // It does not read on, which is its right: `head` does so.
                Err(_) => break,
            }
        }
        self.stdin = None;
    }

    fn read_stdout(&mut self) {
        if let Some(stdout) = &self.stdout
            && !read_into(stdout, &mut self.stdout_bytes)
        {
            self.stdout = None;
        }
    }

    fn read_stderr(&mut self) {
        let Some(stderr) = &self.stderr else { return };
        let goes_on = if self.keeps_stderr {
            read_into(stderr, &mut self.stderr_bytes)
        } else {
            let log = |line: &str| log::debug!("command output: {line}");
            self.output.read(stderr, log)
        };
        if !goes_on {
            self.stderr = None;
        }
    }

    fn check_size(&self) -> Result<(), CallError> {
        let size = self.stdout_bytes.len() + self.stderr_bytes.len();
        let max = limits::BODY_BYTES_MAX;
        if size > max {
            let what = "output_bytes";
            return Err(CallError::TooLarge { what, size, max });
        }
        Ok(())
    }
}

/// Reads what is there, up to a body's size beyond what there was; false at the end.
fn read_into(pipe: &OwnedFd, bytes: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 32 << 10];
    while bytes.len() <= limits::BODY_BYTES_MAX {
        match rustix::io::read(pipe, &mut buffer) {
            Ok(0) => return false,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return true,
            Err(_) => return false,
        }
    }
    true
}
