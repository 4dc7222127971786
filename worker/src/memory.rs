//! How much memory children have, and whether the kernel's memory killer was at work.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How often a child that computes is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How often one is looked at that may be idle.
const LOOK_ALWAYS: Duration = Duration::from_millis(250);
/// How often the count of kills is looked at, at most.
const LOOK_KILLS: Duration = Duration::from_millis(100);
const LOOK_KILLS_ALWAYS: Duration = Duration::from_secs(1);
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

/// How many processes of this one's memory group the kernel's memory killer has ended, as far as it
/// was looked at. The count names nobody, so it tells something only when it is fresh: whoever is
/// killed while it grows was killed by it.
#[derive(Debug)]
pub(crate) struct KillCount {
    last: Option<u64>,
    /// At the look before that one.
    earlier: Option<u64>,
    looked: Instant,
}

impl KillCount {
    /// As it is now.
    pub fn new() -> Self {
        let last = kills();
        KillCount {
            last,
            earlier: last,
            looked: Instant::now(),
        }
    }

    /// A child is given something to do: what was killed before was not this child. At most ten
    /// looks a second.
    pub fn begin(&mut self) {
        if self.looked.elapsed() >= LOOK_KILLS {
            *self = Self::new();
        }
    }

    /// Time passes, and nobody knows when a child is given something: what was killed more than a
    /// second or two ago was not this child.
    pub fn pass(&mut self) {
        if self.looked.elapsed() >= LOOK_KILLS_ALWAYS {
            self.earlier = self.last;
            (self.last, self.looked) = (kills(), Instant::now());
        }
    }

    /// Whether the killer has been at work since. False where the system does not tell.
    pub fn has_grown(&mut self) -> bool {
        let before = self.earlier;
        *self = Self::new();
        matches!((before, self.last), (Some(before), Some(now)) if now > before)
    }
}

fn kills() -> Option<u64> {
    static PATH: OnceLock<Option<PathBuf>> = OnceLock::new();
    let path = PATH.get_or_init(events_path).as_ref()?;
    let text = fs::read_to_string(path).ok()?;
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
    fn only_a_count_that_grew_lately_means_this_child() {
        let count = |earlier, last| KillCount {
            earlier,
            last,
            looked: Instant::now(),
        };
        let now = kills();
        assert!(!count(now, now).has_grown());
        assert!(!count(None, None).has_grown());
        // Where the system tells, it is more than one less.
        let less = now.and_then(|now| now.checked_sub(1));
        assert_eq!(count(less, now).has_grown(), less.is_some());
        let mut old = count(less, now);
        old.looked -= LOOK_KILLS_ALWAYS;
        old.pass();
        assert!(!old.has_grown());
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
