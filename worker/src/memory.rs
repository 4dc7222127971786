//! Whether the kernel's memory killer was at work.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

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
    fn the_counter_is_read_from_either_version_of_the_file() {
        assert_eq!(count("low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\n"), Some(2));
        assert_eq!(
            count("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"),
            Some(7)
        );
        assert_eq!(count("oom_kill_disable 0\n"), None);
    }
}
