//! A small broker for tests: it speaks the worker protocol on a real socket, keeps nothing and
//! decides nothing, so that a test sees every message of a worker.

#![allow(dead_code, reason = "every test file uses a part of it")]

mod program;

#[allow(unused_imports, reason = "every test file uses a part of it")]
pub use program::{Program, children_of, kill, until};

use muster_proto::connection::Connection;
use muster_proto::id::{CallId, DispatchId, Epoch};
use muster_proto::runtime::{Lock, RuntimeDir};
use muster_proto::socket::{Context, Frame, Kind, Nonce, Profile, SendOutcome, Socket};
use muster_proto::worker::{
    Bytes, Call, Command, Join, Recalled, Registration, Reply, SlotCall, SlotLost, Welcome, flag,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

/// Every wait of a test ends by then.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A message of a worker, without its routing id.
#[derive(Debug)]
pub struct Message {
    pub from: Vec<u8>,
    pub command: Command,
    pub frames: Vec<Frame>,
}

impl Message {
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.frames[0]).expect("a JSON body")
    }
}

/// One reply, with its frames.
#[derive(Debug)]
pub struct Answer {
    pub slot: u32,
    pub call: u64,
    pub items: u32,
    pub service_us: u32,
    pub is_error: bool,
    pub is_whole: bool,
    pub body: Vec<u8>,
    pub attachments: Vec<Vec<u8>>,
    /// Which message of replies it came in.
    pub message: usize,
}

impl Answer {
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{error}: {}", String::from_utf8_lossy(&self.body));
        })
    }

    pub fn ok(&self) -> Value {
        assert!(!self.is_error, "{}", self.value());
        self.value()
    }

    pub fn error(&self) -> Value {
        assert!(self.is_error, "{}", self.value());
        self.value()
    }
}

/// A call to be sent.
#[derive(Clone, Debug)]
pub struct NewCall<'a> {
    pub method: &'a str,
    pub params: &'a str,
    pub items: u32,
    pub timeout_ms: u32,
    pub flags: u8,
    pub attachments: Vec<Vec<u8>>,
    /// The parameters travel in a frame of their own.
    pub own_frame: bool,
}

pub fn call<'a>(method: &'a str, params: &'a str) -> NewCall<'a> {
    NewCall {
        method,
        params,
        items: 0,
        timeout_ms: 0,
        flags: 0,
        attachments: Vec::new(),
        own_frame: false,
    }
}

pub fn chunk<'a>(method: &'a str, items: &'a str) -> NewCall<'a> {
    let count = serde_json::from_str::<Vec<Value>>(items).map_or(1, |items| items.len() as u32);
    NewCall {
        items: count.max(1),
        ..call(method, items)
    }
}

struct SlotLink {
    routing: Vec<u8>,
    seq: u32,
    pid: u32,
}

pub struct Broker {
    pub folder: tempfile::TempDir,
    lock: Lock,
    pub context: Context,
    router: Socket,
    pub endpoint: String,
    pub epoch: u64,
    control: Option<Vec<u8>>,
    pub registration: Option<Registration>,
    slots: HashMap<u32, SlotLink>,
    last_call: u64,
    replies: VecDeque<Answer>,
    reply_messages: usize,
    other: VecDeque<Message>,
    pub welcomes: usize,
    pub beats: usize,
}

impl Broker {
    pub fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), 1)
    }

    /// Another run of a broker in the same place.
    pub fn start_in(folder: tempfile::TempDir, epoch: u64) -> Self {
        let dir = RuntimeDir::locate("default", Some(folder.path())).unwrap();
        dir.create().unwrap();
        let lock = dir.lock().unwrap();
        let context = Context::new(1).unwrap();
        let disconnect = Nonce::random().unwrap();
        let router =
            Socket::open(&context, Kind::Router, &Profile::Workers { disconnect }).unwrap();
        let endpoint = dir.endpoint("workers").unwrap();
        router.bind(&endpoint).unwrap();
        let connection = Connection {
            version: 1,
            name: "default".into(),
            host: "here".into(),
            pid: std::process::id(),
            started: 1,
            frontend: dir.endpoint("frontend").unwrap(),
            backend: dir.endpoint("backend").unwrap(),
            workers: endpoint.clone(),
            events: dir.endpoint("events").unwrap(),
            curve: None,
        };
        connection.write(&dir.connection_path()).unwrap();
        Broker {
            folder,
            lock,
            context,
            router,
            endpoint,
            epoch,
            control: None,
            registration: None,
            slots: HashMap::new(),
            last_call: 0,
            replies: VecDeque::new(),
            reply_messages: 0,
            other: VecDeque::new(),
            welcomes: 0,
            beats: 0,
        }
    }

    /// Ends this run; the place stays.
    pub fn end(self) -> tempfile::TempDir {
        let Broker { folder, lock, .. } = self;
        drop(lock);
        folder
    }

    pub fn runtime_dir(&self) -> &Path {
        self.folder.path()
    }

    pub fn connection(&self) -> Connection {
        let dir = RuntimeDir::locate("default", Some(self.folder.path())).unwrap();
        Connection::read(&dir.connection_path()).unwrap()
    }

    fn send(&self, to: &[u8], command: Command, rest: Vec<Frame>) {
        let mut frames = vec![Frame::from(to), Frame::from(&command.frame())];
        frames.extend(rest);
        let _ = self.router.send_frames(&mut frames).unwrap();
    }

    /// Sends a control command.
    pub fn command(&self, command: Command, rest: Vec<Frame>) {
        self.send(
            self.control.as_ref().expect("a registered worker"),
            command,
            rest,
        );
    }

    /// Sends a command to a slot.
    pub fn command_slot(&self, slot: u32, command: Command) {
        self.send(&self.slots[&slot].routing, command, Vec::new());
    }

    /// Takes one message in; false when there was none in time.
    pub fn step(&mut self, timeout: Duration) -> bool {
        let mut frames = Vec::new();
        if !self.router.recv_timeout(&mut frames, timeout).unwrap() {
            return false;
        }
        let from = frames[0].to_vec();
        // What libzmq says of a connection that ended is no message of a worker.
        let Some(Ok(command)) = frames.get(1).map(|frame| Command::read(frame)) else {
            return true;
        };
        let message = Message {
            from,
            command,
            frames: frames.split_off(2),
        };
        self.heed(message);
        true
    }

    fn heed(&mut self, message: Message) {
        match message.command {
            Command::Register => {
                let registration: Registration = message.json();
                let welcome = Welcome {
                    name: registration.name.clone(),
                    epoch: format!("{:016x}", self.epoch),
                    heartbeat_ms: 200,
                };
                self.registration = Some(registration);
                self.control = Some(message.from.clone());
                self.welcomes += 1;
                let body = Frame::from(serde_json::to_vec(&welcome).unwrap());
                self.send(&message.from, Command::Welcome, vec![body]);
            }
            Command::Heartbeat => {
                self.beats += 1;
                let known = self.control.as_ref() == Some(&message.from);
                let answer = if known { Command::Beat } else { Command::Who };
                self.send(&message.from, answer, Vec::new());
            }
            Command::Join => {
                let join: Join = message.json();
                let token = self.registration.as_ref().map(|r| r.token.clone());
                if token != Some(join.token) {
                    return self.send(&message.from, Command::Who, Vec::new());
                }
                let link = SlotLink {
                    routing: message.from.clone(),
                    seq: 0,
                    pid: join.pid,
                };
                self.slots.insert(join.slot, link);
                self.send(&message.from, Command::Joined, Vec::new());
            }
            Command::Replies => self.read_replies(&message),
            _ => self.other.push_back(message),
        }
    }

    fn read_replies(&mut self, message: &Message) {
        let slot = self
            .slots
            .iter()
            .find(|(_, link)| link.routing == message.from);
        let Some((&slot, _)) = slot else {
            return self.send(&message.from, Command::Who, Vec::new());
        };
        self.reply_messages += 1;
        let mut rest = message.frames[1..].iter();
        for reply in Reply::unpack(&message.frames[0]) {
            let reply = reply.unwrap();
            let body = match reply.body {
                Bytes::Inline(bytes) => bytes.to_vec(),
                Bytes::OwnFrame { start, len } => {
                    rest.next().unwrap()[start as usize..][..len as usize].to_vec()
                }
            };
            let attachments = rest
                .by_ref()
                .take(reply.attachments.into())
                .map(|frame| frame.to_vec())
                .collect();
            self.replies.push_back(Answer {
                slot,
                call: reply.dispatch.call.0,
                items: reply.items,
                service_us: reply.service_us,
                is_error: reply.flags & flag::ERROR != 0,
                is_whole: reply.flags & flag::WHOLE != 0,
                body,
                attachments,
                message: self.reply_messages,
            });
        }
        assert!(rest.next().is_none(), "every frame belongs to a reply");
    }

    /// Steps until `is_so`.
    pub fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(
                Instant::now() < deadline,
                "waited in vain: {what}; {:?}",
                self.other
            );
            self.step(Duration::from_millis(20));
        }
    }

    /// Waits until so many slots have joined.
    pub fn await_slots(&mut self, count: usize) -> &Registration {
        self.until("slots", |broker| broker.slots.len() >= count);
        self.registration
            .as_ref()
            .expect("slots join after the registration")
    }

    /// Forgets the slots, so that [`Self::await_slots`] waits for them to join anew.
    pub fn forget_slots(&mut self) {
        self.slots.clear();
    }

    /// Forgets the worker as a whole, as a broker does after missed heartbeats.
    pub fn forget_worker(&mut self) {
        self.control = None;
        self.registration = None;
        self.slots.clear();
    }

    pub fn slot_pid(&self, slot: u32) -> u32 {
        self.slots[&slot].pid
    }

    /// Sends calls in one message; returns their numbers.
    pub fn send_calls(&mut self, slot: u32, calls: &[NewCall<'_>]) -> Vec<u64> {
        let mut packed = Vec::new();
        let mut frames = Vec::new();
        let mut numbers = Vec::new();
        let link = self.slots.get_mut(&slot).expect("the slot has joined");
        for new in calls {
            self.last_call += 1;
            link.seq += 1;
            numbers.push(self.last_call);
            let body = if new.own_frame {
                frames.push(Frame::from(format!("  {}", new.params)));
                Bytes::OwnFrame {
                    start: 2,
                    len: new.params.len() as u32,
                }
            } else {
                Bytes::Inline(new.params.as_bytes())
            };
            frames.extend(new.attachments.iter().map(|bytes| Frame::from(&bytes[..])));
            let call = Call {
                dispatch: dispatch(self.epoch, self.last_call),
                seq: link.seq,
                remaining_ms: new.timeout_ms,
                items: new.items,
                flags: new.flags,
                attachments: new.attachments.len() as u8,
                id: "\"id\"",
                method: new.method,
                body,
            };
            call.pack(&mut packed);
        }
        let to = link.routing.clone();
        frames.insert(0, Frame::from(packed));
        self.send(&to, Command::Calls, frames);
        numbers
    }

    /// What names the last call but `back` of a slot on the control link.
    pub fn slot_call(&self, slot: u32, seq: u32, call: u64) -> Frame {
        let call = SlotCall {
            slot,
            seq,
            dispatch: dispatch(self.epoch, call),
        };
        let mut packed = Vec::new();
        call.pack(&mut packed);
        Frame::from(packed)
    }

    pub fn last_seq(&self, slot: u32) -> u32 {
        self.slots[&slot].seq
    }

    /// The next reply.
    pub fn reply(&mut self) -> Answer {
        self.until("a reply", |broker| !broker.replies.is_empty());
        self.replies.pop_front().unwrap()
    }

    /// Whether a reply has come already.
    pub fn has_reply(&self) -> bool {
        !self.replies.is_empty()
    }

    /// Sends one call and waits for its reply.
    pub fn run(&mut self, slot: u32, new: NewCall<'_>) -> Answer {
        let number = self.send_calls(slot, &[new])[0];
        let answer = self.reply();
        assert_eq!(answer.call, number);
        answer
    }

    /// The result of a call on slot 1.
    pub fn ok(&mut self, method: &str, params: &str) -> Value {
        self.run(1, call(method, params)).ok()
    }

    /// The error of a call on slot 1.
    pub fn error(&mut self, method: &str, params: &str) -> Value {
        self.run(1, call(method, params)).error()
    }

    /// Whether a message with this command has come already.
    pub fn has_message(&self, command: Command) -> bool {
        self.other.iter().any(|message| message.command == command)
    }

    /// The next message with this command.
    pub fn message(&mut self, command: Command) -> Message {
        let mut found = None;
        self.until(&format!("{command:?}"), |broker| {
            found = broker
                .other
                .iter()
                .position(|message| message.command == command)
                .and_then(|at| broker.other.remove(at));
            found.is_some()
        });
        found.unwrap()
    }

    pub fn lost(&mut self) -> SlotLost {
        self.message(Command::Lost).json()
    }

    pub fn recalled(&mut self) -> Vec<Recalled> {
        let message = self.message(Command::Recalled);
        Recalled::unpack(&message.frames[0])
            .map(Result::unwrap)
            .collect()
    }
}

fn dispatch(epoch: u64, call: u64) -> DispatchId {
    DispatchId {
        epoch: Epoch(epoch),
        call: CallId(call),
        attempt: 1,
    }
}

/// Sends, from a DEALER that stands for a stock broker's backend.
pub fn send_all(socket: &Socket, frames: Vec<Frame>) {
    let mut frames = frames;
    let outcome = socket.send_timeout(&mut frames, PATIENCE).unwrap();
    assert_eq!(outcome, SendOutcome::Sent);
}
