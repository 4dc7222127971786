//! Processes of this machine: found, told to end, waited for.

use muster_proto::socket::{Interest, PollItem, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A living process. Its number can't come to mean another one while this is held.
pub struct Process {
    pid: u32,
    fd: OwnedFd,
}

impl Process {
    /// The process with this number, if it lives.
    pub fn open(pid: u32) -> Option<Self> {
        let number = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let fd = pidfd_open(number, PidfdFlags::empty()).ok()?;
        let process = Process { pid, fd };
        (!process.has_ended(Duration::ZERO)).then_some(process)
    }

    /// The process with this number that started at this time.
    pub fn open_started(pid: u32, started: u64) -> Option<Self> {
        Self::open(pid).filter(|_| start_of(pid) == Some(started))
    }

    /// The process with this number that runs the program called `name`.
    pub fn open_named(pid: u32, name: &str) -> Option<Self> {
        let comm = |_: &Self| fs::read_to_string(format!("/proc/{pid}/comm")).ok();
        let process = Self::open(pid)?;
        (comm(&process)?.trim_end() == name).then_some(process)
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal; that the process has ended meanwhile is fine.
    pub fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.fd, signal);
    }

    /// Waits up to `timeout` for its end.
    pub fn has_ended(&self, timeout: Duration) -> bool {
        let mut items = [PollItem::fd(&self.fd, Interest::Read)];
        // An error means that nothing is known; the caller's next step is a stronger signal.
        poll(&mut items, Some(timeout)).is_ok_and(|count| count > 0)
    }

    /// Asks it to end. A process that is stopped, such as by Ctrl-Z, has to go on for that.
    pub fn ask_to_end(&self) {
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
    }

    /// Asks it to end, then tells it, then ends it.
    pub fn end(&self, grace: Duration) {
        // What the programs of Muster do: the first drains, the second stops.
        for timeout in [grace, STOP_TIMEOUT] {
            self.ask_to_end();
            if self.has_ended(timeout) {
                return;
            }
        }
        self.signal(Signal::KILL);
        self.has_ended(STOP_TIMEOUT);
    }
}

/// How long a process may take that was told to stop at once.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// When a process started, in ticks since boot: with its number, its identity.
pub fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; the start is the 20th field after it.
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(19)?
        .parse()
        .ok()
}

/// This machine's name, as workers tell it.
pub fn host() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| String::new(), |name| name.trim_end().to_owned())
}

/// A program of Muster: beside this one, else on PATH.
///
/// # Errors
/// Both places, in words.
pub fn find_program(name: &str) -> Result<PathBuf, io::Error> {
    let beside = std::env::current_exe().ok();
    let folder = beside.as_deref().and_then(Path::parent);
    if let Some(found) = folder
        .map(|folder| folder.join(name))
        .filter(|path| path.is_file())
    {
        return Ok(found);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&path).map(|folder| folder.join(name));
    candidates.find(|path| path.is_file()).ok_or_else(|| {
        let folder = folder.map_or_else(|| "?".into(), |folder| folder.display().to_string());
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("neither in {folder} nor on PATH ({})", path.display()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    #[test]
    fn a_process_is_known_by_number_start_and_name_until_it_ends() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        let started = start_of(pid).unwrap();
        let process = Process::open_started(pid, started).unwrap();
        assert!(Process::open_started(pid, started + 1).is_none());
        assert!(Process::open_named(pid, "nosleep").is_none());
        assert!(!process.has_ended(Duration::from_millis(1)));
        process.end(Duration::from_secs(20));
        assert!(process.has_ended(Duration::ZERO));
        child.wait().unwrap();
        assert!(Process::open(pid).is_none());
    }

    #[test]
    fn a_stopped_process_is_ended_without_force() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::open(child.id()).unwrap();
        process.signal(Signal::STOP);
        process.end(Duration::from_secs(20));
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(Signal::TERM.as_raw()));
    }

    #[test]
    fn a_missing_program_names_both_places() {
        let text = find_program("muster-nothing").unwrap_err().to_string();
        assert!(
            text.contains("neither in /") && text.contains("PATH"),
            "{text}"
        );
    }
}
