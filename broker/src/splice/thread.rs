//! The one thread that copies for all links.

mod arrivals;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rustc_hash::FxHashMap;

use super::TICK;
use super::common::{Common, End, Side, Turn};
use super::dial::Dial;
use super::event::{DialId, GoneReason, LinkId, Origin, SpliceEvent};
use super::link::Link;
use super::listener::Listener;
use super::shared::{Command, Shared};
use super::turns::TURN;
use crate::epoll::{Change, Changes, Interest};

/// The token of the wake-up for commands; listeners follow. Their low two bits are zero, those of
/// links are not.
const WAKE_TOKEN: u64 = 0;
/// Links of the queue that are looked at when a turn comes, which takes microseconds of its time.
const QUEUE_LOOKS_MAX: usize = 256;

/// Everything that the thread owns: listeners, links, dials, and what is due.
pub(super) struct SpliceThread {
    shared: Arc<Shared>,
    common: Common,
    listeners: Vec<Listener>,
    links: FxHashMap<u64, Link>,
    dials: BTreeMap<DialId, Dial>,
    next_link: u64,
    /// Links that have more to copy.
    unfinished: Vec<u64>,
    /// Links that time may end; looked at every tick.
    watched: Vec<u64>,
    /// Links that wait for their turn, those looked at last in the end.
    queue: VecDeque<u64>,
    /// No connections are taken before this tick.
    accept_from: u64,
    /// What was logged already, while it lasts.
    is_exhausted: bool,
    is_full: bool,
    has_seen_other_user: bool,
    next_tick: Instant,
}

impl SpliceThread {
    pub fn new(shared: Arc<Shared>, common: Common, listeners: Vec<Listener>) -> io::Result<Self> {
        common.epoll.add(&shared.wake, WAKE_TOKEN, Interest::Read)?;
        for (listener, index) in listeners.iter().zip(1u64..) {
            common.epoll.add(listener, index << 2, Interest::Read)?;
        }
        Ok(SpliceThread {
            shared,
            common,
            listeners,
            links: FxHashMap::default(),
            dials: BTreeMap::new(),
            next_link: 1,
            unfinished: Vec::new(),
            watched: Vec::new(),
            queue: VecDeque::new(),
            accept_from: 0,
            is_exhausted: false,
            is_full: false,
            has_seen_other_user: false,
            next_tick: Instant::now() + TICK,
        })
    }

    /// Copies until the splice is stopped.
    pub fn run(mut self) {
        let mut changes = Changes::default();
        while !self.shared.is_stopped.load(Ordering::Acquire) {
            let timeout = if !self.unfinished.is_empty() || self.can_accept() {
                Some(std::time::Duration::ZERO)
            } else if self.needs_ticks() {
                let until_tick = self.next_tick.saturating_duration_since(Instant::now());
                let is_turn_soon = !self.queue.is_empty();
                Some(if is_turn_soon {
                    until_tick.min(TURN)
                } else {
                    until_tick
                })
            } else {
                None
            };
            let is_idle = timeout.is_none();
            if let Err(error) = self.common.epoll.wait(&mut changes, timeout) {
                // Only a broken queue fails, and without it nothing can be copied.
                log::error!("the splice has stopped: {error}");
                return;
            }
            if is_idle {
                // Ticks were not counted: the first one is a whole tick away.
                self.next_tick = Instant::now() + TICK;
            }
            if self.common.turns.heed(Instant::now()) {
                self.let_in();
            }
            for change in changes.iter() {
                self.react(change);
            }
            for id in std::mem::take(&mut self.unfinished) {
                self.resume(id);
            }
            self.obey();
            self.accept();
            // All that had been said is heard before silence is judged.
            if !changes.is_full() && Instant::now() >= self.next_tick {
                self.tick();
            }
        }
    }

    /// Whether anything depends on time.
    fn needs_ticks(&self) -> bool {
        !self.watched.is_empty()
            || self.accept_from > self.common.tick
            || self.dials.values().any(Dial::is_pausing)
            || self.listeners.iter().any(|listener| listener.may_accept)
    }

    fn react(&mut self, change: Change) {
        let (id, side) = match change.token & 3 {
            0 if change.token == WAKE_TOKEN => {
                self.shared.wake.drain();
                return;
            }
            0 => {
                let index = (change.token >> 2) as usize - 1;
                self.listeners[index].may_accept = true;
                return;
            }
            1 => (change.token >> 2, Side::Peer),
            _ => (change.token >> 2, Side::Lane),
        };
        // Changes of a link that ended a moment ago are still on their way.
        if let Some(link) = self.links.get_mut(&id) {
            let turn = link.react(side, change, &mut self.common, &self.shared.events);
            self.conclude(id, turn);
        }
    }

    fn resume(&mut self, id: u64) {
        if let Some(link) = self.links.get_mut(&id) {
            link.is_unfinished = false;
            let turn = link.resume(&mut self.common, &self.shared.events);
            self.conclude(id, turn);
        }
    }

    /// Lets in those whose turn it is. Whoever has just greeted and finds a turn does not come here,
    /// so this may take its time.
    fn let_in(&mut self) {
        for _ in 0..self.queue.len().min(QUEUE_LOOKS_MAX) {
            let Some(id) = self.queue.pop_front() else {
                return;
            };
            if let Some(link) = self.links.get_mut(&id) {
                link.is_queued = false;
                let turn = link.enter(&mut self.common, &self.shared.events);
                self.conclude(id, turn);
            }
        }
    }

    fn conclude(&mut self, id: u64, turn: Result<Turn, End>) {
        match turn {
            Err(end) => return self.end(id, end),
            Ok(Turn::Over) => {}
            Ok(Turn::Again) => {
                if let Some(link) = self.links.get_mut(&id)
                    && !link.is_unfinished
                {
                    link.is_unfinished = true;
                    self.unfinished.push(id);
                }
            }
        }
        self.watch(id);
    }

    fn watch(&mut self, id: u64) {
        if let Some(link) = self.links.get_mut(&id)
            && link.needs_watch()
            && !link.is_watched
        {
            link.is_watched = true;
            self.watched.push(id);
        }
        if let Some(link) = self.links.get_mut(&id)
            && link.is_queueing()
            && !link.is_queued
        {
            link.is_queued = true;
            self.queue.push_back(id);
        }
    }

    fn end(&mut self, id: u64, end: End) {
        let Some(link) = self.remove(id) else {
            return;
        };
        let address = link.address();
        match end {
            End::Known(reason) => log::debug!("link={id} {address}: {reason}"),
            End::Unknown(stranger) => {
                self.shared.strangers.fetch_add(1, Ordering::Relaxed);
                log::debug!("link={id} {address} was dropped: {stranger}");
            }
        }
        let was_known = link.is_known();
        // The sockets are closed before the loop hears of it.
        drop(link);
        if was_known {
            let reason = match end {
                End::Known(reason) => reason,
                End::Unknown(_) => GoneReason::Eof,
            };
            self.shared.events.push(SpliceEvent::Gone {
                link: LinkId(id),
                reason,
            });
        }
    }

    fn remove(&mut self, id: u64) -> Option<Link> {
        let link = self.links.remove(&id)?;
        self.shared.links.store(self.links.len(), Ordering::Relaxed);
        if let Origin::Dial(dial) = link.origin()
            && let Some(dial) = self.dials.get_mut(&dial)
        {
            dial.ended(link.is_ready(), self.common.tick);
        }
        Some(link)
    }

    fn obey(&mut self) {
        for command in self.shared.take_commands() {
            match command {
                Command::Close(link) => self.end(link.0, End::Known(GoneReason::Closed)),
                Command::Release(link) => drop(self.remove(link.0)),
                Command::Dial {
                    id,
                    endpoint,
                    address,
                    curve,
                } => {
                    self.dials.insert(id, Dial::new(endpoint, address, curve));
                    self.attempt(id);
                }
                Command::Undial(id) => {
                    let link = self.dials.remove(&id).and_then(|dial| dial.link());
                    if let Some(link) = link {
                        self.end(link.0, End::Known(GoneReason::Closed));
                    }
                }
                Command::Resolved { id, found } => {
                    if let Some(dial) = self.dials.get_mut(&id) {
                        dial.resolved(found, self.common.tick);
                        self.attempt(id);
                    }
                }
            }
        }
    }

    /// A moment of the thread's own time. However late it comes, it is one.
    fn tick(&mut self) {
        self.next_tick = Instant::now() + TICK;
        self.common.tick += 1;
        for id in std::mem::take(&mut self.watched) {
            let Some(link) = self.links.get_mut(&id) else {
                continue;
            };
            link.is_watched = false;
            match link.judge(self.common.tick) {
                Ok(()) => self.watch(id),
                Err(end) => self.end(id, end),
            }
        }
        let due: Vec<_> = self.dials.keys().copied().collect();
        for id in due {
            self.attempt(id);
        }
    }
}
