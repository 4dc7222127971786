//! The `workers` ROUTER: the worker protocol's messages into events, dispatches into messages.
//!
//! A worker process has one control link and a data link per slot, all peers of one socket. Calls
//! for a slot are packed while a turn of the loop lasts and go out as one message at its end.

use crate::reply::{Form, Reply};
use crate::request::{Kind, Request};
use crate::streamed::Streamed;
use log::{debug, info, warn};
use muster_core::{
    EndReason, Ending, Event, NestId, Offer, Once, SlotId, Target, Verdict, WorkerId, WorkerKind,
    WorkerSpec,
};
use muster_proto::code::Code;
use muster_proto::id::{DispatchId, Epoch};
use muster_proto::limits;
use muster_proto::socket::{Frame, Nonce, SendOutcome, Socket, SocketError};
use muster_proto::worker::{
    self, Bytes, Call, Command, Join, Nest, NotOpened, Recalled, Refused, Registration, SlotCall,
    SlotLost, SlotReady, Welcome, WireError, flag,
};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

type CoreEvent = Event<Request, Reply>;

/// Up to here parameters travel inside the packed frame.
const INLINE_BYTES_MAX: usize = 4 << 10;

/// A slot's packed calls are sent before the turn ends when they come to this much.
const PACKED_BYTES_MAX: usize = 64 << 10;

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
    events: VecDeque<CoreEvent>,
    /// What the last message brought for a caller.
    streamed: Option<Streamed>,
    /// Keys that were revoked: their links stay open until they end, and nothing is read there.
    revoked: FxHashSet<String>,
    /// TCP comes without keys, so nobody there may offer to run what clients send.
    keyless_tcp: bool,
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
    pub fn new(socket: Socket, disconnect: Nonce, epoch: Epoch, ids: Ids) -> Self {
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
            events: VecDeque::new(),
            streamed: None,
            revoked: FxHashSet::default(),
            keyless_tcp: ids.keyless_tcp,
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
            warn!("a worker's message is unreadable: {error}");
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

    fn register(&mut self, frames: &[Frame]) -> Result<(), WireError> {
        let routing: Box<[u8]> = frames[0][..].into();
        let refuse = |workers: &mut Self, code: Code, message: String| {
            warn!("a worker is refused: {message}");
            workers.tell_json(
                &routing,
                Command::Refused,
                &Refused {
                    code: code.number(),
                    message,
                },
            );
        };
        let bytes = frames.get(2).map_or(0, |frame| frame.len());
        if bytes > limits::REGISTRATION_BYTES_MAX {
            let max = limits::REGISTRATION_BYTES_MAX;
            refuse(
                self,
                Code::TooLarge,
                format!("registration is {bytes} bytes, limit {max}"),
            );
            return Ok(());
        }
        let registration: Registration = json_frame(frames, "registration")?;
        if let Some((code, message)) = unacceptable(&registration) {
            refuse(self, code, message);
            return Ok(());
        }
        if self.keyless_tcp && (registration.allow_run || registration.allow_apply) {
            let message = "this broker listens on TCP without keys, so whoever reaches it could run \
                           anything: a worker with --allow-run or --allow-apply is not taken in";
            refuse(self, Code::Forbidden, message.into());
            return Ok(());
        }
        let known = self.by_token.get(registration.token.as_str()).copied();
        let id = known.unwrap_or_else(|| {
            self.last_worker += 1;
            WorkerId(self.last_worker)
        });
        let name = self.free_name(&registration.name, id);
        let registration = Rc::new(Registration {
            name: name.clone(),
            ..registration
        });
        // Over ipc libzmq names user, group and process here.
        let peer = frames[0]
            .property("Peer-Address")
            .filter(|peer| peer.parse::<std::net::IpAddr>().is_ok());
        let address = peer.unwrap_or_else(|| registration.host.clone());
        let user = frames[0].property("User-Id").unwrap_or_default();
        self.by_token.insert(registration.token.as_str().into(), id);
        let slots = match self.workers.remove(&id) {
            Some(old) => {
                if let Some(control) = old.control.filter(|control| **control != *routing) {
                    self.peers.remove(&control);
                }
                old.slots
            }
            None => {
                let (slots, methods) = (registration.slots, registration.methods.len());
                info!("worker={name}: registered, {slots} slots, {methods} methods");
                Vec::new()
            }
        };
        self.events.push_back(Event::WorkerRegistered {
            worker: id,
            spec: spec_of(&registration),
        });
        let welcome = Welcome {
            name,
            epoch: format!("{:016x}", self.epoch.0),
            heartbeat_ms: self.heartbeat.as_millis() as u64,
        };
        self.peers.insert(routing.clone(), Peer::Control(id));
        let link = WorkerLink {
            control: Some(routing.clone()),
            registration,
            address,
            user,
            slots,
        };
        self.workers.insert(id, link);
        self.tell_json(&routing, Command::Welcome, &welcome);
        Ok(())
    }

    /// The wished name, or with a number behind it when another worker has it.
    fn free_name(&self, wished: &str, id: WorkerId) -> String {
        let taken = |name: &str| {
            self.workers
                .iter()
                .any(|(other, link)| *other != id && link.registration.name == name)
        };
        if !taken(wished) {
            return wished.to_owned();
        }
        let numbered = (2..).map(|n: u32| format!("{wished}-{n}"));
        numbered
            .into_iter()
            .find(|name| !taken(name))
            .expect("there are more numbers than workers")
    }

    fn join(&mut self, frames: &[Frame]) -> Result<(), WireError> {
        let join: Join = json_frame(frames, "join")?;
        let routing: Box<[u8]> = frames[0][..].into();
        let Some(&worker) = self.by_token.get(join.token.as_str()) else {
            // Its control link will register; the slot tries again when it has.
            self.tell(&routing, Command::Who, None);
            return Ok(());
        };
        let nest = join.nest.as_ref().and_then(nest_of);
        let slots_max = match nest {
            Some(_) => (1 + limits::NESTED_SLOTS_MAX) * limits::WORKER_SLOTS_MAX,
            None => limits::WORKER_SLOTS_MAX,
        };
        if !(1..=slots_max).contains(&join.slot) {
            let message = format!("slot {} is not one of 1 to {slots_max}", join.slot);
            let refused = Refused {
                code: Code::InvalidRequest.number(),
                message,
            };
            self.tell_json(&routing, Command::Refused, &refused);
            return Ok(());
        }
        if let Some(Peer::Data(slot)) = self.peers.get(&routing).copied() {
            self.drop_slot(slot, EndReason::Disconnected);
        }
        self.last_slot += 1;
        let id = SlotId(self.last_slot);
        let link = self
            .workers
            .get_mut(&worker)
            .expect("a token names a worker");
        link.slots.push(id);
        self.peers.insert(routing.clone(), Peer::Data(id));
        let (number, packed, frames) = (join.slot, Vec::new(), Vec::new());
        self.slots.insert(
            id,
            SlotLink {
                routing: routing.clone(),
                worker,
                number,
                packed,
                frames,
            },
        );
        debug!("worker={} slot={number}: joined", self.name(worker));
        self.tell(&routing, Command::Joined, None);
        let pid = (join.pid != 0).then_some(join.pid);
        self.events.push_back(match nest {
            None => Event::SlotJoined {
                worker,
                slot: id,
                number,
                pid,
            },
            Some(nest) => Event::NestJoined {
                worker,
                slot: id,
                number,
                pid,
                nest,
            },
        });
        Ok(())
    }

    fn replies(&mut self, slot: SlotId, frames: &mut Vec<Frame>) -> Result<(), WireError> {
        const WHAT: &str = "replies";
        if frames.len() < 3 {
            return Err(WireError::Malformed { what: WHAT });
        }
        let mut rest = frames.split_off(3).into_iter();
        let packed = Rc::new(frames.pop().expect("three frames are there"));
        let none: Rc<[Frame]> = Rc::new([]);
        for reply in worker::Reply::unpack(&packed) {
            let worker::Reply {
                dispatch,
                service_us,
                flags,
                attachments,
                body,
                ..
            } = reply?;
            let form = match flags {
                bits if bits & flag::RAW != 0 => Form::Raw,
                bits if bits & flag::WHOLE != 0 => Form::Whole,
                _ => Form::Value,
            };
            let own = match body {
                Bytes::OwnFrame { .. } => {
                    Some(rest.next().ok_or(WireError::Malformed { what: WHAT })?)
                }
                Bytes::Inline(_) => None,
            };
            let attached: Rc<[Frame]> = if attachments == 0 {
                none.clone()
            } else {
                let attached: Rc<[Frame]> = rest.by_ref().take(attachments.into()).collect();
                if attached.len() < usize::from(attachments) {
                    return Err(WireError::Malformed { what: WHAT });
                }
                attached
            };
            let reply = match (body, own) {
                (Bytes::Inline(part), _) => Reply::packed(&packed, part, form, attached),
                (Bytes::OwnFrame { .. }, Some(frame)) => Reply::frame(frame, form, attached),
                (Bytes::OwnFrame { .. }, None) => unreachable!("taken above"),
            };
            let verdict = verdict_of(&reply, flags);
            let service = Some(Duration::from_micros(service_us.into()));
            self.events.push_back(Event::Replied {
                slot,
                dispatch,
                service,
                verdict,
                reply,
            });
        }
        Ok(())
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

    fn peer_gone(&mut self, routing: &[u8]) {
        match self.peers.remove(routing) {
            Some(Peer::Data(slot)) => self.drop_slot(slot, EndReason::Disconnected),
            Some(Peer::Control(worker)) => {
                if let Some(link) = self.workers.get_mut(&worker) {
                    link.control = None;
                }
                self.give_up_unlinked(worker);
            }
            None => {}
        }
    }

    /// With its last link a worker is gone; with one left its heartbeat decides.
    fn give_up_unlinked(&mut self, worker: WorkerId) {
        let Some(link) = self.workers.get(&worker) else {
            return;
        };
        if link.control.is_none() && link.slots.is_empty() {
            warn!("worker={}: gone", link.registration.name);
            self.forget(worker);
            self.events.push_back(Event::WorkerGone {
                worker,
                reason: EndReason::Disconnected,
            });
        }
    }

    fn drop_slot(&mut self, slot: SlotId, reason: EndReason) {
        let Some(link) = self.slots.remove(&slot) else {
            return;
        };
        self.peers.remove(&link.routing);
        self.events.push_back(Event::SlotGone { slot, reason });
        if let Some(worker) = self.workers.get_mut(&link.worker) {
            worker.slots.retain(|&other| other != slot);
        }
        self.give_up_unlinked(link.worker);
    }

    /// Drops a worker's links: what comes over them from now on is a stranger's.
    pub fn forget(&mut self, worker: WorkerId) {
        let Some(link) = self.workers.remove(&worker) else {
            return;
        };
        self.by_token.remove(link.registration.token.as_str());
        if let Some(control) = link.control {
            self.peers.remove(&control);
        }
        for slot in link.slots {
            if let Some(slot) = self.slots.remove(&slot) {
                self.peers.remove(&slot.routing);
            }
        }
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

    /// Forgets the workers that came with a key, which is worth nothing from now on.
    pub fn revoke(&mut self, user: &str) -> Vec<CoreEvent> {
        self.revoked.insert(user.to_owned());
        let theirs = self.workers.iter().filter(|(_, link)| link.user == user);
        let mut ids: Vec<WorkerId> = theirs.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        let gone = ids.into_iter().map(|worker| {
            self.forget(worker);
            Event::WorkerGone {
                worker,
                reason: EndReason::Disconnected,
            }
        });
        gone.collect()
    }

    /// Packs a call for a slot. It goes out with [`Self::flush`].
    ///
    /// Returns the slot when its link is gone.
    pub fn dispatch(&mut self, order: &Order<'_>) -> Result<(), SlotId> {
        let slot = self.slots.get_mut(&order.slot).ok_or(order.slot)?;
        if slot.packed.is_empty() {
            self.unsent.push(order.slot);
        }
        order.pack(&mut slot.packed, &mut slot.frames);
        if slot.packed.len() >= PACKED_BYTES_MAX || slot.frames.len() >= 32 {
            return self.flush_slot(order.slot);
        }
        Ok(())
    }

    /// Sends what is packed. Gives the slots whose links are gone.
    pub fn flush(&mut self) -> Vec<SlotId> {
        let mut gone = Vec::new();
        let mut unsent = std::mem::take(&mut self.unsent);
        for slot in unsent.drain(..) {
            if let Err(slot) = self.flush_slot(slot) {
                gone.push(slot);
            }
        }
        self.unsent = unsent;
        // What is recalled has been sent now, so the answer can't overtake it.
        for (worker, command, packed) in std::mem::take(&mut self.untold) {
            let control = self
                .workers
                .get(&worker)
                .and_then(|link| link.control.as_ref());
            if let Some(control) = control {
                self.tell(control, command, Some(packed.into()));
            }
        }
        gone
    }

    fn flush_slot(&mut self, id: SlotId) -> Result<(), SlotId> {
        let Some(slot) = self.slots.get_mut(&id) else {
            return Ok(());
        };
        if slot.packed.is_empty() {
            return Ok(());
        }
        let mut message = Vec::with_capacity(3 + slot.frames.len());
        message.push(Frame::from(&slot.routing[..]));
        message.push(Frame::from(&Command::Calls.frame()));
        let spare = Vec::with_capacity(slot.packed.len());
        message.push(Frame::from(std::mem::replace(&mut slot.packed, spare)));
        message.append(&mut slot.frames);
        match self.socket.send_frames(&mut message) {
            Ok(SendOutcome::Sent) => Ok(()),
            _ => Err(id),
        }
    }

    /// Tells a worker to stop or give back a dispatch, together with others at [`Self::flush`].
    pub fn tell_of_call(&mut self, command: Command, slot: SlotId, seq: u32, dispatch: DispatchId) {
        let Some(link) = self.slots.get(&slot) else {
            return;
        };
        let call = SlotCall {
            slot: link.number,
            seq,
            dispatch,
        };
        // Few workers are told something in one turn.
        let told = self
            .untold
            .iter_mut()
            .find(|(worker, told, _)| (*worker, *told) == (link.worker, command));
        match told {
            Some((_, _, packed)) => call.pack(packed),
            None => {
                let mut packed = Vec::with_capacity(32);
                call.pack(&mut packed);
                self.untold.push((link.worker, command, packed));
            }
        }
    }

    /// Asks a worker for a slot for the calls inside another.
    pub fn open_slot(&mut self, worker: WorkerId, nest: NestId) {
        let text = serde_json::to_string(&Nest {
            call: nest.call.to_string(),
            attempt: nest.attempt,
        });
        if let Ok(text) = text {
            self.command(worker, Command::Open, &text);
        }
    }

    /// Has a worker close such a slot.
    pub fn close_slot(&mut self, slot: SlotId) {
        if let Some(link) = self.slots.get(&slot) {
            let (worker, number) = (link.worker, link.number);
            self.command(worker, Command::Close, &number.to_string());
        }
    }

    /// Sends a worker a control command with a text. `false`: it has no control link now.
    pub fn command(&self, worker: WorkerId, command: Command, text: &str) -> bool {
        let control = self
            .workers
            .get(&worker)
            .and_then(|worker| worker.control.as_ref());
        let Some(control) = control else { return false };
        self.tell(control, command, Some(text.into()))
    }

    fn tell_json(&self, routing: &[u8], command: Command, body: &impl Serialize) {
        let body = serde_json::to_vec(body).expect("protocol messages have string keys only");
        self.tell(routing, command, Some(body.into()));
    }

    fn tell(&self, routing: &[u8], command: Command, body: Option<Frame>) -> bool {
        let head = [Frame::from(routing), Frame::from(&command.frame())];
        matches!(
            self.socket.send(head.into_iter().chain(body)),
            Ok(SendOutcome::Sent)
        )
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

/// A call on its way to a slot.
#[derive(Debug)]
pub struct Order<'a> {
    /// The slot.
    pub slot: SlotId,
    /// The fence.
    pub dispatch: DispatchId,
    /// Its number in the slot.
    pub seq: u32,
    /// Time left.
    pub remaining: Option<Duration>,
    /// Whom it is for.
    pub target: &'a Target,
    /// The call.
    pub request: &'a Request,
}

impl Order<'_> {
    fn pack(&self, packed: &mut Vec<u8>, frames: &mut Vec<Frame>) {
        let request = self.request;
        let method = match self.target {
            Target::Method(method) | Target::MethodAt { method, .. } => method,
            Target::Raw | Target::RawAt(_) => "",
        };
        let extra = request.extra();
        let items = extra.map_or(0, |extra| extra.items);
        let remaining_ms = match self.remaining {
            // Rounded up: zero would mean none.
            Some(left) => {
                u32::try_from(left.as_micros().div_ceil(1_000).max(1)).unwrap_or(u32::MAX)
            }
            None => extra.map_or(0, |extra| extra.item_timeout_ms),
        };
        let mut flags = 0;
        if request.kind == Kind::Raw {
            flags |= flag::RAW;
        }
        if extra.is_some_and(|extra| extra.stream) {
            flags |= flag::STREAM;
        }
        if request.takes_frames() {
            flags |= flag::FRAMES;
        }
        let span = match request.kind {
            Kind::Raw => 0..request.body().len(),
            _ => request.params_span(),
        };
        let own_frame = request
            .body_frame()
            .filter(|_| span.len() > INLINE_BYTES_MAX);
        let body = match &own_frame {
            Some(_) => Bytes::OwnFrame {
                start: span.start as u32,
                len: span.len() as u32,
            },
            None => Bytes::Inline(&request.body()[span]),
        };
        let call = Call {
            dispatch: self.dispatch,
            seq: self.seq,
            remaining_ms,
            items,
            flags,
            attachments: request.attachments().len() as u8,
            id: if request.kind == Kind::Raw {
                ""
            } else {
                request.id().unwrap_or("null")
            },
            method,
            body,
        };
        call.pack(packed);
        frames.extend(own_frame);
        frames.extend(request.attachments().iter().map(Frame::share));
    }
}

fn json_frame<'a, T: serde::Deserialize<'a>>(
    frames: &'a [Frame],
    what: &'static str,
) -> Result<T, WireError> {
    let frame = frames.get(2).ok_or(WireError::Malformed { what })?;
    serde_json::from_slice(frame).map_err(|_| WireError::Malformed { what })
}

fn verdict_of(reply: &Reply, flags: u8) -> Verdict {
    let is_json = || serde_json::from_slice::<serde::de::IgnoredAny>(reply.bytes()).is_ok();
    match reply.form() {
        Form::Raw if flags & flag::ERROR == 0 => Verdict::Result,
        _ if !is_json() => Verdict::Garbage,
        _ if flags & flag::ERROR != 0 => Verdict::Error,
        _ => Verdict::Result,
    }
}

/// The nest that a worker names, if it can be one.
fn nest_of(nest: &Nest) -> Option<NestId> {
    let (call, attempt) = (nest.call.parse().ok()?, nest.attempt);
    Some(NestId { call, attempt })
}

fn ending_of(lost: SlotLost) -> Ending {
    let reason = if lost.on_purpose {
        EndReason::OnPurpose
    } else {
        EndReason::ChildEnded
    };
    Ending {
        reason,
        exit_code: lost.exit_code,
        signal: lost.signal,
        out_of_memory: lost.out_of_memory,
        stderr_tail: cut(lost.stderr_tail, limits::STDERR_TAIL_BYTES_MAX),
    }
}

/// The last `bytes_max` bytes, from a character's start.
fn cut(text: String, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text;
    }
    let from = (text.len() - bytes_max..).find(|&at| text.is_char_boundary(at));
    text[from.unwrap_or(text.len())..].to_owned()
}

fn spec_of(registration: &Registration) -> WorkerSpec {
    let methods = registration.methods.iter();
    let once = |once: bool| if once { Once::Yes } else { Once::No };
    WorkerSpec {
        name: registration.name.clone(),
        host: registration.host.clone(),
        pid: Some(registration.pid),
        kind: WorkerKind::Managed,
        slots: registration.slots,
        offer: Offer {
            methods: methods
                .map(|m| (m.name.as_str().into(), once(m.once)))
                .collect(),
            anything: false,
            raw: registration.raw,
        },
    }
}

/// What is wrong with a registration, if anything.
fn unacceptable(registration: &Registration) -> Option<(Code, String)> {
    let (low, high) = registration.protocol;
    if !(low..=high).contains(&worker::VERSION) {
        let message = format!(
            "worker speaks protocol versions {low} to {high}, this broker {}",
            worker::VERSION
        );
        return Some((Code::InvalidRequest, message));
    }
    let too_large = |what: &str, size: usize, max: usize| {
        (size > max).then(|| (Code::TooLarge, format!("{what} is {size}, limit {max}")))
    };
    if registration.name.is_empty() || registration.token.is_empty() {
        return Some((
            Code::InvalidRequest,
            "a worker has a name and a token".into(),
        ));
    }
    if let Some(refusal) = too_large(
        "name",
        registration.name.len(),
        limits::WORKER_NAME_BYTES_MAX,
    )
    .or_else(|| too_large("token", registration.token.len(), limits::KEY_BYTES_MAX))
    .or_else(|| {
        too_large(
            "methods",
            registration.methods.len(),
            limits::WORKER_METHODS_MAX,
        )
    })
    .or_else(|| {
        too_large(
            "slots",
            registration.slots as usize,
            limits::WORKER_SLOTS_MAX as usize,
        )
    }) {
        return Some(refusal);
    }
    registration.methods.iter().find_map(|method| {
        let reserved = crate::introspect::local(&method.name).is_some();
        if reserved || method.name.is_empty() {
            let message = format!("method name `{}` is the broker's own or empty", method.name);
            return Some((Code::InvalidRequest, message));
        }
        too_large("method_bytes", method.name.len(), limits::METHOD_BYTES_MAX)
            .or_else(|| too_large("doc_bytes", method.doc.len(), limits::DOC_BYTES_MAX))
    })
}
