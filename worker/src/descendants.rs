//! Nothing that a worker's children start outlives them, not even what left its process group.
//!
//! Every child is started with a mark in its environment, which what it starts inherits. The mark
//! names the worker, the process that started the child, and the child. When a child ended, whoever
//! still has its mark is ended, too. When the worker itself is killed, the kernel ends its children
//! and a guard ends the rest: a small process that waits for nothing else.

use muster_proto::socket::random_bytes;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open};
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The variable that holds the mark.
const VARIABLE: &str = "MUSTER_CHILD";
/// Passes over all processes: one may start another while it is looked for.
const PASSES_MAX: u32 = 20;
const BETWEEN_PASSES: Duration = Duration::from_millis(20);

/// The mark of a new child of this process.
pub(crate) fn mark(command: &mut Command) -> String {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let mark = format!("{}{serial}:", marks_of(getpid()));
    command.env(VARIABLE, &mark);
    mark
}

/// How the marks of what a process started begin.
fn marks_of(pid: Pid) -> String {
    format!("{}:{}:", token(), pid.as_raw_nonzero())
}

/// What all marks of a worker begin with.
fn token() -> &'static str {
    static TOKEN: OnceLock<String> = OnceLock::new();
    TOKEN.get_or_init(|| match OF_SUPERVISOR.get() {
        Some(token) => token.clone(),
        None => format!(
            "{:016x}",
            u64::from_ne_bytes(random_bytes().unwrap_or_default())
        ),
    })
}

static OF_SUPERVISOR: OnceLock<String> = OnceLock::new();

/// This process is a slot: its children are its supervisor's worker's, too.
pub(crate) fn belong_to_supervisor() {
    let mark = std::env::var(VARIABLE).unwrap_or_default();
    if let Some((token, _)) = mark.split_once(':') {
        let _ = OF_SUPERVISOR.set(token.to_owned());
    }
}

/// Ends everything that a process of this worker, which has ended, had started.
pub(crate) fn end_of_process(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        end_marked(&marks_of(pid));
    }
}

/// Ends every process whose mark begins so.
pub(crate) fn end_marked(beginning: &str) {
    let wanted = format!("{VARIABLE}={beginning}");
    for pass in 0..PASSES_MAX {
        let marked = marked(wanted.as_bytes());
        if marked.is_empty() {
            return;
        }
        if pass > 0 {
            std::thread::sleep(BETWEEN_PASSES);
        }
        for pid in marked {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Processes of this user whose environment has a variable that begins so.
fn marked(wanted: &[u8]) -> Vec<Pid> {
    let pids = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    let has_mark = |pid: &Pid| {
        let path = format!("/proc/{}/environ", pid.as_raw_nonzero());
        // Other users' can't be read, and those that have ended have none.
        let environment = fs::read(path).unwrap_or_default();
        environment
            .split(|&byte| byte == 0)
            .any(|variable| variable.starts_with(wanted))
    };
    pids.filter(|pid| *pid != getpid() && has_mark(pid))
        .collect()
}

/// The process that outlives this one for a moment, to end what it leaves behind.
pub(crate) struct Guard {
    process: Child,
    pidfd: Option<OwnedFd>,
}

impl Guard {
    /// Starts it. It waits for this process to end, however that happens.
    pub fn start(worker: &str) -> io::Result<Self> {
        let mut command = Command::new(crate::child::own_program());
        command
            .arg0("muster-worker")
            .args(["guard", worker])
            .env_remove(VARIABLE)
            // A Ctrl-C at the terminal is not for it.
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut process = command.spawn()?;
        if let Some(stdin) = &mut process.stdin {
            io::Write::write_all(stdin, format!("{}:\n", token()).as_bytes())?;
        }
        let pidfd = pidfd_open(Pid::from_child(&process), PidfdFlags::empty()).ok();
        Ok(Guard { process, pidfd })
    }

    /// Readable when it has ended.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Whether it has ended, which it should not.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(Some(_)))
    }
}

impl Drop for Guard {
    /// The worker ends in order: the guard ends what is left, and then itself.
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// The guard's own program: the hidden subcommand `guard`.
pub(crate) fn guard() {
    let mut beginning = String::new();
    let mut stdin = io::stdin().lock();
    // The end of input is the end of the worker.
    let _ = stdin.read_to_string(&mut beginning);
    let beginning = beginning.trim();
    if beginning.len() > 1 {
        end_marked(beginning);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_left_its_group_ends_with_its_mark() {
        let mut command = Command::new("sh");
        command.args(["-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!"]);
        command.stdout(Stdio::piped());
        let mark = mark(&mut command);
        let output = command.output().unwrap();
        assert!(output.status.success());
        let wanted = format!("{VARIABLE}={mark}");
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while marked(wanted.as_bytes()).is_empty() {
            assert!(std::time::Instant::now() < deadline, "it is not there");
        }
        end_marked(&mark);
        assert!(marked(wanted.as_bytes()).is_empty());
    }
}
