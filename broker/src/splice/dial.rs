//! Servers that listen themselves: dialled by the splice, again and again.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use super::TICK;
use super::address::{self, Address};
use super::event::LinkId;

/// Pauses between attempts: the first is short, for a server that is restarting, the last within
/// the time in which every peer is to be back.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(3),
];

/// A server to be connected whenever it is there.
pub(super) struct Dial {
    pub endpoint: String,
    pub curve: bool,
    address: Address,
    /// What the address was found to be.
    found: Vec<SocketAddr>,
    failures: usize,
    state: State,
}

enum State {
    /// The next attempt is due at this tick.
    Pausing { due: u64 },
    /// Its name is being looked up.
    Resolving,
    /// There is a link, connected or not yet.
    Linked(LinkId),
}

/// What a dial wants done.
pub(super) enum Attempt {
    /// Nothing now.
    None,
    /// A connection is there, or being made.
    Started { fd: OwnedFd, is_connected: bool },
    /// A name has to be looked up, which may take its time.
    Resolve { host: String, port: u16 },
}

impl Dial {
    pub fn new(endpoint: String, address: Address, curve: bool) -> Self {
        let found = address.numeric().into_iter().collect();
        Dial {
            endpoint,
            curve,
            address,
            found,
            failures: 0,
            state: State::Pausing { due: 0 },
        }
    }

    /// Whether it waits for a tick.
    pub fn is_pausing(&self) -> bool {
        matches!(self.state, State::Pausing { .. })
    }

    /// Its link, if there is one.
    pub fn link(&self) -> Option<LinkId> {
        match self.state {
            State::Linked(link) => Some(link),
            _ => None,
        }
    }

    /// Starts an attempt that is due.
    pub fn attempt(&mut self, tick: u64) -> Attempt {
        if !matches!(self.state, State::Pausing { due } if tick >= due) {
            return Attempt::None;
        }
        let started = match &self.address {
            Address::Ipc(path) => address::dial_local(path).map(|fd| (fd, true)),
            Address::Tcp { host, port } if self.found.is_empty() => {
                self.state = State::Resolving;
                return Attempt::Resolve {
                    host: host.clone(),
                    port: *port,
                };
            }
            Address::Tcp { .. } => {
                // A name with several addresses: each in its turn.
                let address = self.found[self.failures % self.found.len()];
                address::dial_tcp(address).map(|fd| (fd, false))
            }
        };
        match started {
            Ok((fd, is_connected)) => Attempt::Started { fd, is_connected },
            Err(_) => {
                self.fail(tick);
                Attempt::None
            }
        }
    }

    /// Its attempt has become a link.
    pub fn linked(&mut self, link: LinkId) {
        self.state = State::Linked(link);
    }

    /// Its name was looked up.
    pub fn resolved(&mut self, found: Vec<SocketAddr>, tick: u64) {
        if found.is_empty() {
            self.fail(tick);
        } else {
            self.found = found;
            self.state = State::Pausing { due: tick };
        }
    }

    /// Its link has ended. A server that had served is tried again soon.
    pub fn ended(&mut self, has_served: bool, tick: u64) {
        if has_served {
            self.failures = 0;
        }
        self.fail(tick);
    }

    fn fail(&mut self, tick: u64) {
        let pause = PAUSES[self.failures.min(PAUSES.len() - 1)];
        self.failures += 1;
        if self.address.numeric().is_none() && self.failures.is_multiple_of(PAUSES.len()) {
            // The name may have moved.
            self.found.clear();
        }
        let ticks = pause.as_millis() / TICK.as_millis();
        self.state = State::Pausing {
            due: tick + ticks as u64,
        };
    }
}

/// Looks a name up on a thread of its own, since the system's resolver waits.
pub(super) fn resolve(
    host: String,
    port: u16,
    done: impl FnOnce(Vec<SocketAddr>) + Send + 'static,
) -> io::Result<()> {
    thread::Builder::new()
        .name("resolve".into())
        .spawn(move || {
            let found = (host.as_str(), port).to_socket_addrs();
            done(found.map(Iterator::collect).unwrap_or_default());
        })?;
    Ok(())
}
