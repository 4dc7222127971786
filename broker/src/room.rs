//! How many connections there may be.

use log::warn;
use muster_proto::socket::{limit_descriptors, newcomers_refused};
use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd;

/// Descriptors that connections leave for everything else.
const RESERVE: u64 = 256;

/// How many connections may be there, counted by the descriptors that are open.
///
/// The system gives out the lowest free number, so while a lower one than a limit is free, fewer
/// than so many are open. That costs one call for each newcomer, and no list that could be wrong.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    connections_max: u64,
    files_max: u64,
    /// Set when the first newcomer comes: then every door is open.
    descriptors_max: Option<u64>,
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let max = self.connections_max;
        write!(f, "there are {max} connections already (--connections-max)")
    }
}

impl Room {
    /// Room for so many connections, and never so many that nothing is left for files, lanes and
    /// their sockets.
    pub fn new(connections_max: u64, files_max: u64) -> Self {
        Room {
            connections_max,
            files_max,
            descriptors_max: None,
        }
    }

    /// Has libzmq's TCP listeners hang up on whoever comes when there is no more room: before a
    /// handshake, since strangers who never finish one take room, too. To be called when every door
    /// is open.
    ///
    /// Where keys are asked for, the judge refuses first, in words; so many strangers without a key
    /// that it is never asked are hung up on a little later.
    pub fn bound_listeners(&self) {
        let Some(lowest) = lowest_free_descriptor() else {
            return;
        };
        let keyless = self.most(lowest);
        let keyed = keyless.saturating_add(self.reserve() / 2);
        let number = |max: u64| i32::try_from(max).unwrap_or(i32::MAX);
        limit_descriptors(number(keyless), number(keyed));
    }

    pub(crate) fn is_full(&mut self) -> bool {
        // None is free at all: full.
        let Some(lowest) = lowest_free_descriptor() else {
            return true;
        };
        let max = match self.descriptors_max {
            Some(max) => max,
            None => *self.descriptors_max.insert(self.most(lowest)),
        };
        lowest >= max
    }

    /// The first descriptor that is too many, when the lowest free one is this without connections.
    fn most(&self, lowest: u64) -> u64 {
        let wished = lowest.saturating_add(self.connections_max);
        wished.min(self.files_max.saturating_sub(self.reserve()))
    }

    fn reserve(&self) -> u64 {
        (self.files_max / 4).min(RESERVE)
    }
}

fn lowest_free_descriptor() -> Option<u64> {
    let file = File::open("/dev/null").ok()?;
    u64::try_from(file.as_raw_fd()).ok()
}

/// Says now and then how many newcomers the listeners have hung up on.
#[derive(Debug)]
pub(crate) struct Refused {
    room: Room,
    told: u64,
}

impl Refused {
    pub fn new(room: Room) -> Self {
        Refused { room, told: 0 }
    }

    /// Says how many have come since the last time, if any.
    pub fn tell(&mut self) {
        let count = newcomers_refused();
        if count > self.told {
            let fresh = count - self.told;
            warn!("{fresh} newcomers over TCP were hung up on: {}", self.room);
            self.told = count;
        }
    }
}
