//! Handshakes with keys wait for their turn: for each the broker makes a socket of its own and
//! computes, before it knows who is there.

use rustc_hash::FxHashSet;
use std::time::{Duration, Instant};

/// One address begins one handshake in this time, 250 in a second, as with libzmq's own listeners
/// (`zmq-sys/patches`). They come one by one, so that nobody waits behind many.
pub(super) const TURN: Duration = Duration::from_millis(4);
/// All addresses together begin so many in that time.
const TOTAL_MAX: u32 = 4;

/// Who has had a turn lately.
#[derive(Debug)]
pub(super) struct Turns {
    since: Instant,
    total: u32,
    /// As many as had a turn, so few.
    addresses: FxHashSet<Box<str>>,
}

impl Turns {
    /// Everybody has a turn from now on.
    pub fn new(now: Instant) -> Self {
        Turns {
            since: now,
            total: 0,
            addresses: FxHashSet::default(),
        }
    }

    /// Whether new turns have come.
    pub fn heed(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since) < TURN {
            return false;
        }
        self.since = now;
        self.total = 0;
        self.addresses.clear();
        true
    }

    /// Takes a turn for a peer at `tcp://ADDRESS:PORT`. `false`: there is none now.
    pub fn take(&mut self, peer: &str) -> bool {
        let address = peer.rsplit_once(':').map_or(peer, |(address, _)| address);
        if self.total == TOTAL_MAX || self.addresses.contains(address) {
            return false;
        }
        self.total += 1;
        self.addresses.insert(address.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_turn_whatever_its_ports_and_others_have_theirs() {
        let start = Instant::now();
        let mut turns = Turns::new(start);
        assert!(turns.take("tcp://10.0.0.1:1"));
        assert!(!turns.take("tcp://10.0.0.1:2"));
        assert!(turns.take("tcp://10.0.0.2:1"));
        assert!(turns.take("tcp://[fe80::1]:1"));
        assert!(!turns.heed(start + TURN / 2));
        assert!(!turns.take("tcp://10.0.0.1:3"));
        assert!(turns.heed(start + TURN));
        assert!(turns.take("tcp://10.0.0.1:3"));
    }

    #[test]
    fn all_addresses_together_have_no_more_than_a_machine_can_bear() {
        let mut turns = Turns::new(Instant::now());
        let taken = (0..250).filter(|n| turns.take(&format!("tcp://10.0.0.{n}:1")));
        assert_eq!(taken.count(), TOTAL_MAX as usize);
        assert!(turns.addresses.len() <= TOTAL_MAX as usize);
    }
}
