//! Child processes: born to die with their parent, watched, and never left behind as zombies.
//!
//! A child gets SIGKILL from the kernel when the *thread* that spawned it ends, so it is spawned by
//! the thread that owns it: a slot's thread, or the supervisor's. It leads a process group of its
//! own: what it started itself ends with it, and a Ctrl-C at the terminal is the supervisor's to
//! handle.

#![allow(unsafe_code)]

use crate::descendants;
use muster_proto::limits;
use muster_proto::worker::SlotLost;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, waitid};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;

/// A running child. Dropping it kills it with its group and reaps it.
#[derive(Debug)]
pub(crate) struct Child {
    process: std::process::Child,
    pid: Pid,
    /// Readable once the child has ended, whoever else holds its pipes.
    pidfd: OwnedFd,
    status: Option<ExitStatus>,
    /// What it and all it starts have in their environment.
    mark: String,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
}

impl Child {
    /// Starts `command` in a process group of its own.
    pub fn spawn(command: &mut Command) -> io::Result<Child> {
        let parent = rustix::process::getpid();
        let files_max = files_max_at_start();
        let mark = descendants::mark(command);
        command.process_group(0);
        // SAFETY: between fork and exec the closure makes system calls alone: it takes no lock and
        // allocates nothing.
        unsafe {
            command.pre_exec(move || {
                rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
                // The parent may have died before the kernel knew that this child cares.
                if rustix::process::getppid() != Some(parent) {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
                let resource = rustix::process::Resource::Nofile;
                let mut limit = rustix::process::getrlimit(resource);
                limit.current = files_max;
                rustix::process::setrlimit(resource, limit)?;
                Ok(())
            });
        }
        let mut process = command.spawn()?;
        let pid = Pid::from_child(&process);
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Child {
                process,
                pid,
                pidfd,
                status: None,
                mark,
            }),
            Err(error) => {
                let _ = process.kill();
                let _ = process.wait();
                Err(error.into())
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The pipes given to it, each to be taken once.
    pub fn pipes(&mut self) -> (Option<OwnedFd>, Option<OwnedFd>, Option<OwnedFd>) {
        (
            self.process.stdin.take().map(OwnedFd::from),
            self.process.stdout.take().map(OwnedFd::from),
            self.process.stderr.take().map(OwnedFd::from),
        )
    }

    /// How it ended, if it has; then its group ends, too.
    pub fn try_wait(&mut self) -> Option<Ended> {
        if self.status.is_none() && self.has_ended() {
            self.reap();
        }
        self.status.map(Ended::of)
    }

    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // An error means that it is no child any more: ended, as far as anyone can know.
        !matches!(waitid(WaitId::PidFd(self.pidfd.as_fd()), options), Ok(None))
    }

    /// Ends it, and whatever it started in its group, and reaps it.
    pub fn kill(&mut self) -> Ended {
        if self.status.is_none() {
            // Its group is its own from the first instruction on, but a failed exec has none.
            let _ = self.process.kill();
            self.reap();
        }
        self.status.map_or(
            Ended {
                exit_code: None,
                signal: None,
            },
            Ended::of,
        )
    }

    /// Ends what it started and what left its group. It takes a look at every process of the
    /// machine, so it is for children that serve long.
    pub fn end_descendants(&mut self) {
        self.kill();
        descendants::end_marked(&self.mark);
    }

    /// The group is hit first: until its leader is reaped the kernel gives its number to no other.
    fn reap(&mut self) {
        let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
        self.status = Some(self.process.wait().unwrap_or_default());
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Ended {
    fn of(status: ExitStatus) -> Self {
        Ended {
            exit_code: status.code(),
            signal: status.signal(),
        }
    }

    /// The message about a slot whose child ended so.
    pub fn lost(self, slot: u32, pid: u32) -> SlotLost {
        SlotLost {
            slot,
            pid,
            exit_code: self.exit_code,
            signal: self.signal,
            ..SlotLost::default()
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.exit_code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => f.write_str("an unknown end"),
        }
    }
}

/// The soft limit of open files as it was before sockets raised it: programs that use `select`
/// break on higher descriptors, so children get this one. Call it once before the first socket.
pub(crate) fn files_max_at_start() -> Option<u64> {
    static AT_START: OnceLock<Option<u64>> = OnceLock::new();
    *AT_START.get_or_init(|| rustix::process::getrlimit(rustix::process::Resource::Nofile).current)
}

/// What a child writes: whole lines for the log, and the last of it for the caller whose call it
/// took down.
#[derive(Debug, Default)]
pub(crate) struct Output {
    tail: Vec<u8>,
    line: Vec<u8>,
}

/// A line is cut here, so that output without line ends cannot fill the memory.
const LINE_BYTES_MAX: usize = 8 << 10;

impl Output {
    /// Reads what is there and gives every whole line to `log`; false at the end of the output.
    pub fn read(&mut self, from: &OwnedFd, mut log: impl FnMut(&str)) -> bool {
        let mut buffer = [0; 8 << 10];
        loop {
            match rustix::io::read(from, &mut buffer) {
                Ok(0) => {
                    self.end_line(&mut log);
                    return false;
                }
                Ok(count) => self.take(&buffer[..count], &mut log),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
    }

    fn take(&mut self, bytes: &[u8], log: &mut impl FnMut(&str)) {
        self.tail.extend_from_slice(bytes);
        let surplus = self
            .tail
            .len()
            .saturating_sub(limits::STDERR_TAIL_BYTES_MAX);
        self.tail.drain(..surplus);
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") || self.line.len() >= LINE_BYTES_MAX {
                self.end_line(log);
            }
        }
    }

    fn end_line(&mut self, log: &mut impl FnMut(&str)) {
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        if !self.line.is_empty() {
            log(&String::from_utf8_lossy(line));
        }
        self.line.clear();
    }

    /// The last of what was written, up to 4 KiB.
    pub fn tail(&self) -> String {
        String::from_utf8_lossy(&self.tail).into_owned()
    }
}

/// This program, to be started once more. Its file may have been replaced since the start; the
/// process still knows its own.
pub(crate) fn own_program() -> PathBuf {
    std::env::current_exe()
        .ok()
        .filter(|path| path.is_file())
        .unwrap_or_else(|| PathBuf::from("/proc/self/exe"))
}

/// Reading and writing return at once from now on.
pub(crate) fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    Ok(rustix::fs::fcntl_setfl(
        fd,
        flags | rustix::fs::OFlags::NONBLOCK,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::socket::{Interest, PollItem, poll};
    use std::process::Stdio;
    use std::time::Duration;

    fn wait(child: &mut Child) -> Ended {
        let mut items = [PollItem::fd(child, Interest::Read)];
        assert_eq!(poll(&mut items, Some(Duration::from_secs(30))).unwrap(), 1);
        child.try_wait().expect("its descriptor says that it ended")
    }

    #[test]
    fn an_end_is_seen_with_its_code_or_signal() {
        let mut child = Child::spawn(Command::new("sh").args(["-c", "exit 3"])).unwrap();
        assert_eq!(
            wait(&mut child),
            Ended {
                exit_code: Some(3),
                signal: None
            }
        );
        let mut child = Child::spawn(Command::new("sh").args(["-c", "kill -SEGV $$"])).unwrap();
        assert_eq!(
            wait(&mut child),
            Ended {
                exit_code: None,
                signal: Some(11)
            }
        );
        let mut child = Child::spawn(Command::new("sleep").arg("1000")).unwrap();
        assert_eq!(child.try_wait(), None);
        assert_eq!(child.kill().signal, Some(9));
    }

    #[test]
    fn what_a_child_started_ends_with_it() {
        let script = "sleep 1000 & echo $!; wait";
        let mut child = Child::spawn(
            Command::new("sh")
                .args(["-c", script])
                .stdout(Stdio::piped()),
        )
        .unwrap();
        let (_, stdout, _) = child.pipes();
        let mut text = [0; 32];
        let count = rustix::io::read(stdout.unwrap(), &mut text).unwrap();
        let grandchild: i32 = std::str::from_utf8(&text[..count])
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        child.kill();
        let path = format!("/proc/{grandchild}/stat");
        // It ends at once; its new parent takes a moment to reap it.
        let is_gone = || match std::fs::read_to_string(&path) {
            Err(_) => true,
            Ok(stat) => stat
                .rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('Z')),
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while !is_gone() {
            assert!(std::time::Instant::now() < deadline, "the grandchild lives");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let error = Child::spawn(&mut Command::new("/nonexistent/program")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn output_is_cut_into_lines_and_its_end_kept() {
        let mut output = Output::default();
        let mut lines = Vec::new();
        output.take(b"one\ntw", &mut |line: &str| lines.push(line.to_owned()));
        output.take(b"o\n\xff\n", &mut |line: &str| lines.push(line.to_owned()));
        assert_eq!(lines, ["one", "two", "\u{fffd}"]);
        output.take(&[b'x'; 10_000], &mut |line: &str| {
            assert_eq!(line.len(), 10_000);
        });
        assert_eq!(output.tail().len(), limits::STDERR_TAIL_BYTES_MAX);
    }
}
