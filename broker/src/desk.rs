//! Answers to the broker's own methods.

use crate::clock::Clock;
use crate::frontend::{Asker, Desk, scoped_key};
use crate::introspect::{LOCALS, Local, read_params};
use crate::keyring::Keyring;
use crate::lanes::{Lanes, Server};
use crate::reply::Reply;
use crate::request::Request;
use crate::server::CoreEvent;
use crate::workers::Workers;
use muster_core::{
    CallStatus, CancelTarget, Core, Event, SlotState, Target, WorkerId, WorkerKind, WorkerStatus,
};
use muster_proto::code::Code;
use muster_proto::connection::{Connection, Role};
use muster_proto::id::CallId;
use muster_proto::rpc::RpcError;
use muster_proto::worker::{Command, Method, Param};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

type Answer = Result<Value, RpcError>;

/// What the broker says of itself.
#[derive(Clone, Debug)]
pub struct About {
    /// Where programs on this machine find it.
    pub local: Connection,
    /// Where programs on other machines find it, when it listens to them.
    pub remote: Option<Connection>,
    /// Its run, as 16 hex digits.
    pub epoch: String,
}

/// The broker as its own methods see it.
pub struct Front<'a> {
    /// The decisions.
    pub core: &'a Core<Request, Reply>,
    /// Managed workers.
    pub workers: &'a Workers,
    /// Stock workers.
    pub lanes: &'a mut Lanes,
    /// What the broker says of itself.
    pub about: &'a About,
    /// The clock.
    pub clock: &'a Clock,
    /// Connections.
    pub clients: usize,
    /// What a method asks the core to do.
    pub later: &'a mut Vec<CoreEvent>,
    /// The keys, where some door asks for them.
    pub keyring: Option<&'a Keyring>,
    /// Users whose key was revoked just now.
    pub revoked: &'a mut Vec<String>,
}

impl Desk for Front<'_> {
    fn takes_raw(&self) -> bool {
        self.core.takes_raw()
    }

    fn answer(
        &mut self,
        method: Local,
        params: Option<&str>,
        asker: Asker<'_>,
    ) -> Result<String, RpcError> {
        let names = LOCALS
            .iter()
            .find(|(_, local, ..)| *local == method)
            .map_or(&[][..], |l| l.2);
        if is_for_admins(method) && !asker.is_admin() {
            let reason = json!({"reason": "this needs an admin key"});
            return Err(RpcError::new(Code::Forbidden).data(&reason));
        }
        let answer = match method {
            Local::ListMethods => Ok(self.list_methods()),
            Local::MethodSignature => self.signature(&read_params(params, names)?),
            Local::MethodHelp => self.help(&read_params(params, names)?),
            Local::Status => Ok(self.status()),
            Local::Workers => Ok(self.workers_json()),
            Local::Methods => Ok(self.methods_json()),
            Local::Endpoints => Ok(self.endpoints(&asker)),
            Local::Calls => self.calls(&read_params(params, names)?, &asker),
            Local::Explain => self.explain(&read_params(params, names)?, &asker),
            Local::Keys => self.keys(),
            Local::NewKey => self.new_key(read_params(params, names)?),
            Local::RevokeKey => self.revoke_key(&read_params(params, names)?),
            Local::Cancel => self.cancel(&read_params(params, names)?, &asker),
            Local::Drain => self.command(&read_params(params, names)?, Command::Drain),
            Local::Scale => self.command(&read_params(params, names)?, Command::Resize),
            Local::Reload => self.command(&read_params(params, names)?, Command::Reload),
            Local::Discover => Ok(self.discover()),
            Local::AddWorker => self.add_worker(read_params(params, names)?),
            Local::RemoveWorker => self.remove_worker(&read_params(params, names)?),
            Local::Multicall | Local::Unknown => Err(RpcError::new(Code::MethodNotFound)),
        };
        answer.map(|value| value.to_string())
    }
}

#[derive(Deserialize)]
struct NameParams {
    name: String,
}

#[derive(Deserialize)]
struct ServerParams {
    endpoint: String,
    #[serde(default)]
    methods: Vec<String>,
}

#[derive(Deserialize)]
struct NewKeyParams {
    role: Role,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    methods: Vec<String>,
}

#[derive(Deserialize)]
struct CallsParams {
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    limit: Option<usize>,
}

#[derive(Deserialize)]
struct CallParams {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    key: Option<String>,
}

#[derive(Deserialize)]
struct WorkerParams {
    #[serde(default)]
    worker: Option<String>,
    #[serde(default)]
    slots: Option<u32>,
}

/// How long a worker that is told to drain may finish what runs.
const DRAIN_GRACE: Duration = Duration::from_secs(10);

impl Front<'_> {
    /// Methods on offer by name, with how many workers and slots offer each.
    fn offered(&self) -> BTreeMap<&str, (&Method, u32, u32)> {
        let mut offered = BTreeMap::new();
        for registration in self.workers.registrations() {
            for method in &registration.methods {
                let entry = offered
                    .entry(method.name.as_str())
                    .or_insert((method, 0, 0));
                // Of several descriptions the smallest: the same whatever the order of workers.
                entry.0 = entry.0.min(method);
                entry.1 += 1;
                entry.2 += registration.slots;
            }
        }
        offered
    }

    fn method(&self, name: &str) -> Result<Method, RpcError> {
        if let Some((method, ..)) = self.offered().get(name) {
            return Ok((*method).clone());
        }
        let own = LOCALS.iter().find(|(own, ..)| *own == name);
        let Some((_, _, params, doc)) = own else {
            return Err(RpcError::new(Code::MethodNotFound).data(&json!({"method": name})));
        };
        let params = params.iter().map(|p| Param {
            name: (*p).into(),
            optional: true,
        });
        Ok(Method {
            name: name.into(),
            params: Some(params.collect()),
            doc: (*doc).into(),
            once: false,
            chunks: false,
        })
    }

    fn list_methods(&self) -> Value {
        let mut names: Vec<&str> = self.offered().into_keys().collect();
        names.extend(LOCALS.iter().map(|(name, ..)| *name));
        names.sort_unstable();
        json!(names)
    }

    fn signature(&self, params: &NameParams) -> Answer {
        let method = self.method(&params.name)?;
        let names = method.params.unwrap_or_default();
        Ok(names
            .into_iter()
            .map(|param| Value::from(param.name))
            .collect())
    }

    fn help(&self, params: &NameParams) -> Answer {
        Ok(self.method(&params.name)?.doc.into())
    }

    fn status(&self) -> Value {
        let status = self.core.status();
        let totals = status.totals;
        let count = |state: SlotState| status.slots[state as usize];
        let local = &self.about.local;
        json!({
            "name": local.name,
            "version": env!("CARGO_PKG_VERSION"),
            "host": local.host,
            "pid": local.pid,
            "started": local.started,
            "uptime_s": self.clock.uptime().as_secs_f64(),
            "epoch": self.about.epoch,
            "endpoints": endpoints_json(local),
            "tcp_endpoints": self.about.remote.as_ref().map(endpoints_json),
            "draining": status.is_draining,
            "workers": {"managed": status.managed, "lanes": status.lanes},
            "slots": {
                "total": status.slots.iter().sum::<usize>(),
                "ready": count(SlotState::Ready),
                "busy": count(SlotState::Busy),
                "starting": count(SlotState::Starting),
                "draining": count(SlotState::Draining),
                "backoff": count(SlotState::Backoff),
            },
            "clients": self.clients,
            "calls": {
                "queued": status.queued,
                "queued_bytes": status.queued_bytes,
                "running": status.running,
                "admitted": totals.admitted,
                "succeeded": totals.succeeded,
                "failed": totals.failed,
                "expired": totals.expired,
                "cancelled": totals.cancelled,
                "lost": totals.lost,
                "shed": totals.shed,
                "not_found": totals.not_found,
                "drained": totals.drained,
                "retried": totals.retried,
                "recalled": totals.recalled,
                "fenced": totals.fenced,
                "late": totals.late,
                "bad_replies": totals.bad_replies,
                "reattached": totals.reattached,
            },
            "methods": status.methods,
        })
    }

    fn workers_json(&self) -> Value {
        self.core
            .workers()
            .into_iter()
            .map(|worker| self.worker_json(&worker))
            .collect()
    }

    fn worker_json(&self, worker: &WorkerStatus) -> Value {
        let link = self.workers.worker(worker.id);
        let registration = link.map(|link| link.registration.as_ref());
        let slots: Vec<Value> = worker
            .slots
            .iter()
            .map(|slot| {
                json!({
                    "name": format!("{}.{}", worker.name, slot.number),
                    "state": state_name(slot.state),
                    "pid": slot.pid,
                    "in_flight": slot.in_flight,
                    "calls": slot.calls,
                    "failures": slot.failures,
                    "service_s": slot.service_us as f64 / 1e6,
                    "call": slot.running.map(|(call, _)| call.to_string()),
                })
            })
            .collect();
        let lane = self.lanes.of_worker(worker.id);
        let methods: Vec<&str> = match (registration, lane) {
            (Some(found), _) => found
                .methods
                .iter()
                .map(|method| method.name.as_str())
                .collect(),
            (None, Some(lane)) => lane.methods.iter().map(String::as_str).collect(),
            (None, None) => Vec::new(),
        };
        let address = link
            .map(|link| link.address.as_str())
            .or(lane.map(|lane| lane.address.as_str()));
        json!({
            "name": worker.name,
            "kind": kind_name(worker.kind),
            "host": worker.host,
            "pid": worker.pid,
            "address": address,
            "state": state_name(worker.state),
            "slots": worker.slots.len(),
            "in_flight": worker.in_flight,
            "calls": worker.calls,
            "failures": worker.failures,
            "methods": methods,
            "allow_run": registration.is_some_and(|registration| registration.allow_run),
            "allow_apply": registration.is_some_and(|registration| registration.allow_apply),
            "slot_states": slots,
        })
    }

    fn methods_json(&self) -> Value {
        let offered = self.offered().into_iter();
        offered
            .map(|(name, (method, workers, slots))| {
                let status = self.core.method(name);
                let service_ns = status.as_ref().and_then(|status| status.service_ns);
                json!({
                    "name": name,
                    "params": method.params,
                    "doc": method.doc,
                    "once": method.once,
                    "chunks": method.chunks,
                    "workers": workers,
                    "slots": slots,
                    "queued": status.map_or(0, |status| status.queued),
                    "service_us": service_ns.map(|ns| ns as f64 / 1e3),
                })
            })
            .collect()
    }

    fn endpoints(&self, asker: &Asker<'_>) -> Value {
        let remote = self.about.remote.as_ref().filter(|_| asker.over_tcp());
        let connection = remote.unwrap_or(&self.about.local);
        let mut endpoints = endpoints_json(connection);
        endpoints["name"] = json!(connection.name);
        endpoints["host"] = json!(connection.host);
        endpoints["epoch"] = json!(self.about.epoch);
        endpoints
    }

    fn calls(&self, params: &CallsParams, asker: &Asker<'_>) -> Answer {
        let state = params.state.as_deref().unwrap_or("open");
        let wanted = |call: &CallStatus| {
            asker.may_touch(call.client)
                && match state {
                    "running" => call.slot.is_some(),
                    "queued" => call.slot.is_none(),
                    _ => true,
                }
        };
        if !["open", "running", "queued"].contains(&state) {
            let reason = format!("state is open, running or queued, not {state}");
            return Err(RpcError::new(Code::InvalidParams).data(&json!({"reason": reason})));
        }
        let calls = self
            .core
            .calls(params.limit.unwrap_or(100).min(10_000), wanted);
        Ok(calls.iter().map(|call| self.call_json(call)).collect())
    }

    fn call_json(&self, call: &CallStatus) -> Value {
        let (method, to) = match &call.target {
            Target::Method(method) => (Some(method), None),
            Target::MethodAt { method, worker } => (Some(method), Some(worker)),
            Target::Raw => (None, None),
            Target::RawAt(worker) => (None, Some(worker)),
        };
        let slot = call.slot.and_then(|slot| self.core.slot_name(slot));
        let state = match (call.slot, call.is_delayed) {
            (Some(_), _) => "running",
            (None, true) => "delayed",
            (None, false) => "queued",
        };
        json!({
            "id": call.id.to_string(),
            "method": method,
            "to": to,
            "state": state,
            "slot": slot.map(|(name, number)| format!("{name}.{number}")),
            "position": call.position,
            "age_s": self.clock.now().since(call.admitted).as_secs_f64(),
            "dispatches": call.dispatches,
            "charged": call.charged,
            "items": call.items,
        })
    }

    fn explain(&self, params: &CallParams, asker: &Asker<'_>) -> Answer {
        let id = read_id(params.id.as_deref())?;
        match self
            .core
            .call(id)
            .filter(|call| asker.may_touch(call.client))
        {
            Some(call) => Ok(self.call_json(&call)),
            None => Err(not_open(id)),
        }
    }

    fn cancel(&mut self, params: &CallParams, asker: &Asker<'_>) -> Answer {
        let target = match (&params.id, &params.key) {
            (None, Some(key)) => CancelTarget::Key(scoped_key(asker.user(), key)),
            (id, _) => {
                let id = read_id(id.as_deref())?;
                let call = self.core.call(id).ok_or_else(|| not_open(id))?;
                if !asker.may_touch(call.client) {
                    let reason = json!({"reason": "another user's call needs an admin key"});
                    return Err(RpcError::new(Code::Forbidden).data(&reason));
                }
                CancelTarget::Call(id)
            }
        };
        let by = "a client's request".into();
        self.later.push(Event::Cancel { target, by });
        Ok(json!(true))
    }

    fn keyring(&self) -> Result<&Keyring, RpcError> {
        self.keyring.ok_or_else(|| {
            let reason =
                "this broker has no door with keys: listen on TCP, with --curve on loopback";
            RpcError::new(Code::InvalidParams).data(&json!({"reason": reason}))
        })
    }

    fn keys(&self) -> Answer {
        let keys = self.keyring()?.list();
        Ok(keys.iter().map(|key| json!(key.as_ref())).collect())
    }

    fn add_worker(&mut self, params: ServerParams) -> Answer {
        let ServerParams { endpoint, methods } = params;
        let added = self.lanes.add(Server { endpoint, methods });
        added
            .map(|()| json!(true))
            .map_err(|error| invalid(&error.to_string()))
    }

    fn remove_worker(&mut self, params: &ServerParams) -> Answer {
        if self.lanes.remove(&params.endpoint) {
            return Ok(json!(true));
        }
        Err(invalid(&format!(
            "the broker does not connect to {}",
            params.endpoint
        )))
    }

    /// A connection file for the new key's holder.
    fn new_key(&self, params: NewKeyParams) -> Answer {
        let remote = self
            .about
            .remote
            .clone()
            .unwrap_or_else(|| self.about.local.clone());
        let now_s = self.clock.wall_seconds(self.clock.now()) as u64;
        let NewKeyParams {
            role,
            name,
            methods,
        } = params;
        let name = name.unwrap_or_else(|| format!("{role:?}-{now_s}").to_lowercase());
        let curve = self
            .keyring()?
            .issue(&name, role, methods, now_s)
            .map_err(|error| invalid(&error.to_string()))?;
        let connection = Connection {
            curve: Some(curve),
            ..remote
        };
        Ok(json!({"name": name, "connection": connection}))
    }

    fn revoke_key(&mut self, params: &NameParams) -> Answer {
        let key = self
            .keyring()?
            .revoke(&params.name)
            .map_err(|error| invalid(&error.to_string()))?;
        self.revoked.push(key);
        Ok(json!(true))
    }

    /// Tells one worker, or all, something by their control links.
    fn command(&mut self, params: &WorkerParams, command: Command) -> Answer {
        let invalid =
            |reason: String| RpcError::new(Code::InvalidParams).data(&json!({"reason": reason}));
        let workers = self.core.workers().into_iter();
        let managed = workers.filter(|worker| worker.kind == WorkerKind::Managed);
        let chosen: Vec<(WorkerId, String)> = managed
            .filter(|worker| {
                params
                    .worker
                    .as_ref()
                    .is_none_or(|name| *name == worker.name)
            })
            .map(|worker| (worker.id, worker.name))
            .collect();
        if let (Some(name), true) = (&params.worker, chosen.is_empty()) {
            return Err(invalid(format!("no managed worker is named {name}")));
        }
        let text = match (command, params.slots) {
            (Command::Drain, _) if params.worker.is_none() => {
                return Err(invalid("which worker?".into()));
            }
            (Command::Drain, _) => DRAIN_GRACE.as_millis().to_string(),
            (Command::Resize, None) => return Err(invalid("how many slots?".into())),
            (Command::Resize, Some(slots)) => {
                let max = muster_proto::limits::WORKER_SLOTS_MAX;
                if !(1..=max).contains(&slots) {
                    return Err(invalid(format!("slots is {slots}, from 1 to {max}")));
                }
                if chosen.len() != 1 {
                    let count = chosen.len();
                    return Err(invalid(format!("there are {count} workers: which one?")));
                }
                slots.to_string()
            }
            _ => String::new(),
        };
        let told: Vec<String> = chosen
            .into_iter()
            .filter(|(id, _)| self.workers.command(*id, command, &text))
            .map(|(_, name)| name)
            .collect();
        Ok(json!(told))
    }

    /// Source: OpenRPC 1.3.2.
    fn discover(&self) -> Value {
        let methods: Vec<Value> = self
            .offered()
            .into_values()
            .map(|(method, ..)| {
                let params = method.params.iter().flatten().map(|param| {
                    json!({"name": param.name, "required": !param.optional, "schema": true})
                });
                let mut object = Map::new();
                object.insert("name".into(), json!(method.name));
                if let Some(line) = method.doc.lines().next() {
                    object.insert("summary".into(), json!(line));
                    object.insert("description".into(), json!(method.doc));
                }
                object.insert("params".into(), params.collect());
                object.insert("result".into(), json!({"name": "result", "schema": true}));
                Value::Object(object)
            })
            .collect();
        json!({
            "openrpc": "1.3.2",
            "info": {"title": self.about.local.name, "version": env!("CARGO_PKG_VERSION")},
            "methods": methods,
        })
    }
}

fn endpoints_json(connection: &Connection) -> Value {
    json!({
        "frontend": connection.frontend,
        "backend": connection.backend,
        "workers": connection.workers,
        "events": connection.events,
    })
}

fn read_id(text: Option<&str>) -> Result<CallId, RpcError> {
    let invalid =
        |reason: String| RpcError::new(Code::InvalidParams).data(&json!({"reason": reason}));
    let text = text.ok_or_else(|| invalid("which call?".into()))?;
    text.parse()
        .map_err(|error: muster_proto::id::BadCallId| invalid(error.to_string()))
}

fn not_open(id: CallId) -> RpcError {
    let reason = format!("no open call is {id}");
    RpcError::new(Code::InvalidParams).data(&json!({"reason": reason}))
}

fn state_name(state: SlotState) -> &'static str {
    match state {
        SlotState::Starting => "starting",
        SlotState::Ready => "ready",
        SlotState::Busy => "busy",
        SlotState::Draining => "draining",
        SlotState::Backoff => "backoff",
    }
}

fn kind_name(kind: WorkerKind) -> &'static str {
    match kind {
        WorkerKind::Managed => "managed",
        WorkerKind::Lane => "lane",
    }
}

fn invalid(reason: &str) -> RpcError {
    RpcError::new(Code::InvalidParams).data(&json!({"reason": reason}))
}

/// What concerns others than the one who asks.
fn is_for_admins(method: Local) -> bool {
    match method {
        Local::Drain
        | Local::Scale
        | Local::Reload
        | Local::AddWorker
        | Local::RemoveWorker
        | Local::Keys
        | Local::NewKey
        | Local::RevokeKey => true,
        Local::ListMethods
        | Local::MethodSignature
        | Local::MethodHelp
        | Local::Multicall
        | Local::Discover
        | Local::Status
        | Local::Workers
        | Local::Methods
        | Local::Endpoints
        | Local::Calls
        | Local::Explain
        | Local::Cancel
        | Local::Unknown => false,
    }
}
