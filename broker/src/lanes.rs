//! Lanes: a line for each stock REP worker, so that the core knows who is free and who holds what.
//!
//! The splice makes the connections, dialled in or out, and a line carries the messages of each
//! ([`crate::lines`]). Here they get a name, and the core hears of them.

mod lane;
mod server;

pub use lane::Lane;
pub use server::Server;

use crate::CoreEvent;
use crate::keyring::Keyring;
use crate::lines::{LineEvent, Lines, Lock, Outgoing, Received};
use crate::splice::{Arrival, DialId, GoneReason, LinkId, Origin, Splice, SpliceError};
use crate::workers::Order;
use crate::zap::Domain;
use log::{info, warn};
use muster_core::{EndReason, Event, MonoTime, SlotId, WorkerId};
use muster_proto::socket::{Context, Frame, SocketError};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// Lanes and managed workers are numbered apart.
const FIRST_ID: u32 = 1 << 31;

/// Messages read from one lane before the others have their turn.
const READ_MAX: usize = 64;
/// What a read without a whole message counts for among them.
const READ_COST: usize = 8;

/// All lanes and the splice that connects them.
pub struct Lanes {
    lines: Lines,
    keyring: Option<Keyring>,
    /// Listeners (by number) whose peers must show a key.
    keyed_listeners: Vec<bool>,
    lanes: FxHashMap<SlotId, Lane>,
    by_link: FxHashMap<LinkId, SlotId>,
    servers: BTreeMap<String, (DialId, Vec<String>)>,
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
        Ok(Lanes {
            lines: Lines::new(context, splice)?,
            keyring,
            keyed_listeners,
            lanes: FxHashMap::default(),
            by_link: FxHashMap::default(),
            servers: BTreeMap::new(),
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
        let dial = self.lines.dial(&server.endpoint)?;
        self.servers.insert(server.endpoint, (dial, server.methods));
        Ok(())
    }

    /// Connects to it no more. `false`: it was not connected to.
    pub fn remove(&mut self, endpoint: &str) -> bool {
        let found = self.servers.remove(endpoint);
        if let Some((dial, _)) = found {
            self.lines.undial(dial);
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
                self.lines.close(lane.link);
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
            let Some(link) = self.lines.next_unread() else {
                return Ok(None);
            };
            self.read(link)?;
            self.hear()?;
        }
        Ok(self.events.pop_front())
    }

    /// Takes note of the descriptors that changed, and of time that has passed.
    ///
    /// # Errors
    /// [`SocketError`] when a socket can't be used at all.
    pub fn look(&mut self, now: MonoTime) -> Result<(), SocketError> {
        self.now = now;
        self.lines.look(now);
        self.hear()
    }

    /// When to [look](Self::look) though no descriptor says so.
    pub fn next_due(&self) -> Option<MonoTime> {
        self.lines.next_due()
    }

    /// Whether there is something to read or to write at once.
    pub fn is_pending(&self) -> bool {
        !self.events.is_empty() || self.lines.is_pending()
    }

    /// Sends what has piled up.
    pub fn flush(&mut self) {
        self.lines.flush();
    }

    /// Reads what a lane has to say, and goes on to the next lane when it says too much.
    fn read(&mut self, link: LinkId) -> Result<(), SocketError> {
        let lane = self.by_link.get(&link).and_then(|slot| {
            let lane = self.lanes.get_mut(slot)?;
            Some((*slot, lane))
        });
        let Some((slot, lane)) = lane else {
            return Ok(());
        };
        let first = self.events.len();
        let mut left = READ_MAX;
        while left > 0 {
            match self.lines.receive(link, &mut self.frames)? {
                Received::Message => {
                    self.events.push_back(lane.reply(slot, &mut self.frames));
                    left -= 1;
                }
                Received::Nothing => left = left.saturating_sub(READ_COST),
                Received::Empty => break,
            }
        }
        if left == 0 {
            self.lines.list(link);
        }
        let fresh = self.events.range_mut(first..);
        lane.share_service(fresh, self.now);
        Ok(())
    }

    /// Learns who has come and gone.
    fn hear(&mut self) -> Result<(), SocketError> {
        while let Some(event) = self.lines.next_event() {
            match event {
                LineEvent::Arrived(arrival) => {
                    if let Err(error) = self.meet(&arrival) {
                        warn!("a stock worker can't be served: {error}");
                        self.lines.close(arrival.link);
                    }
                }
                LineEvent::Ready(link) => {
                    if let Some(&slot) = self.by_link.get(&link) {
                        self.ready(slot);
                    }
                }
                LineEvent::Gone(link, reason) => {
                    if let Some(slot) = self.by_link.remove(&link) {
                        self.gone(slot, reason)?;
                    }
                    self.lines.forget(link);
                }
            }
        }
        Ok(())
    }

    fn meet(&mut self, arrival: &Arrival) -> Result<(), SocketError> {
        let link = arrival.link;
        let (name, methods, is_keyed) = match arrival.origin {
            Origin::Listener(number) => {
                let is_keyed = self.keyed_listeners.get(number).copied().unwrap_or(false);
                (format!("lane-{link}"), Vec::new(), is_keyed)
            }
            Origin::Dial(dial) => {
                let mut servers = self.servers.iter();
                let found = servers.find(|(_, (id, _))| *id == dial);
                let Some((endpoint, (_, methods))) = found else {
                    self.lines.close(link);
                    return Ok(());
                };
                (endpoint.clone(), methods.clone(), false)
            }
        };
        // The link that ZAP sees is the splice's own, so the domain says who is behind it.
        let domain = format!("{} {}", Domain::Backend.name(), peer_of(&arrival.address));
        let keyring = self.keyring.as_ref().filter(|_| is_keyed);
        let lock = keyring.map(|keyring| Lock {
            server_secret: keyring.server_secret(),
            zap_domain: Some(&domain),
        });
        self.lines.join(arrival, lock)?;
        self.last += 1;
        let slot = SlotId(self.last);
        let process = arrival.process.map(|process| process.pid);
        let lane = Lane {
            link,
            worker: WorkerId(self.last),
            name,
            address: arrival.address.clone(),
            methods,
            pid: process.filter(|pid| *pid != 0),
            is_ready: false,
            sent: VecDeque::new(),
            busy_since: MonoTime::ZERO,
        };
        self.lanes.insert(slot, lane);
        self.by_link.insert(link, slot);
        Ok(())
    }

    fn ready(&mut self, slot: SlotId) {
        let Some(lane) = self.lanes.get_mut(&slot) else {
            return;
        };
        let key = self.keyring.as_ref();
        let key = key.and_then(|keys| keys.lane_key(peer_of(&lane.address)));
        if let Some(key) = key.filter(|key| key.is_limited()) {
            // A stock worker can't say what it offers: it is given what its key names.
            let Some(names) = key.whole_names() else {
                let (address, key) = (&lane.address, &key.name);
                warn!("{address}: key {key} has patterns, a stock worker's needs whole names");
                self.lines.close(lane.link);
                return;
            };
            lane.methods = names.to_vec();
        }
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

    fn gone(&mut self, slot: SlotId, reason: GoneReason) -> Result<(), SocketError> {
        let Some(mut lane) = self.lanes.remove(&slot) else {
            return Ok(());
        };
        if let Some(keyring) = &self.keyring {
            keyring.forget_lane(peer_of(&lane.address));
        }
        // Every whole message has reached our end, and is an answer that counts.
        while self.lines.receive(lane.link, &mut self.frames)? == Received::Message {
            self.events.push_back(lane.reply(slot, &mut self.frames));
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
            return Ok(());
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
        Ok(())
    }

    /// Hands a call to a lane. The slot comes back when its link takes nothing.
    ///
    /// # Errors
    /// The slot, whose link is gone or full.
    pub fn dispatch(&mut self, order: &Order<'_>, now: MonoTime) -> Result<(), SlotId> {
        let slot = order.slot;
        let lane = self.lanes.get_mut(&slot).ok_or(slot)?;
        let fence = order.dispatch.to_bytes();
        let message = Outgoing {
            fence: &fence,
            body: lane::body(order),
            attachments: order.request.attachments(),
        };
        if !self.lines.send(lane.link, message) {
            return Err(slot);
        }
        lane.sent(order, now);
        Ok(())
    }

    /// Ends a lane that does not behave.
    pub fn close(&mut self, slot: SlotId) {
        if let Some(lane) = self.lanes.get(&slot) {
            warn!(
                "lane={}: it sent what is no answer, it is closed",
                lane.name
            );
            self.lines.close(lane.link);
        }
    }
}

impl AsFd for Lanes {
    /// Readable when [`Lanes::receive`] may have something.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lines.as_fd()
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
