//! How much memory children have, and whether the kernel's memory killer was at work.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// How often a child that computes is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How often one is looked at that may be idle.
const LOOK_ALWAYS: Duration = Duration::from_millis(250);
/// A tree of processes is not followed deeper than this.
const DEPTH_MAX: usize = 16;

/// Watches the resident memory of a child, while it computes: `--memory-max`.
///
/// Resident memory is what hurts the machine; a limit on addresses would also count what was merely
/// reserved. The price is that a child can be over its limit for as long as it takes to look.
#[derive(Debug)]
pub(crate) struct MemoryWatch {
    bytes_max: Option<u64>,
    every: Duration,
    due: Option<Instant>,
}

impl MemoryWatch {
    /// Watches nothing yet; `None`: never anything.
    pub fn new(bytes_max: Option<u64>) -> Self {
        MemoryWatch {
            bytes_max,
            every: LOOK,
            due: None,
        }
    }

    /// Watches a process of which nobody here knows when it computes: always, but not as often.
    pub fn always(bytes_max: Option<u64>) -> Self {
        let mut watch = MemoryWatch {
            every: LOOK_ALWAYS,
            ..Self::new(bytes_max)
        };
        watch.arm();
        watch
    }

    /// The child has something to do.
    pub fn arm(&mut self) {
        if self.bytes_max.is_some() && self.due.is_none() {
            self.due = Some(Instant::now() + self.every);
        }
    }

    /// When to look.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// How long until then.
    pub fn timeout(&self) -> Option<Duration> {
        let due = self.due?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// Looks at the process and all it started, if it is time; says why it must end, if it must.
    /// `goes_on`: it still computes, and is looked at again.
    pub fn look(&mut self, pid: u32, goes_on: bool) -> Option<String> {
        let (max, due) = (self.bytes_max?, self.due?);
        let now = Instant::now();
        if due > now {
            return None;
        }
        self.due = goes_on.then(|| now + self.every);
        let bytes = resident_bytes(pid, 0);
        (bytes > max).then(|| {
            let mib = |bytes: u64| bytes >> 20;
            format!(
                "ended at {} MiB of memory, --memory-max is {} MiB",
                mib(bytes),
                mib(max)
            )
        })
    }
}

/// Resident memory of a process and everything it started. What is shared counts for each.
pub(crate) fn resident_bytes(pid: u32, depth: usize) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let own = (kib(&status, "VmRSS:") + kib(&status, "VmSwap:")) << 10;
    if depth == DEPTH_MAX {
        return own;
    }
    own + children(pid)
        .into_iter()
        .map(|child| resident_bytes(child, depth + 1))
        .sum::<u64>()
}

fn kib(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter();
    let lists = threads
        .flatten()
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let pids = lists.flat_map(|list| {
        let pids = list.split_whitespace().map(str::parse);
        pids.filter_map(Result::ok).collect::<Vec<u32>>()
    });
    pids.collect()
}

/// Kills counted so far, as far as this process has looked.
static SEEN: Mutex<Option<u64>> = Mutex::new(None);

/// Counts from here on: call it once at the start.
pub(crate) fn watch_kills() {
    *SEEN.lock().unwrap_or_else(PoisonError::into_inner) = kills();
}

/// Whether the killer has ended a process of this one's memory group since the last look. False
/// where the system does not tell.
pub(crate) fn kills_have_grown() -> bool {
    let now = kills();
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    let grown = matches!((*seen, now), (Some(before), Some(now)) if now > before);
    *seen = now;
    grown
}

fn kills() -> Option<u64> {
    let text = fs::read_to_string(events_path()?).ok()?;
    count(&text)
}

fn count(events: &str) -> Option<u64> {
    events
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Version 2: `memory.events`; version 1: `memory.oom_control`.
fn events_path() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let path = path.trim_start_matches('/');
        let file = if controllers.is_empty() {
            PathBuf::from("/sys/fs/cgroup")
                .join(path)
                .join("memory.events")
        } else if controllers.split(',').any(|name| name == "memory") {
            PathBuf::from("/sys/fs/cgroup/memory")
                .join(path)
                .join("memory.oom_control")
        } else {
            return None;
        };
        file.is_file().then_some(file)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_that_is_not_armed_never_looks() {
        let mut watch = MemoryWatch::new(Some(1));
        assert_eq!(
            (watch.due(), watch.look(std::process::id(), true)),
            (None, None)
        );
        watch.arm();
        watch.due = Some(Instant::now());
        let reason = watch.look(std::process::id(), false).unwrap();
        assert!(reason.contains("--memory-max"), "{reason}");
        assert_eq!(watch.due(), None);
        let mut none = MemoryWatch::new(None);
        none.arm();
        assert_eq!(none.timeout(), None);
    }

    #[test]
    fn what_a_process_started_counts_for_it() {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "sleep 1000 & sleep 1000 & wait"]);
        let child = crate::child::Child::spawn(&mut command).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while children(child.pid()).len() < 2 {
            assert!(Instant::now() < deadline, "it started nothing");
            std::thread::yield_now();
        }
        let alone = resident_bytes(child.pid(), DEPTH_MAX);
        let all = resident_bytes(child.pid(), 0);
        assert!(0 < alone && alone < all, "{alone} {all}");
    }

    #[test]
    fn the_counter_is_read_from_either_version_of_the_file() {
        assert_eq!(count("low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\n"), Some(2));
        assert_eq!(
            count("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"),
            Some(7)
        );
        assert_eq!(count("oom_kill_disable 0\n"), None);
    }
}
