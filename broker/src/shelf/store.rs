//! What is on the shelf, and for how long.

use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Of a name, which is as good as a key: nobody guesses one.
pub(super) const NAME_BYTES: usize = 16;
pub(super) type Name = [u8; NAME_BYTES];

/// What all memories together may hold, and how many descriptors they may take.
const BYTES_MAX: u64 = 1 << 30;
const MEMORIES_MAX: usize = 1_000;
/// How long a memory left for whoever takes it is kept: as long as a broker keeps answers.
const LEFT_KEPT: Duration = Duration::from_secs(60);

/// Until when a memory is kept, unless it is dropped before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// While this connection is there.
    While { owner: u64 },
    /// Until then.
    Until(Instant),
}

impl Keep {
    pub fn for_a_while() -> Self {
        Keep::Until(Instant::now() + LEFT_KEPT)
    }
}

struct Memory {
    descriptor: OwnedFd,
    bytes: u64,
    keep: Keep,
}

#[derive(Default)]
pub(super) struct Store {
    memories: FxHashMap<Name, Memory>,
    bytes: u64,
    /// Those kept until a time, the first first; also some that are gone.
    ends: VecDeque<(Instant, Name)>,
}

impl Store {
    /// Whether there was room. A name that is taken already is as good as none.
    pub fn keep(&mut self, name: Name, descriptor: OwnedFd, bytes: u64, keep: Keep) -> bool {
        let is_full = self.bytes + bytes > BYTES_MAX || self.memories.len() >= MEMORIES_MAX;
        if is_full || self.memories.contains_key(&name) {
            return false;
        }
        if let Keep::Until(end) = keep {
            self.ends.push_back((end, name));
        }
        self.bytes += bytes;
        let memory = Memory {
            descriptor,
            bytes,
            keep,
        };
        self.memories.insert(name, memory);
        true
    }

    pub fn find(&self, name: &Name) -> Option<&OwnedFd> {
        self.memories.get(name).map(|memory| &memory.descriptor)
    }

    pub fn remove(&mut self, name: &Name) {
        if let Some(memory) = self.memories.remove(name) {
            self.bytes -= memory.bytes;
        }
        // Those at the front that are gone hold nothing up.
        while let Some((_, first)) = self.ends.front()
            && !self.memories.contains_key(first)
        {
            self.ends.pop_front();
        }
    }

    /// A connection is gone, and what was kept while it was there.
    pub fn leave(&mut self, owner: u64) {
        let bytes = &mut self.bytes;
        self.memories.retain(|_, memory| {
            let stays = memory.keep != Keep::While { owner };
            *bytes -= if stays { 0 } else { memory.bytes };
            stays
        });
    }

    /// When the next memory's time ends.
    pub fn due(&self) -> Option<Instant> {
        self.ends.front().map(|&(end, _)| end)
    }

    pub fn expire(&mut self, now: Instant) {
        while let Some(&(end, name)) = self.ends.front()
            && end <= now
        {
            self.ends.pop_front();
            let is_it = |memory: &Memory| memory.keep == Keep::Until(end);
            if self.memories.get(&name).is_some_and(is_it) {
                self.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn descriptor() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    fn name(number: u8) -> Name {
        [number; NAME_BYTES]
    }

    #[test]
    fn bytes_are_capped_and_given_back() {
        let mut store = Store::default();
        let keep = Keep::While { owner: 1 };
        assert!(store.keep(name(1), descriptor(), BYTES_MAX - 1, keep));
        assert!(!store.keep(name(2), descriptor(), 2, keep));
        assert!(!store.keep(name(1), descriptor(), 1, keep), "the same name");
        assert!(store.keep(name(2), descriptor(), 1, keep));
        store.remove(&name(1));
        assert!(store.find(&name(1)).is_none() && store.find(&name(2)).is_some());
        assert!(store.keep(name(3), descriptor(), BYTES_MAX - 1, keep));
    }

    #[test]
    fn so_are_descriptors() {
        let mut store = Store::default();
        let keep = Keep::While { owner: 1 };
        for number in 0..MEMORIES_MAX {
            let mut name = name(0);
            name[..8].copy_from_slice(&number.to_le_bytes());
            assert!(store.keep(name, descriptor(), 1, keep));
        }
        assert!(!store.keep(name(255), descriptor(), 1, keep));
    }

    #[test]
    fn what_a_connection_put_goes_with_it_and_what_it_left_stays() {
        let mut store = Store::default();
        store.keep(name(1), descriptor(), 10, Keep::While { owner: 1 });
        store.keep(name(2), descriptor(), 10, Keep::While { owner: 2 });
        store.keep(name(3), descriptor(), 10, Keep::for_a_while());
        store.leave(1);
        assert!(store.find(&name(1)).is_none());
        assert!(store.find(&name(2)).is_some() && store.find(&name(3)).is_some());
        assert_eq!(store.bytes, 20);
    }

    #[test]
    fn what_nobody_takes_goes_in_its_time() {
        let mut store = Store::default();
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        store.keep(name(1), descriptor(), 10, Keep::Until(now));
        store.keep(name(2), descriptor(), 10, Keep::Until(later));
        assert_eq!(store.due(), Some(now));
        store.expire(now);
        assert!(store.find(&name(1)).is_none() && store.find(&name(2)).is_some());
        store.remove(&name(2));
        assert_eq!((store.due(), store.bytes), (None, 0));
    }
}
