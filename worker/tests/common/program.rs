//! A worker as a process, and what a test asks the system about processes.

use super::{Broker, PATIENCE};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A `muster-worker` process; killed when dropped.
pub struct Program {
    pub child: Child,
    lines: Receiver<String>,
    pub log: Vec<String>,
}

impl Program {
    pub fn start(flags: &[&str]) -> Self {
        Self::start_with(flags, |_| {})
    }

    pub fn start_with(flags: &[&str], change: impl FnOnce(&mut std::process::Command)) -> Self {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_muster-worker"));
        command
            .args(flags)
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MUSTER_")) {
            command.env_remove(name);
        }
        command.env("MUSTER_LOG", "debug");
        // No settings of whoever runs the tests.
        command.env("XDG_CONFIG_HOME", "/nonexistent");
        // No logs in the home of whoever does.
        command.env_remove("XDG_STATE_HOME").env_remove("HOME");
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        Program {
            child,
            lines: read_lines(stderr),
            log: Vec::new(),
        }
    }

    /// Starts one that joins `broker`.
    pub fn join(broker: &Broker, flags: &[&str]) -> Self {
        let runtime_dir = broker.runtime_dir().to_str().unwrap().to_owned();
        let mut all = vec!["--runtime-dir", &runtime_dir, "--name", "w"];
        all.extend(flags);
        Self::start(&all)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        kill(self.pid(), signal);
    }

    /// Waits for a line of the log that holds `text`.
    pub fn await_line(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.log.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => panic!("no line with {text:?} in {:#?}", self.log),
            }
        }
    }

    /// Waits for the end, and for the rest of the log.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(5)) {
                    self.log.push(line);
                }
                return status;
            }
            while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(20)) {
                self.log.push(line);
            }
            assert!(
                Instant::now() < deadline,
                "it does not end: {:#?}",
                self.log
            );
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            self.log.extend(self.lines.try_iter());
            eprintln!("--- log of the worker ---\n{}", self.log.join("\n"));
        }
    }
}

fn read_lines(stderr: ChildStderr) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

pub fn kill(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Waits until `is_so`, without a broker.
pub fn until(what: &str, is_so: impl FnMut() -> bool) {
    muster_test_support::wait_until(what, PATIENCE, is_so);
}

/// The processes whose parent is `pid`, but for the guard of a worker.
pub fn children_of(pid: u32) -> Vec<u32> {
    let mut children = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        children.extend(
            text.split_whitespace()
                .filter_map(|pid| pid.parse::<u32>().ok()),
        );
    }
    let is_guard = |pid: u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"muster-worker\0guard\0")
    };
    children.retain(|&pid| !is_guard(pid));
    children
}
