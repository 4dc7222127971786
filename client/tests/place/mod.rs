//! A cluster of its own for each test: real programs in a folder that is removed with them.

// Each test program uses a part of it; a place ends and reaps what it started.
#![allow(dead_code, clippy::zombie_processes)]

use rustix::process::{WaitOptions, waitpid};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

pub const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/examples/methods.py");
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The folder of the three programs, the other two built if need be.
pub fn programs() -> &'static Path {
    let muster = env!("CARGO_BIN_EXE_muster");
    for name in ["muster-broker", "muster-worker"] {
        muster_test_support::program(muster, name);
    }
    Path::new(muster).parent().unwrap()
}

/// A runtime directory and a home of its own; whatever lives there is ended with it.
pub struct Place {
    pub folder: tempfile::TempDir,
    /// Started here, by number.
    pub pids: Vec<u32>,
}

impl Place {
    pub fn new() -> Self {
        Place {
            folder: tempfile::tempdir().unwrap(),
            pids: Vec::new(),
        }
    }

    pub fn runtime(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(programs().join(program));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.folder.path())
            .env("MUSTER_RUNTIME_DIR", self.runtime())
            .env("MUSTER_CLUSTER", "test")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn muster(&self, args: &[&str]) -> Output {
        self.command("muster").args(args).output().unwrap()
    }

    /// Runs `muster`, which has to succeed; its output.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.muster(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{args:?}: {:?} {stderr}",
            output.status
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts `muster up` and waits for its line.
    pub fn up(&mut self, args: &[&str]) -> (Child, String) {
        let mut child = self
            .command("muster")
            .arg("up")
            .args(args)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.pids.push(child.id());
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        (child, line)
    }

    pub fn start(&mut self, program: &str, args: &[&str]) -> Child {
        self.start_by(&[], program, args)
    }

    /// Starts it by a command that ends in the program's own.
    pub fn start_by(&mut self, starter: &[String], program: &str, args: &[&str]) -> Child {
        let mut command = match starter.split_first() {
            None => self.command(program),
            Some((first, words)) => {
                let found = which(first);
                let mut command = self.command(found.to_str().expect("a path"));
                command.args(words).arg(programs().join(program));
                command
            }
        };
        let child = command
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.pids.push(child.id());
        child
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self
            .command("muster")
            .args(["down", "--timeout", "5"])
            .output();
        for pid in &self.pids {
            let child = rustix::process::Pid::from_raw(*pid as i32);
            // Only what is still a child of ours: a reaped one's number may be somebody else's.
            if let Ok(None) = waitpid(child, WaitOptions::NOHANG) {
                kill(*pid, rustix::process::Signal::KILL);
                let _ = waitpid(child, WaitOptions::empty());
            }
        }
    }
}

/// Where a program of the system is.
fn which(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let mut found = std::env::split_paths(&path).map(|folder| folder.join(program));
    found.find(|path| path.is_file()).expect("it is installed")
}

pub fn kill(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    let _ = rustix::process::kill_process(pid, signal);
}

pub fn wait_until(what: &str, is_true: impl FnMut() -> bool) {
    muster_test_support::wait_until(what, DEADLINE, is_true);
}

/// Processes of the cluster: of its broker, its workers and their slots.
pub fn cluster_pids(place: &Place) -> Vec<u32> {
    let status: Value = serde_json::from_str(&place.ok(&["status", "--json"])).unwrap();
    let mut pids = vec![status["pid"].as_u64().unwrap() as u32];
    for line in place.ok(&["workers", "--json"]).lines() {
        let worker: Value = serde_json::from_str(line).unwrap();
        pids.push(worker["pid"].as_u64().unwrap() as u32);
        let slots = worker["slot_states"].as_array().unwrap();
        pids.extend(
            slots
                .iter()
                .filter_map(|slot| slot["pid"].as_u64())
                .map(|pid| pid as u32),
        );
    }
    pids
}

pub fn numbers(count: u64) -> String {
    (0..count).map(|n| format!("{n}\n")).collect()
}

impl Place {
    /// Runs `muster` with this on standard input.
    pub fn muster_with_input(&self, args: &[&str], input: &[u8]) -> Output {
        let mut child = self
            .command("muster")
            .args(args)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // Whoever has read enough breaks the pipe.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    /// The broker's status.
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.ok(&["status", "--json"])).unwrap()
    }
}
