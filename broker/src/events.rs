//! The events PUB: what happens, for those who watch.
//!
//! Each event is two frames: its name, which is what a subscription matches, and a JSON object with
//! its number among all events and among those of its name, so that a subscriber that was too slow
//! sees the gap. While nobody subscribes the core makes no notes at all.
//!
//! Source: docs/protocol.md, "Events".

use crate::answer::error_of;
use crate::clock::Clock;
use crate::reply::Reply;
use crate::request::Request;
use log::warn;
use muster_core::{Core, EndReason, Note, Target};
use muster_proto::socket::{Frame, Socket, SocketError};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

/// How often an address is tried at once, a millisecond apart.
const REOPEN_TRIES: u32 = 20;

/// Subscriptions that are told apart; libzmq tells of each prefix once.
const PREFIXES_MAX: usize = 10_000;

/// The socket and who listens.
pub struct Events {
    socket: Socket,
    /// Where it listens with keys, as bound.
    keyed_door: Option<String>,
    is_door_shut: bool,
    prefixes: BTreeSet<Vec<u8>>,
    sequence: u64,
    /// How many of each name.
    counts: BTreeMap<&'static str, u64>,
    frames: Vec<Frame>,
}

impl Events {
    /// Takes a bound XPUB over; `keyed_door` is its endpoint that asks for keys.
    pub fn new(socket: Socket, keyed_door: Option<String>) -> Self {
        Events {
            socket,
            keyed_door,
            is_door_shut: false,
            prefixes: BTreeSet::new(),
            sequence: 0,
            counts: BTreeMap::new(),
            frames: Vec::new(),
        }
    }

    /// The socket, to wait for. Once something was published, [`Self::heed`] comes before a wait.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Hears of subscriptions. Gives whether somebody watches when that has changed.
    ///
    /// # Errors
    /// [`SocketError`] when the socket is closed.
    pub fn heed(&mut self) -> Result<Option<bool>, SocketError> {
        let was_watched = self.is_watched();
        while self.socket.recv_into(&mut self.frames)? {
            let Some((&kind, prefix)) = self.frames.first().and_then(|f| f.split_first()) else {
                continue;
            };
            if kind == 0 {
                self.prefixes.remove(prefix);
            } else if self.prefixes.len() < PREFIXES_MAX {
                self.prefixes.insert(prefix.to_vec());
            }
        }
        let is_watched = self.is_watched();
        Ok((is_watched != was_watched).then_some(is_watched))
    }

    /// Cuts off every subscriber that came with a key. libzmq can't cut one: those whose key is
    /// still good come back by themselves.
    pub fn revoke(&mut self) {
        if let Some(door) = &self.keyed_door {
            match self.socket.unbind(door) {
                Ok(()) => self.is_door_shut = true,
                Err(error) => warn!("events: {error}"),
            }
        }
        self.reopen();
    }

    /// Listens again, unless the system has not yet let go of the address: then at the next turn.
    /// Gives whether it had to.
    pub fn reopen(&mut self) -> bool {
        let (true, Some(door)) = (self.is_door_shut, &self.keyed_door) else {
            return false;
        };
        // It is libzmq's own thread that lets go of it, in no time.
        for _ in 0..REOPEN_TRIES {
            if self.socket.bind(door).is_ok() {
                self.is_door_shut = false;
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// Whether somebody has subscribed to something.
    pub fn is_watched(&self) -> bool {
        !self.prefixes.is_empty()
    }

    /// Tells whoever listens.
    pub fn publish(&mut self, note: &Note, core: &Core<Request, Reply>, clock: &Clock) {
        let (name, mut body) = event_of(note, core, clock);
        self.sequence += 1;
        let nth = self.counts.entry(name).or_default();
        *nth += 1;
        body["seq"] = json!(self.sequence);
        body["nth"] = json!(nth);
        body["event"] = json!(name);
        body["time"] = json!(clock.wall_seconds(clock.now()));
        // A subscriber that does not read loses events, never the broker its time.
        if let Err(error) = self
            .socket
            .send([Frame::from(name), Frame::from(body.to_string())])
        {
            warn!("events: {error}");
        }
    }
}

/// An event's name and members.
fn event_of(note: &Note, core: &Core<Request, Reply>, clock: &Clock) -> (&'static str, Value) {
    match note {
        Note::WorkerUp { worker } => ("worker.up", json!({"worker": **worker})),
        Note::WorkerDraining { worker } => ("worker.draining", json!({"worker": **worker})),
        Note::WorkerDown { worker, reason } => (
            "worker.down",
            json!({"worker": **worker, "reason": reason_name(*reason)}),
        ),
        Note::Admitted { call, target } => (
            "call.admitted",
            json!({"call": call.to_string(), "method": method_of(target)}),
        ),
        Note::Dispatched {
            call,
            target,
            attempt,
            worker,
            slot,
        } => {
            let name = if *attempt > 1 {
                "call.retried"
            } else {
                "call.dispatched"
            };
            let number = core.slot_name(*slot).map(|(_, number)| number);
            let slot = number.map(|number| format!("{worker}.{number}"));
            let method = method_of(target);
            let call = call.to_string();
            (
                name,
                json!({"call": call, "method": method, "attempt": attempt, "slot": slot}),
            )
        }
        Note::Answered {
            call,
            target,
            is_error,
            took,
        } => {
            let took_ms = took.as_secs_f64() * 1e3;
            let (call, method) = (call.to_string(), method_of(target));
            let body = json!({"call": call, "method": method, "ok": !is_error, "took_ms": took_ms});
            ("call.answered", body)
        }
        Note::Failed {
            call,
            target,
            failure,
        } => {
            let error = error_of(failure, clock);
            let name = match failure {
                muster_core::Failure::DeadlineExceeded { .. } => "call.expired",
                muster_core::Failure::Cancelled { .. } => "call.cancelled",
                muster_core::Failure::Overloaded { .. } => "cap.reached",
                _ => "call.failed",
            };
            let call = call.map(|call| call.to_string());
            let method = method_of(target);
            (
                name,
                json!({"call": call, "method": method, "error": error}),
            )
        }
    }
}

/// The method's name; `None` for raw bodies.
pub fn method_of(target: &Target) -> Option<&str> {
    match target {
        Target::Method(method) | Target::MethodAt { method, .. } => Some(method),
        Target::Raw | Target::RawAt(_) => None,
    }
}

fn reason_name(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Disconnected => "disconnected",
        EndReason::Silent => "silent",
        EndReason::ChildEnded => "child ended",
        EndReason::OnPurpose => "on purpose",
        EndReason::Goodbye => "left",
        EndReason::TooLarge => "reply too large",
    }
}
