//! The `workers` ROUTER: the worker protocol's messages into events, dispatches into messages.
//!
//! A worker process has one control link and a data link per slot, all peers of one socket. Calls
//! for a slot are packed while a turn of the loop lasts and go out as one message at its end.

mod ending;
mod leaving;
mod order;
mod outgoing;
mod registration;
mod replies;

pub use order::Order;

use crate::CoreEvent;
use crate::keyring::Keyring;
use crate::logging::LogLimit;
use crate::streamed::Streamed;
use ending::ending_of;
use log::{info, warn};
use muster_core::{EndReason, Event, SlotId, WorkerId};
use muster_proto::code::Code;
use muster_proto::id::Epoch;
use muster_proto::limits;
use muster_proto::socket::{Frame, Nonce, Socket, SocketError};
use muster_proto::worker::{
    Command, NotOpened, Recalled, Refused, Registration, SlotLost, SlotReady, WireError,
};
use registration::nest_of;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// The socket with its workers.
pub struct Workers {
    socket: Socket,
    disconnect: Nonce,
    epoch: Epoch,
    heartbeat: Duration,
    peers: FxHashMap<Box<[u8]>, Peer>,
    workers: FxHashMap<WorkerId, WorkerLink>,
    by_token: FxHashMap<Box<str>, WorkerId>,
    slots: FxHashMap<SlotId, SlotLink>,
    /// Slots with calls that have not been sent yet.
    unsent: Vec<SlotId>,
    /// Cancels and recalls that have not been sent yet.
    untold: Vec<(WorkerId, Command, Vec<u8>)>,
    frames: Vec<Frame>,
    /// A message on its way out.
    message: Vec<Frame>,
    events: VecDeque<CoreEvent>,
    /// What the last message brought for a caller.
    streamed: Option<Streamed>,
    /// Keys that were revoked: their links stay open until they end, and nothing is read there.
    revoked: FxHashSet<String>,
    /// TCP comes without keys, so nobody there may offer to run what clients send.
    keyless_tcp: bool,
    /// The keys, where some door asks for them.
    keyring: Option<Keyring>,
    /// Lines about messages that can't be read, and about workers that are refused.
    complaints: LogLimit,
    last_worker: u32,
    last_slot: u32,
}

/// Who is behind a routing id.
#[derive(Clone, Copy, Debug)]
enum Peer {
    Control(WorkerId),
    Data(SlotId),
}

/// A worker with what the core has no use for.
pub struct WorkerLink {
    control: Option<Box<[u8]>>,
    /// What it said of itself.
    pub registration: Rc<Registration>,
    /// Where it connects from.
    pub address: String,
    /// The public key it came with; "" without one.
    user: String,
    slots: Vec<SlotId>,
}

struct SlotLink {
    routing: Box<[u8]>,
    worker: WorkerId,
    number: u32,
    packed: Vec<u8>,
    frames: Vec<Frame>,
}

impl Workers {
    /// Takes a bound socket over.
    pub fn new(
        socket: Socket,
        disconnect: Nonce,
        epoch: Epoch,
        ids: Ids,
        keyring: Option<Keyring>,
    ) -> Self {
        Workers {
            socket,
            disconnect,
            epoch,
            heartbeat: Duration::from_millis(limits::HEARTBEAT_MS),
            peers: FxHashMap::default(),
            workers: FxHashMap::default(),
            by_token: FxHashMap::default(),
            slots: FxHashMap::default(),
            unsent: Vec::new(),
            untold: Vec::new(),
            frames: Vec::with_capacity(8),
            message: Vec::with_capacity(8),
            events: VecDeque::new(),
            streamed: None,
            revoked: FxHashSet::default(),
            keyless_tcp: ids.keyless_tcp,
            keyring,
            complaints: LogLimit::default(),
            last_worker: ids.worker,
            last_slot: ids.slot,
        }
    }

    /// The socket, to wait for.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// A managed worker.
    pub fn worker(&self, id: WorkerId) -> Option<&WorkerLink> {
        self.workers.get(&id)
    }

    /// Every managed worker's registration, in no order.
    pub fn registrations(&self) -> impl Iterator<Item = &Registration> {
        self.workers.values().map(|link| link.registration.as_ref())
    }

    /// Whether a slot is one of a managed worker.
    pub fn has_slot(&self, slot: SlotId) -> bool {
        self.slots.contains_key(&slot)
    }

    /// The next thing that a worker's message means for the core.
    ///
    /// # Errors
    /// [`SocketError`] when the socket is closed.
    pub fn receive(&mut self) -> Result<Received, SocketError> {
        if let Some(event) = self.events.pop_front() {
            return Ok(Received::Event(event));
        }
        let mut frames = std::mem::take(&mut self.frames);
        let received = self.socket.recv_into(&mut frames);
        if let Ok(true) = received {
            self.read(&mut frames);
        }
        frames.clear();
        self.frames = frames;
        match (received?, self.events.pop_front()) {
            (_, Some(event)) => Ok(Received::Event(event)),
            (true, None) => Ok(self
                .streamed
                .take()
                .map_or(Received::Nothing, Received::Stream)),
            (false, None) => Ok(Received::Empty),
        }
    }

    fn read(&mut self, frames: &mut Vec<Frame>) {
        if frames.len() == 2 && self.disconnect.matches(&frames[1]) {
            self.peer_gone(&frames[0]);
            return;
        }
        if !self.revoked.is_empty() && self.is_revoked(&frames[0]) {
            return;
        }
        let command = frames
            .get(1)
            .map_or(Err(WireError::Malformed { what: "message" }), |f| {
                Command::read(f)
            });
        let result = match command {
            Ok(command) => self.obey(command, frames),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            self.complain(&format!("a worker's message is unreadable: {error}"));
            // Whatever it should have said, its calls must not wait for it.
            if let Some(Peer::Data(slot)) = frames.first().and_then(|f| self.peers.get(&f[..])) {
                self.drop_slot(*slot, EndReason::Disconnected);
                return;
            }
            if matches!(error, WireError::Version { .. }) {
                let refused = Refused {
                    code: Code::InvalidRequest.number(),
                    message: error.to_string(),
                };
                let routing: Box<[u8]> = frames[0][..].into();
                self.tell_json(&routing, Command::Refused, &refused);
            }
        }
    }

    /// Says a few things a second that peers can cause as often as they like.
    fn complain(&mut self, text: &str) {
        let verdict = self.complaints.ask();
        if verdict.left_out > 0 {
            warn!("{} more such lines were left out", verdict.left_out);
        }
        if verdict.says {
            warn!("{text}");
        }
    }

    fn obey(&mut self, command: Command, frames: &mut Vec<Frame>) -> Result<(), WireError> {
        let peer = self.peers.get(&frames[0][..]).copied();
        match (command, peer) {
            (Command::Replies, Some(Peer::Data(slot))) => self.replies(slot, frames),
            (Command::Register | Command::Changed, _) => self.register(frames),
            (Command::Join, _) => self.join(frames),
            (Command::Heartbeat, Some(Peer::Control(worker))) => {
                self.events.push_back(Event::WorkerHeard { worker });
                self.tell(&frames[0][..], Command::Beat, None);
                Ok(())
            }
            (Command::Draining, Some(Peer::Control(worker))) => {
                self.events.push_back(Event::WorkerDraining { worker });
                Ok(())
            }
            (Command::Goodbye, Some(Peer::Control(worker))) => {
                info!("worker={}: leaves", self.name(worker));
                self.forget(worker);
                self.events.push_back(Event::WorkerGone {
                    worker,
                    reason: EndReason::Goodbye,
                });
                Ok(())
            }
            (Command::Recalled, Some(Peer::Control(worker))) => self.recalled(worker, frames),
            (Command::NotOpened, Some(Peer::Control(worker))) => {
                let NotOpened { nest, max } = json_frame(frames, "not opened")?;
                self.events
                    .extend(nest_of(&nest).map(|nest| Event::NestRefused {
                        worker,
                        nest,
                        max: max as usize,
                    }));
                Ok(())
            }
            (Command::Lost, Some(Peer::Data(slot))) => {
                let lost: SlotLost = json_frame(frames, "lost")?;
                let ending = ending_of(lost);
                self.events.push_back(Event::ChildLost { slot, ending });
                Ok(())
            }
            (Command::Lost, Some(Peer::Control(worker))) => {
                let lost: SlotLost = json_frame(frames, "lost")?;
                let number = lost.slot;
                let ending = ending_of(lost);
                self.events.push_back(Event::Obituary {
                    worker,
                    number,
                    ending,
                });
                Ok(())
            }
            (Command::Ready, Some(Peer::Data(slot))) => {
                let ready: SlotReady = json_frame(frames, "ready")?;
                self.events.push_back(Event::ChildReady {
                    slot,
                    pid: Some(ready.pid),
                });
                Ok(())
            }
            // A child with a link of its own says it is ready by joining.
            (Command::Ready, Some(Peer::Control(_))) => Ok(()),
            (Command::Stream, Some(Peer::Data(slot))) => {
                self.streamed = Some(Streamed::read(slot, &frames[2..])?);
                Ok(())
            }
            // Nobody the broker knows: a predecessor's worker, or one that was given up.
            (_, None) => {
                self.tell(&frames[0][..], Command::Who, None);
                Ok(())
            }
            (_, Some(_)) => Err(WireError::Malformed {
                what: "command for this link",
            }),
        }
    }

    fn recalled(&mut self, worker: WorkerId, frames: &[Frame]) -> Result<(), WireError> {
        let frame = frames
            .get(2)
            .ok_or(WireError::Malformed { what: "recalled" })?;
        for recalled in Recalled::unpack(frame) {
            let Recalled { call, given_back } = recalled?;
            let slots = &self.workers[&worker].slots;
            let slot = slots.iter().find(|slot| {
                self.slots
                    .get(slot)
                    .is_some_and(|link| link.number == call.slot)
            });
            if let Some(&slot) = slot {
                let dispatch = call.dispatch;
                self.events.push_back(Event::Recalled {
                    slot,
                    dispatch,
                    given_back,
                });
            }
        }
        Ok(())
    }

    fn name(&self, worker: WorkerId) -> &str {
        self.workers
            .get(&worker)
            .map_or("?", |link| &link.registration.name)
    }

    fn is_revoked(&self, frame: &Frame) -> bool {
        frame
            .property("User-Id")
            .is_some_and(|user| self.revoked.contains(&user))
    }
}

/// What [`Workers::receive`] found.
#[derive(Debug)]
pub enum Received {
    /// Something for the core.
    Event(CoreEvent),
    /// Something for a caller, before its answer.
    Stream(Streamed),
    /// A message that means nothing for the core.
    Nothing,
    /// No message.
    Empty,
}

/// Where numbering starts; lanes and managed workers count apart.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ids {
    /// The last worker's number.
    pub worker: u32,
    /// The last slot's number.
    pub slot: u32,
    /// TCP comes without keys.
    pub keyless_tcp: bool,
}

fn json_frame<'a, T: serde::Deserialize<'a>>(
    frames: &'a [Frame],
    what: &'static str,
) -> Result<T, WireError> {
    let frame = frames.get(2).ok_or(WireError::Malformed { what })?;
    serde_json::from_slice(frame).map_err(|_| WireError::Malformed { what })
}
