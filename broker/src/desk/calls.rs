//! Calls: listed, explained, cancelled.

use super::{Answer, Front, invalid};
use crate::answer::{attempt_json, error_of};
use crate::frontend::{Asker, scoped_key};
use crate::reply::{Form, Reply};
use muster_core::{
    CallStatus, CancelTarget, EndedCall, Event, Explanation, Failure, HowEnded, MonoTime, Obstacle,
    Target,
};
use muster_proto::code::Code;
use muster_proto::id::CallId;
use muster_proto::rpc::{self, RpcError};
use serde::Deserialize;
use serde_json::{Value, json};

/// Calls that one answer lists, unless asked for another number,
const LISTED: usize = 100;
/// and at most.
const LISTED_MAX: usize = 10_000;

#[derive(Deserialize)]
pub(super) struct CallsParams {
    #[serde(default)]
    state: Listed,
    #[serde(default)]
    limit: Option<usize>,
}

/// Which calls are wanted.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Listed {
    #[default]
    Open,
    Running,
    Queued,
    Failed,
    Slow,
}

#[derive(Deserialize)]
pub(super) struct CallParams {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    key: Option<String>,
}

impl Front<'_> {
    pub(super) fn calls(&self, params: &CallsParams, asker: &Asker<'_>) -> Value {
        let limit = params.limit.unwrap_or(LISTED).min(LISTED_MAX);
        let open = match params.state {
            Listed::Open => self.core.calls(limit, |call| asker.may_touch(call.client)),
            Listed::Running => self
                .core
                .running_calls(limit, |call| asker.may_touch(call.client)),
            Listed::Queued => self.core.calls(limit, |call| {
                call.slot.is_none() && asker.may_touch(call.client)
            }),
            Listed::Failed => {
                let failed = self.core.failed_calls();
                let own = failed.filter(|call| asker.may_touch(call.client));
                return own.take(limit).map(|call| self.ended_json(call)).collect();
            }
            Listed::Slow => {
                let slow = self.core.slowest_calls(usize::MAX).into_iter();
                let own = slow.filter(|call| asker.may_touch(call.client));
                return own.take(limit).map(|call| self.ended_json(call)).collect();
            }
        };
        open.iter().map(|call| self.open_json(call)).collect()
    }

    pub(super) fn explain(&self, params: &CallParams, asker: &Asker<'_>) -> Answer {
        let id = read_id(params.id.as_deref())?;
        let open = self.core.call(id).zip(self.core.explain(id));
        if let Some((call, more)) = open.filter(|(call, _)| asker.may_touch(call.client)) {
            return Ok(self.explained(&call, &more));
        }
        let ended = self.core.ended(id);
        if let Some(call) = ended.filter(|call| asker.may_touch(call.client)) {
            let mut told = self.ended_json(call);
            told["why"] = json!("it has ended");
            return Ok(told);
        }
        Err(unknown(id))
    }

    pub(super) fn cancel(&mut self, params: &CallParams, asker: &Asker<'_>) -> Answer {
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

    fn open_json(&self, call: &CallStatus) -> Value {
        let (method, to) = parts(&call.target);
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

    fn explained(&self, call: &CallStatus, more: &Explanation<'_>) -> Value {
        let now = self.clock.now();
        let left = |until: MonoTime| until.since(now).as_secs_f64();
        let attempts = more.attempts.iter();
        let workers = more.workers.iter();
        let mut told = self.open_json(call);
        told["why"] = json!(why(call, more));
        told["waiting"] = json!(more.waiting);
        told["ahead"] = json!(more.ahead);
        let dispatched = more.dispatched.map(|at| now.since(at).as_secs_f64());
        told["dispatched_s"] = json!(dispatched);
        told["retry_in_s"] = json!(more.retry.map(left));
        let has_deadline = more.deadline != MonoTime::NEVER;
        told["deadline_in_s"] = json!(has_deadline.then(|| left(more.deadline)));
        told["attempts_max"] = json!(more.attempts_max);
        told["attempts"] = attempts
            .map(|attempt| attempt_json(attempt, self.clock))
            .collect();
        told["workers"] = workers
            .map(|(worker, obstacle)| {
                let (name, why) = obstacle_words(*obstacle);
                json!({"worker": worker, "obstacle": name, "why": why})
            })
            .collect();
        told
    }

    fn ended_json(&self, call: &EndedCall<Reply>) -> Value {
        let (method, to) = parts(&call.target);
        let slot = call.slot.as_ref().map(|(slot, worker)| {
            // The slot may be gone by now, its worker's name stays.
            let number = self.core.slot_name(*slot).map(|(_, number)| number);
            number.map_or_else(|| worker.to_string(), |number| format!("{worker}.{number}"))
        });
        let (state, error) = self.end_of(&call.how);
        json!({
            "id": call.id.to_string(),
            "method": method,
            "to": to,
            "state": state,
            "slot": slot,
            "took_s": call.ended.since(call.admitted).as_secs_f64(),
            "ended_ms": (self.clock.wall_seconds(call.ended) * 1e3) as u64,
            "dispatches": call.dispatches,
            "error": error,
        })
    }

    fn end_of(&self, how: &HowEnded<Reply>) -> (&'static str, Option<RpcError>) {
        match how {
            HowEnded::Succeeded => ("succeeded", None),
            HowEnded::Error(reply) => ("failed", Some(error_in(reply.as_deref()))),
            HowEnded::Failed(failure) => {
                let state = match failure.as_ref() {
                    Failure::DeadlineExceeded { .. } => "expired",
                    Failure::Cancelled { .. } => "cancelled",
                    Failure::WorkerLost { .. } => "lost",
                    Failure::Overloaded { .. } => "shed",
                    Failure::Draining => "drained",
                    Failure::MethodNotFound { .. } => "not_found",
                    Failure::BadReply { .. } => "failed",
                };
                (state, Some(error_of(failure, self.clock)))
            }
        }
    }
}

/// Method and worker; neither for raw bodies to anybody.
fn parts(target: &Target) -> (Option<&str>, Option<&str>) {
    match target {
        Target::Method(method) => (Some(method), None),
        Target::MethodAt { method, worker } => (Some(method), Some(worker)),
        Target::Raw => (None, None),
        Target::RawAt(worker) => (None, Some(worker)),
    }
}

/// The error that a function answered with.
fn error_in(reply: Option<&Reply>) -> RpcError {
    let unknown = || RpcError::new(Code::CallFailed);
    let Some(reply) = reply else {
        return unknown().message("the error was too long to be kept");
    };
    match reply.form() {
        Form::Value => serde_json::from_slice(reply.bytes()).unwrap_or_else(|_| unknown()),
        Form::Whole => {
            let view = rpc::read_reply(reply.bytes());
            view.and_then(|view| view.outcome.err())
                .unwrap_or_else(unknown)
        }
        Form::Raw => unknown(),
    }
}

/// Why an open call is where it is, in a sentence.
fn why(call: &CallStatus, more: &Explanation<'_>) -> String {
    let is_somebody_free = || {
        let mut workers = more.workers.iter();
        workers.any(|(_, obstacle)| *obstacle == Obstacle::Turn)
    };
    match more.ahead {
        Some(0) => "it runs".into(),
        Some(1) => "it is at its slot, behind a call that runs".into(),
        Some(ahead) => format!("it is at its slot, behind {ahead} calls"),
        None if call.slot.is_some() => "its slot was asked to give it up".into(),
        None if more.retry.is_some() => "it was lost with a slot and is tried again soon".into(),
        None if call.is_delayed || call.position.is_none() => "it is between two tries".into(),
        None if more.workers.is_empty() => "no worker that is here offers it".into(),
        None if is_somebody_free() => {
            "calls that came before it, or of other clients, go first".into()
        }
        None => "no worker that offers it has a slot free".into(),
    }
}

fn obstacle_words(obstacle: Obstacle) -> (&'static str, &'static str) {
    match obstacle {
        Obstacle::Draining => ("draining", "it is leaving and takes no more calls"),
        Obstacle::NoSlot => ("no_slot", "none of its slots is up"),
        Obstacle::Refused => ("refused", "it answered that it does not know the method"),
        Obstacle::Busy => ("busy", "all its slots are busy"),
        Obstacle::Turn => ("turn", "other calls go first"),
    }
}

fn read_id(text: Option<&str>) -> Result<CallId, RpcError> {
    let text = text.ok_or_else(|| invalid("which call?"))?;
    text.parse()
        .map_err(|error: muster_proto::id::BadCallId| invalid(&error.to_string()))
}

fn not_open(id: CallId) -> RpcError {
    invalid(&format!("no open call is {id}"))
}

fn unknown(id: CallId) -> RpcError {
    invalid(&format!(
        "no call is {id}: it never was, or it ended too long ago"
    ))
}
