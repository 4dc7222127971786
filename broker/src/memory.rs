//! How much memory the broker may have, and what of it is free: kept for the next frame while there
//! is work, given back to the system after a flood.
//!
//! An allocator keeps what is freed in the middle of its heap, for ever if nobody asks, and gives
//! back at once what is freed at the end of it, which each large frame then fetches anew. So the
//! broker has it keep that, too, and asks for all of it itself: that costs milliseconds after a
//! flood and nothing to speak of otherwise, so a broker that has just been at work looks now and
//! then whether it takes much more than it holds.

use muster_core::MonoTime;
use muster_proto::socket::{give_back_memory, keep_memory};
use std::path::Path;
use std::time::Duration;

/// How long after some work the broker looks at its memory.
const PAUSE: Duration = Duration::from_secs(2);
/// The longest pause, after looks that were of no use.
const PAUSE_MAX: Duration = Duration::from_secs(64);
/// Less than this is not worth it.
const EXCESS_BYTES_MIN: usize = 16 << 20;

/// Free memory that each of the allocator's heaps keeps at its end. glibc gives that back of the
/// main heap alone when it is asked to, so this is what the I/O thread's keeps after a flood.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// Nor more than one in so many of the bytes that the system lets the broker have: it has a few
/// heaps.
const KEPT_SHARE: usize = 32;

/// When to look, and what was seen.
#[derive(Debug)]
pub(crate) struct Memory {
    due: Option<MonoTime>,
    pause: Duration,
    /// The least that the broker has been seen to take.
    least_bytes: usize,
}

impl Default for Memory {
    fn default() -> Self {
        let share = limit_bytes().map_or(usize::MAX, |bytes| bytes / KEPT_SHARE);
        keep_memory(share.min(KEPT_BYTES_MAX));
        Memory {
            due: None,
            pause: PAUSE,
            least_bytes: resident_bytes().unwrap_or(0),
        }
    }
}

impl Memory {
    /// The broker did something.
    #[inline]
    pub fn stir(&mut self, now: MonoTime) {
        if self.due.is_none() {
            self.due = Some(now.after(self.pause));
        }
    }

    /// When to look.
    #[inline]
    pub fn due(&self) -> Option<MonoTime> {
        self.due
    }

    /// Gives back what the broker takes beyond what it holds, if that is much. While it takes much
    /// more than the least it looks again: what is held now may be freed without further work.
    pub fn look(&mut self, now: MonoTime, held_bytes: usize) {
        self.due = None;
        let Some(before) = resident_bytes() else {
            return;
        };
        self.least_bytes = self.least_bytes.min(before);
        if !is_much(before - self.least_bytes, held_bytes) {
            if before - self.least_bytes >= EXCESS_BYTES_MIN {
                self.due = Some(now.after(self.pause));
            }
            return;
        }
        give_back_memory();
        let after = resident_bytes().unwrap_or(before);
        self.least_bytes = self.least_bytes.min(after);
        self.pause = match is_much(after - self.least_bytes, held_bytes) {
            true => (self.pause * 2).min(PAUSE_MAX),
            false => PAUSE,
        };
        if after - self.least_bytes >= EXCESS_BYTES_MIN {
            self.due = Some(now.after(self.pause));
        }
    }
}

/// Whether memory beyond the least is mostly memory that nothing is held in.
fn is_much(excess_bytes: usize, held_bytes: usize) -> bool {
    excess_bytes >= EXCESS_BYTES_MIN && excess_bytes / 2 >= held_bytes
}

/// What the system lets this process have, if that is less than all there is: the least limit of its
/// memory groups, in version 2 or 1 of their interface.
pub fn limit_bytes() -> Option<usize> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().filter_map(limit_of_line).min()
}

/// The least limit of the group that a line of `/proc/self/cgroup` names, and of those around it.
fn limit_of_line(line: &str) -> Option<usize> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let (root, file) = if controllers.is_empty() {
        ("/sys/fs/cgroup", "memory.max")
    } else if controllers.split(',').any(|name| name == "memory") {
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
    } else {
        return None;
    };
    let group = Path::new(root).join(path.trim_start_matches('/'));
    let around = group.ancestors().take_while(|path| path.starts_with(root));
    around
        .filter_map(|path| limit(&std::fs::read_to_string(path.join(file)).ok()?))
        .min()
}

/// `max`, or a number without meaning, is no limit.
fn limit(text: &str) -> Option<usize> {
    let bytes: usize = text.trim().parse().ok()?;
    (bytes < isize::MAX as usize / 2).then_some(bytes)
}

/// What the process takes of the machine's memory, where the system says so.
fn resident_bytes() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_a_while_after_the_first_work_and_not_without_any() {
        let mut memory = Memory::default();
        assert_eq!(memory.due(), None);
        let at = |s: u64| MonoTime::from_micros(s * 1_000_000);
        memory.stir(at(5));
        memory.stir(at(6));
        assert_eq!(memory.due(), Some(at(7)));
        memory.look(at(7), 0);
        assert_eq!(memory.due(), None);
    }

    #[test]
    fn a_limit_is_a_number_that_means_something() {
        assert_eq!(limit("268435456\n"), Some(256 << 20));
        assert_eq!(limit("max\n"), None);
        assert_eq!(limit("9223372036854771712\n"), None);
        assert_eq!(limit_of_line("12:cpu,cpuacct:/there"), None);
    }

    #[test]
    fn what_is_in_use_and_what_is_little_is_left_alone() {
        assert!(is_much(64 << 20, 1 << 20));
        assert!(!is_much(64 << 20, 40 << 20));
        assert!(!is_much(8 << 20, 0));
    }
}
