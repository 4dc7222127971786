//! Workers: described, told something, added and removed.

use super::{Answer, Front, invalid};
use crate::lanes::Server;
use muster_core::{SlotState, WorkerId, WorkerKind, WorkerStatus};
use muster_proto::worker::Command;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// How long a worker that is told to drain may finish what runs.
const DRAIN_GRACE: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
pub(super) struct WorkerParams {
    #[serde(default)]
    worker: Option<String>,
    #[serde(default)]
    slots: Option<u32>,
}

#[derive(Deserialize)]
pub(super) struct ServerParams {
    endpoint: String,
    #[serde(default)]
    methods: Vec<String>,
}

impl Front<'_> {
    /// By name as people count: `node2` before `node10`.
    pub(super) fn workers_json(&self) -> Value {
        let mut workers = self.core.workers();
        workers.sort_by(|a, b| alphanumeric_sort::compare_str(&a.name, &b.name));
        workers
            .iter()
            .map(|worker| self.worker_json(worker))
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

    pub(super) fn add_worker(&mut self, params: ServerParams) -> Answer {
        let ServerParams { endpoint, methods } = params;
        let server = match methods.is_empty() {
            // As `--worker` has it.
            true => Server::parse(&endpoint).map_err(|reason| invalid(&reason))?,
            false => Server { endpoint, methods },
        };
        let added = self.lanes.add(server);
        added
            .map(|()| json!(true))
            .map_err(|error| invalid(&error.to_string()))
    }

    pub(super) fn remove_worker(&mut self, params: &ServerParams) -> Answer {
        if self.lanes.remove(&params.endpoint) {
            return Ok(json!(true));
        }
        Err(invalid(&format!(
            "the broker does not connect to {}",
            params.endpoint
        )))
    }

    /// Tells one worker, or all, something by their control links.
    pub(super) fn command(&mut self, params: &WorkerParams, command: Command) -> Answer {
        let invalid = |reason: String| invalid(&reason);
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
