//! Workers and their slots are taken in, or refused in words.

use super::{Peer, SlotLink, WorkerLink, Workers, json_frame};
use crate::keyring::Key;
use log::{debug, info};
use muster_core::{
    EndReason, Event, NestId, Offer, Once, SlotId, WorkerId, WorkerKind, WorkerSpec,
};
use muster_proto::code::Code;
use muster_proto::limits;
use muster_proto::socket::Frame;
use muster_proto::worker::{self, Command, Join, Nest, Refused, Registration, Welcome, WireError};
use std::rc::Rc;

impl Workers {
    pub(super) fn register(&mut self, frames: &[Frame]) -> Result<(), WireError> {
        let routing: Box<[u8]> = frames[0][..].into();
        let refuse = |workers: &mut Self, code: Code, message: String| {
            workers.complain(&format!("a worker is refused: {message}"));
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
        let user = frames[0].property("User-Id").unwrap_or_default();
        let key = self.keyring.as_ref().and_then(|keys| keys.find(&user));
        if let Some(message) = key.and_then(|key| beyond_key(&key, &registration)) {
            refuse(self, Code::Forbidden, message);
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

    pub(super) fn join(&mut self, frames: &[Frame]) -> Result<(), WireError> {
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
}

/// The nest that a worker names, if it can be one.
pub(super) fn nest_of(nest: &Nest) -> Option<NestId> {
    let (call, attempt) = (nest.call.parse().ok()?, nest.attempt);
    Some(NestId { call, attempt })
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

/// What a worker offers that its key is not for, if anything.
fn beyond_key(key: &Key, registration: &Registration) -> Option<String> {
    let name = &key.name;
    let mut methods = registration.methods.iter();
    if let Some(method) = methods.find(|method| !key.allows(&method.name)) {
        return Some(format!(
            "key {name} is not for the method `{}`",
            method.name
        ));
    }
    // A raw body names no method, so a key that is limited to some is not for it.
    (registration.raw && key.is_limited())
        .then(|| format!("key {name} is limited to methods, so not for raw bodies"))
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
