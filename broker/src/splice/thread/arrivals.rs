//! How connections come: dialled, or taken from a listener.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::SpliceThread;
use crate::epoll::Interest;
use crate::splice::common::{End, Side};
use crate::splice::dial::{self, Attempt};
use crate::splice::event::{DialId, LinkId, Origin, Stranger};
use crate::splice::link::{Caller, Link};
use crate::splice::listener::{Accepted, Nothing};
use crate::splice::shared::Command;
use crate::splice::wire::Wire;

/// Events that the loop has not taken, over which no more connections are.
const EVENTS_MAX: usize = 4096;
/// Connections taken from one listener before the links have their turn.
const ACCEPTS_MAX: usize = 64;
/// Pause of the listeners when descriptors have run out.
const EXHAUSTED_TICKS: u64 = 4;

impl SpliceThread {
    /// Dials, if it is time to.
    pub(super) fn attempt(&mut self, id: DialId) {
        let Some(dial) = self.dials.get_mut(&id) else {
            return;
        };
        match dial.attempt(self.common.tick) {
            Attempt::None => {}
            Attempt::Resolve { host, port } => {
                let shared = Arc::clone(&self.shared);
                let done = move |found| shared.command(Command::Resolved { id, found });
                if dial::resolve(host, port, done).is_err() {
                    dial.resolved(Vec::new(), self.common.tick);
                }
            }
            Attempt::Started { fd, is_connected } => {
                let link = LinkId(self.next_link);
                dial.linked(link);
                let address = dial.endpoint.clone();
                let (origin, curve) = (Origin::Dial(id), dial.curve);
                let caller = Caller {
                    id: link,
                    origin,
                    address,
                    process: None,
                    curve,
                };
                self.add(fd, is_connected, caller);
                if !self.links.contains_key(&link.0)
                    && let Some(dial) = self.dials.get_mut(&id)
                    && dial.link() == Some(link)
                {
                    dial.ended(false, self.common.tick);
                }
            }
        }
    }

    /// Whether a waiting connection may be taken now.
    pub(super) fn can_accept(&self) -> bool {
        self.links.len() < self.common.config.connections_max
            && self.common.tick >= self.accept_from
            && self.listeners.iter().any(|listener| listener.may_accept)
            && self.shared.events.len() < EVENTS_MAX
    }

    /// Takes waiting connections from the listeners, as many as there is room for.
    pub(super) fn accept(&mut self) {
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS_MAX {
                if !self.listeners[index].may_accept || !self.can_accept() {
                    break;
                }
                match self.listeners[index].accept() {
                    Ok(accepted) => {
                        self.is_exhausted = false;
                        self.admit(index, accepted);
                    }
                    Err(Nothing::Idle) => break,
                    Err(Nothing::OtherUser(uid)) => {
                        self.shared.strangers.fetch_add(1, Ordering::Relaxed);
                        if !self.has_seen_other_user {
                            let bound = self.listeners[index].bound();
                            log::warn!("{bound}: user {uid}: {}", Stranger::OtherUser);
                        }
                        self.has_seen_other_user = true;
                    }
                    Err(Nothing::Exhausted(error)) => {
                        if !self.is_exhausted {
                            log::error!("no more workers can connect: {error}");
                        }
                        self.is_exhausted = true;
                        self.accept_from = self.common.tick + EXHAUSTED_TICKS;
                    }
                }
            }
        }
        let links_max = self.common.config.connections_max;
        if self.links.len() < links_max {
            self.is_full = false;
        } else if !self.is_full {
            self.is_full = true;
            log::warn!("{links_max} workers are connected, the limit: others have to wait");
        }
    }

    fn admit(&mut self, index: usize, accepted: Accepted) {
        let Accepted {
            fd,
            address,
            process,
        } = accepted;
        let curve = self.listeners[index].curve;
        let origin = Origin::Listener(index);
        let caller = Caller {
            id: LinkId(self.next_link),
            origin,
            address,
            process,
            curve,
        };
        self.add(fd, true, caller);
    }

    /// Takes a connection on, under the next number.
    fn add(&mut self, fd: OwnedFd, is_connected: bool, caller: Caller) {
        let id = caller.id;
        self.next_link += 1;
        let interest = if is_connected {
            Interest::Read
        } else {
            Interest::ReadWrite
        };
        let wire = Wire::new(fd, Side::Peer.token(id), interest, &self.common.epoll);
        let link = match wire {
            Ok(wire) => Link::new(caller, wire, is_connected, &mut self.common),
            Err(error) => {
                log::warn!("link={id}: {error}");
                Err(End::Unknown(Stranger::Exhausted))
            }
        };
        match link {
            Ok(link) => {
                self.links.insert(id.0, link);
                self.shared.links.store(self.links.len(), Ordering::Relaxed);
                self.watch(id.0);
            }
            Err(_) => {
                self.shared.strangers.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
