//! Lanes: a DEALER for each stock REP worker, so that the core knows who is free and who holds what.
//!
//! The splice makes the connections, dialled in or out; here a socket meets each of them. One queue
//! over the sockets' descriptors tells which may have something: an edge, told once, so a lane is
//! read until it is empty, and looked at again after every send, which may have used the edge up.

mod lane;
mod server;

pub use lane::Lane;
pub use server::Server;

use crate::epoll::{Changes, Epoll, Interest};
use crate::keyring::Keyring;
use crate::server::CoreEvent;
use crate::splice::{
    Arrival, DialId, GoneReason, LinkId, Origin, Splice, SpliceError, SpliceEvent,
};
use crate::workers::Order;
use crate::zap::Domain;
use log::{info, warn};
use muster_core::{EndReason, Event, MonoTime, SlotId, WorkerId};
use muster_proto::socket::{Context, Frame, Kind, Profile, Socket, SocketError};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// Lanes and managed workers are numbered apart.
const FIRST_ID: u32 = 1 << 31;

/// The splice's own place among the descriptors.
const SPLICE: u64 = u64::MAX;

/// Messages read from one lane before the others have their turn.
const READ_MAX: usize = 64;

/// Calls that may be on their way to one lane; the core's cap is lower.
const CREDIT: u32 = 64;

/// All lanes and the splice that connects them.
pub struct Lanes {
    context: Context,
    splice: Splice,
    keyring: Option<Keyring>,
    /// Listeners (by number) whose peers must show a key.
    keyed_listeners: Vec<bool>,
    epoll: Epoll,
    changes: Changes,
    lanes: FxHashMap<SlotId, Lane>,
    by_link: FxHashMap<LinkId, SlotId>,
    servers: BTreeMap<String, (DialId, Vec<String>)>,
    /// Lanes that may have something to read.
    unread: VecDeque<SlotId>,
    events: VecDeque<CoreEvent>,
    /// The time of what is being read.
    now: MonoTime,
    frames: Vec<Frame>,
    last: u32,
    /// Peers that left during the handshake so far.
    misfits: u64,
}

impl Lanes {
    /// Takes a started splice over. `keyed_listeners`: which of its listeners ask for keys.
    ///
    /// # Errors
    /// The system's, when it is out of descriptors.
    pub fn new(
        context: &Context,
        splice: Splice,
        keyring: Option<Keyring>,
        keyed_listeners: Vec<bool>,
    ) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(&splice, SPLICE, Interest::Read)?;
        Ok(Lanes {
            context: context.clone(),
            splice,
            keyring,
            keyed_listeners,
            epoll,
            changes: Changes::default(),
            lanes: FxHashMap::default(),
            by_link: FxHashMap::default(),
            servers: BTreeMap::new(),
            unread: VecDeque::new(),
            events: VecDeque::new(),
            now: MonoTime::ZERO,
            frames: Vec::new(),
            last: FIRST_ID,
            misfits: 0,
        })
    }

    /// Connects to a server that listens itself, whenever it is there.
    ///
    /// # Errors
    /// [`SpliceError`] says what is wrong with the endpoint.
    pub fn add(&mut self, server: Server) -> Result<(), SpliceError> {
        self.remove(&server.endpoint);
        let dial = self.splice.dial(&server.endpoint, false)?;
        self.servers.insert(server.endpoint, (dial, server.methods));
        Ok(())
    }

    /// Connects to it no more. `false`: it was not connected to.
    pub fn remove(&mut self, endpoint: &str) -> bool {
        let found = self.servers.remove(endpoint);
        if let Some((dial, _)) = found {
            self.splice.undial(dial);
        }
        found.is_some()
    }

    /// Hangs up on the workers that came with a key, which is worth nothing from now on.
    pub fn revoke(&mut self, user: &str) {
        let Some(keyring) = &self.keyring else {
            return;
        };
        for lane in self.lanes.values() {
            if keyring.has_lane(peer_of(&lane.address), user) {
                self.splice.close(lane.link);
            }
        }
    }

    /// A lane by its worker.
    pub fn of_worker(&self, worker: WorkerId) -> Option<&Lane> {
        // A lane has one slot, numbered as its worker.
        self.lanes.get(&SlotId(worker.0))
    }

    /// Whether the slot is a lane.
    pub fn has_slot(slot: SlotId) -> bool {
        slot.0 >= FIRST_ID
    }

    /// What happened, if anything did. [`Self::look`] tells it where to look.
    ///
    /// # Errors
    /// [`SocketError`] when a socket can't be used at all.
    pub fn receive(&mut self) -> Result<Option<CoreEvent>, SocketError> {
        while self.events.is_empty() {
            let Some(&slot) = self.unread.front() else {
                return Ok(None);
            };
            self.read(slot)?;
        }
        Ok(self.events.pop_front())
    }

    /// Takes note of the descriptors that changed.
    pub fn look(&mut self, now: MonoTime) {
        self.now = now;
        let mut changes = std::mem::take(&mut self.changes);
        if let Err(error) = self.epoll.wait(&mut changes, Some(Duration::ZERO)) {
            warn!("lanes: {error}");
        }
        for change in changes.iter() {
            if change.token == SPLICE {
                while let Some(event) = self.splice.try_event() {
                    self.heed(event);
                }
            } else {
                self.list(SlotId(change.token as u32));
            }
        }
        self.changes = changes;
    }

    fn list(&mut self, slot: SlotId) {
        if let Some(lane) = self.lanes.get_mut(&slot)
            && !lane.is_listed
        {
            lane.is_listed = true;
            self.unread.push_back(slot);
        }
    }

    /// Reads what the lane in front has to say, and goes on to the next lane.
    fn read(&mut self, slot: SlotId) -> Result<(), SocketError> {
        self.unread.pop_front();
        let Some(lane) = self.lanes.get_mut(&slot) else {
            return Ok(());
        };
        let first = self.events.len();
        for _ in 0..READ_MAX {
            if !lane.socket.recv_into(&mut self.frames)? {
                lane.is_listed = false;
                break;
            }
            if let Some(event) = lane.reply(slot, &mut self.frames) {
                self.events.push_back(event);
            }
        }
        if lane.is_listed {
            self.unread.push_back(slot);
        }
        let fresh = self.events.range_mut(first..);
        lane.share_service(fresh, self.now);
        Ok(())
    }

    fn heed(&mut self, event: SpliceEvent) {
        match event {
            SpliceEvent::Arrived(arrival) => {
                let link = arrival.link;
                if let Err(error) = self.meet(arrival) {
                    warn!("a stock worker can't be served: {error}");
                    self.splice.close(link);
                }
            }
            SpliceEvent::Ready { link } => {
                if let Some(&slot) = self.by_link.get(&link) {
                    self.ready(slot);
                }
            }
            SpliceEvent::Gone { link, reason } => {
                if let Some(slot) = self.by_link.remove(&link) {
                    self.gone(slot, reason);
                }
            }
        }
    }

    fn meet(&mut self, arrival: Arrival) -> Result<(), SocketError> {
        let Arrival {
            link,
            origin,
            address,
            process,
            answers_pings,
            endpoint,
        } = arrival;
        let profile = Profile::Lane {
            credit: CREDIT,
            heartbeat: answers_pings,
        };
        let socket = Socket::open(&self.context, Kind::Dealer, &profile)?;
        let (name, methods, is_keyed) = match origin {
            Origin::Listener(number) => {
                let is_keyed = self.keyed_listeners.get(number).copied().unwrap_or(false);
                (format!("lane-{link}"), Vec::new(), is_keyed)
            }
            Origin::Dial(dial) => {
                let mut servers = self.servers.iter();
                let found = servers.find(|(_, (id, _))| *id == dial);
                let Some((endpoint, (_, methods))) = found else {
                    self.splice.close(link);
                    return Ok(());
                };
                (endpoint.clone(), methods.clone(), false)
            }
        };
        if let (true, Some(keyring)) = (is_keyed, &self.keyring) {
            socket.set_curve_server(keyring.server_secret())?;
            // The link that ZAP sees is the splice's own, so the domain says who is behind it.
            let domain = format!("{} {}", Domain::Backend.name(), peer_of(&address));
            socket.set_zap_domain(&domain)?;
        }
        socket.connect(&endpoint)?;
        self.last += 1;
        let slot = SlotId(self.last);
        // SAFETY of the discipline, not of memory: the descriptor lives as long as the socket.
        if let Err(error) = self
            .epoll
            .add(socket.borrow_fd()?, u64::from(slot.0), Interest::Read)
        {
            warn!("lanes: {error}");
            self.splice.close(link);
        }
        let lane = Lane {
            socket,
            link,
            worker: WorkerId(self.last),
            name,
            address,
            methods,
            pid: process.map(|process| process.pid).filter(|pid| *pid != 0),
            is_ready: false,
            is_listed: false,
            sent: VecDeque::new(),
            busy_since: MonoTime::ZERO,
        };
        self.lanes.insert(slot, lane);
        self.by_link.insert(link, slot);
        self.list(slot);
        Ok(())
    }

    fn ready(&mut self, slot: SlotId) {
        let Some(lane) = self.lanes.get_mut(&slot) else {
            return;
        };
        lane.is_ready = true;
        info!("lane={}: {} is ready", lane.name, lane.address);
        let spec = lane.spec();
        let (worker, pid) = (lane.worker, lane.pid);
        self.events
            .push_back(Event::WorkerRegistered { worker, spec });
        self.events.push_back(Event::SlotJoined {
            worker,
            slot,
            number: 1,
            pid,
        });
    }

    fn gone(&mut self, slot: SlotId, reason: GoneReason) {
        let Some(mut lane) = self.lanes.remove(&slot) else {
            return;
        };
        if let Some(keyring) = &self.keyring {
            keyring.forget_lane(peer_of(&lane.address));
        }
        // Every whole message has reached the socket, and is an answer that counts.
        while let Ok(true) = lane.socket.recv_into(&mut self.frames) {
            if let Some(event) = lane.reply(slot, &mut self.frames) {
                self.events.push_back(event);
            }
        }
        if !lane.is_ready {
            // Either side may be the first to see that they do not fit.
            let is_misfit = matches!(
                reason,
                GoneReason::Refused | GoneReason::Eof | GoneReason::Reset
            );
            self.misfits += u64::from(is_misfit);
            if is_misfit && is_told(self.misfits) {
                warn!(
                    "{}: no worker ({reason}): a stock worker is a REP socket, or a DEALER or \
                     ROUTER that sends back what is above the body",
                    lane.address
                );
            }
            return;
        }
        info!("lane={}: {} is gone: {reason}", lane.name, lane.address);
        let reason = match reason {
            GoneReason::Silent => EndReason::Silent,
            GoneReason::TooLarge => EndReason::TooLarge,
            _ => EndReason::Disconnected,
        };
        self.events.push_back(Event::SlotGone { slot, reason });
        self.events.push_back(Event::WorkerGone {
            worker: lane.worker,
            reason,
        });
    }

    /// Hands a call to a lane. The slot comes back when its link takes nothing.
    ///
    /// # Errors
    /// The slot, whose link is gone or full.
    pub fn dispatch(&mut self, order: &Order<'_>, now: MonoTime) -> Result<(), SlotId> {
        let slot = order.slot;
        let lane = self.lanes.get_mut(&slot).ok_or(slot)?;
        if !lane.send(order, now, &mut self.frames) {
            return Err(slot);
        }
        self.list(slot);
        Ok(())
    }

    /// Ends a lane.
    pub fn close(&mut self, slot: SlotId) {
        if let Some(lane) = self.lanes.get(&slot) {
            self.splice.close(lane.link);
        }
    }
}

impl AsFd for Lanes {
    /// Readable when [`Lanes::receive`] may have something.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// Whether one of many equal events is worth a line: the first few are, then each of ten times as
/// many. A refused peer dials again and again.
fn is_told(count: u64) -> bool {
    count <= 3 || 10_u64.pow(count.ilog10()) == count
}

/// A peer as its lane's ZAP domain names it.
fn peer_of(address: &str) -> &str {
    address.trim_start_matches("tcp://")
}
