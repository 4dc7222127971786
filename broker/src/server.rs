//! The one loop: sockets in, events to the core, actions out.
//!
//! It touches sockets and the clock and decides nothing. Every turn reads a bounded number of
//! messages from each door before it sends what has piled up, so that calls and replies travel
//! many to a message under load and at once when there is none.

mod actions;

use crate::clock::Clock;
use crate::desk::Front;
use crate::events::Events;
use crate::frontend::{Frontend, Incoming};
use crate::keyring::Keyring;
use crate::known::KnownMethods;
use crate::lanes::Lanes;
use crate::memory::Memory;
use crate::reply::Reply;
use crate::request::Request;
use crate::room::{Refused, Room};
use crate::streamed::Streamed;
use crate::workers::{Received, Workers};
use crate::{CoreAction, CoreEvent};
use log::info;
use muster_core::{Core, Event, MonoTime};
use muster_proto::socket::{self, Interest, PollItem, SocketError, Wake};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Messages read from one door before the others have their turn.
const DOOR_MESSAGES_MAX: usize = 256;

/// Messages that share a look at the clock: some tens of microseconds.
const CLOCK_MESSAGES: usize = 8;

/// Turns without a pause after which somebody may have begun to watch.
const WATCHERS_WAIT_TURNS: u32 = 64;

/// How long the last answers may take to go out.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// How often somebody asked the broker to leave, and how the loop hears of it.
#[derive(Clone, Debug)]
pub struct Leave {
    /// Signals so far.
    pub asked: Arc<AtomicU32>,
    /// Wakes the loop.
    pub wake: Wake,
}

/// What there is to be read.
#[derive(Clone, Copy, Debug)]
struct Unread {
    workers: bool,
    clients: bool,
    lanes: bool,
    watchers: bool,
    /// Somebody woke the loop.
    wake: bool,
}

impl Unread {
    const EVERYTHING: Unread = Unread {
        workers: true,
        clients: true,
        lanes: true,
        watchers: true,
        wake: true,
    };
}

/// The broker at work.
pub struct Server {
    pub(crate) core: Core<Request, Reply>,
    pub(crate) clock: Clock,
    pub(crate) frontend: Frontend,
    pub(crate) workers: Workers,
    events: Events,
    pub(crate) lanes: Lanes,
    pub(crate) about: crate::desk::About,
    leave: Leave,
    leaving: u32,
    grace: Duration,
    known: KnownMethods,
    /// The time of what is being read.
    now: MonoTime,
    /// Events that came up while something else was done.
    later: Vec<CoreEvent>,
    keyring: Option<Keyring>,
    /// Users whose key was revoked and whose connections still have to be cut off.
    revoked: Vec<String>,
    is_drained: bool,
    memory: Memory,
    refused: Refused,
    /// Turns that found something to read when they ended.
    busy_turns: u32,
}

/// What the loop is made of.
pub struct Parts {
    /// The decisions.
    pub core: Core<Request, Reply>,
    /// The clock that the core's times come from.
    pub clock: Clock,
    /// The clients' door.
    pub frontend: Frontend,
    /// The managed workers' door.
    pub workers: Workers,
    /// The watchers' door.
    pub events: Events,
    /// The stock workers' door.
    pub lanes: Lanes,
    /// What the broker says of itself.
    pub about: crate::desk::About,
    /// How it is told to leave.
    pub leave: Leave,
    /// How long a drain may take.
    pub grace: Duration,
    /// Where the names of methods are kept for a successor.
    pub known: KnownMethods,
    /// The keys, where some door asks for them.
    pub keyring: Option<Keyring>,
    /// How many connections there may be.
    pub room: Room,
}

impl Server {
    /// A loop that has not started.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            core,
            clock,
            frontend,
            workers,
            events,
            lanes,
            about,
            leave,
            grace,
            known,
            keyring,
            room,
        } = parts;
        Server {
            core,
            clock,
            frontend,
            workers,
            events,
            lanes,
            about,
            leave,
            leaving: 0,
            grace,
            known,
            now: clock.now(),
            later: Vec::new(),
            keyring,
            revoked: Vec::new(),
            is_drained: false,
            memory: Memory::default(),
            refused: Refused::new(room),
            busy_turns: 0,
        }
    }

    /// Serves until a drain is over or a second signal comes.
    ///
    /// # Errors
    /// [`SocketError`] when a socket fails for good.
    pub fn run(&mut self) -> Result<(), SocketError> {
        let mut unread = Unread::EVERYTHING;
        while !self.is_drained && self.leaving < 2 {
            let left = self.turn(unread)?;
            unread = self.wait(left)?;
            self.heed_signals(unread.wake);
        }
        let core = &self.core;
        self.known.save(core.known(), core.served_by_lanes());
        // The last answers are with libzmq, not yet with their clients.
        self.frontend.socket().set_linger(LAST_ANSWERS)?;
        Ok(())
    }

    /// Reads what is there, sends what came of it. Gives the doors that have more.
    fn turn(&mut self, unread: Unread) -> Result<Unread, SocketError> {
        let from_workers = if unread.workers {
            self.read_workers()?
        } else {
            0
        };
        let is_due = self.lanes.next_due().is_some_and(|at| at <= self.now);
        let from_lanes = if unread.lanes || is_due {
            self.read_lanes()?
        } else {
            0
        };
        let from_clients = if unread.clients {
            self.read_clients()?
        } else {
            0
        };
        self.run_later();
        self.cut_off_revoked();
        // What is published, and a door opened anew, may take in word of a subscription, which no
        // descriptor tells of then.
        let is_reopened = self.events.reopen();
        if (unread.watchers || is_reopened || self.events.is_watched())
            && let Some(is_watched) = self.events.heed()?
        {
            self.core.watch(is_watched);
        }
        // All input before any verdict on who stayed silent: after a freeze everybody did.
        self.now = self.clock.now();
        let messages = from_workers + from_lanes + from_clients;
        let is_due = |at: Option<MonoTime>| at.is_some_and(|at| at <= self.now);
        if messages == 0 && is_due(self.core.poll_deadline()) {
            self.tell(Event::Tick);
            self.memory.stir(self.now);
        } else if messages > 0 {
            self.memory.stir(self.now);
        }
        if self.memory.due().is_some_and(|at| at <= self.now) {
            let held_bytes = self.core.held_bytes() + self.frontend.held_bytes();
            self.memory.look(self.now, held_bytes);
            self.refused.tell();
        }
        if self.frontend.next_due().is_some_and(|at| at <= self.now) {
            self.frontend.retry(self.now);
        }
        self.flush();
        Ok(Unread {
            workers: from_workers == DOOR_MESSAGES_MAX,
            clients: from_clients == DOOR_MESSAGES_MAX,
            lanes: self.lanes.is_pending(),
            watchers: false,
            wake: false,
        })
    }

    fn read_workers(&mut self) -> Result<usize, SocketError> {
        for read in 0..DOOR_MESSAGES_MAX {
            self.look_at_clock(read);
            match self.workers.receive()? {
                Received::Event(event) => self.tell(event),
                Received::Stream(streamed) => self.pass_on(&streamed),
                Received::Nothing => {}
                Received::Empty => return Ok(read),
            }
        }
        Ok(DOOR_MESSAGES_MAX)
    }

    fn read_lanes(&mut self) -> Result<usize, SocketError> {
        self.now = self.clock.now();
        self.lanes.look(self.now)?;
        for read in 0..DOOR_MESSAGES_MAX {
            match self.lanes.receive()? {
                Some(event) => self.tell(event),
                None => return Ok(read),
            }
        }
        Ok(DOOR_MESSAGES_MAX)
    }

    fn read_clients(&mut self) -> Result<usize, SocketError> {
        for read in 0..DOOR_MESSAGES_MAX {
            self.look_at_clock(read);
            let mut front = Front {
                core: &self.core,
                workers: &self.workers,
                lanes: &mut self.lanes,
                about: &self.about,
                clock: &self.clock,
                clients: self.frontend.clients(),
                replies_dropped: self.frontend.dropped,
                later: &mut self.later,
                keyring: self.keyring.as_ref(),
                revoked: &mut self.revoked,
            };
            match self.frontend.receive(&mut front)? {
                Some(Incoming::Event(event)) => self.tell(event),
                Some(Incoming::Nothing) => {}
                None => return Ok(read),
            }
        }
        Ok(DOOR_MESSAGES_MAX)
    }

    /// A few messages share a look at the clock, which costs as much as some of the work on one.
    fn look_at_clock(&mut self, read: usize) {
        if read.is_multiple_of(CLOCK_MESSAGES) {
            self.now = self.clock.now();
        }
    }

    /// Cuts off whoever came with a key that was revoked.
    fn cut_off_revoked(&mut self) {
        for user in std::mem::take(&mut self.revoked) {
            for client in self.frontend.revoke(&user) {
                self.tell(Event::ClientGone { client });
            }
            for event in self.workers.revoke(&user) {
                self.tell(event);
            }
            self.lanes.revoke(&user);
            self.events.revoke();
        }
    }

    fn run_later(&mut self) {
        while let Some(event) = self.later.pop() {
            self.tell(event);
        }
    }

    /// Passes a stream item on to the caller, if its call still runs there.
    fn pass_on(&mut self, streamed: &Streamed) {
        let found = self.core.listener(streamed.slot, streamed.dispatch);
        if let Some((client, request)) = found {
            self.frontend.stream(client, request, streamed);
        }
    }

    /// Waits until something is there to be read or due. `left` was left to be read.
    fn wait(&mut self, left: Unread) -> Result<Unread, SocketError> {
        let mut unread = left;
        // What was sent may have taken in word of messages; the descriptors tell of it no more.
        unread.workers |= self.workers.socket().has_message()?;
        unread.clients |= self.frontend.socket().has_message()?;
        if unread.workers || unread.clients || unread.lanes {
            // The other doors have their turn, too.
            unread.lanes = true;
            self.busy_turns = self.busy_turns.wrapping_add(1);
            unread.watchers = self.busy_turns.is_multiple_of(WATCHERS_WAIT_TURNS);
            unread.wake = self.leave.asked.load(Ordering::Relaxed) != self.leaving;
            return Ok(unread);
        }
        let due = [
            self.core.poll_deadline(),
            self.frontend.next_due(),
            self.lanes.next_due(),
            self.memory.due(),
        ];
        let due = due.into_iter().flatten().min();
        let timeout = due.map(|at: MonoTime| at.since(self.clock.now()));
        let core = &self.core;
        self.known.save_if_new(core.known(), core.served_by_lanes());
        let mut items = [
            PollItem::wake_of(self.workers.socket())?,
            PollItem::wake_of(self.frontend.socket())?,
            PollItem::fd(&self.leave.wake, Interest::Read),
            PollItem::fd(&self.lanes, Interest::Read),
            PollItem::wake_of(self.events.socket())?,
        ];
        socket::poll(&mut items, timeout)?;
        self.now = self.clock.now();
        let [workers, clients, wake, lanes, watchers] = items.map(|item| item.is_readable());
        Ok(Unread {
            workers,
            clients,
            lanes,
            watchers,
            wake,
        })
    }

    fn heed_signals(&mut self, is_woken: bool) {
        if !is_woken {
            return;
        }
        self.leave.wake.drain();
        let asked = self.leave.asked.load(Ordering::Relaxed);
        if asked > 0 && self.leaving == 0 {
            let grace_s = self.grace.as_secs_f64();
            info!(
                "asked to leave: finishing what runs, for {grace_s} s at most; ask again to stop"
            );
            self.tell(Event::Drain { grace: self.grace });
            self.flush();
        }
        self.leaving = asked;
    }
}
