//! Composes what a client gets: outcomes into reply bodies.

use crate::clock::Clock;
use crate::reply::{Form, Reply};
use crate::request::{Kind, Request};
use muster_core::{Attempt, EndReason, Failure, Outcome};
use muster_proto::code::Code;
use muster_proto::rpc::{self, ReplyView, RpcError};
use muster_proto::socket::Frame;
use serde_json::json;

/// Body and attachments of the answer to a single request.
pub fn compose(request: &Request, outcome: &Outcome<Reply>, clock: &Clock, out: &mut Vec<Frame>) {
    match outcome {
        Outcome::Failed(failure) => out.push(failed(request, failure, clock)),
        Outcome::Replied { reply, is_error } => {
            match reply.form() {
                Form::Raw => out.push(reply.to_frame()),
                Form::Whole if *is_error || !is_whole(reply.bytes(), id_of(request)) => {
                    out.push(whole_anew(request, reply));
                }
                Form::Whole => out.push(reply.to_frame()),
                Form::Value => out.push(value(request, reply.bytes(), *is_error)),
            }
            out.extend(reply.attachments().iter().map(Frame::share));
        }
    }
}

/// One answer for a batch, its items in order; `None` when all were notifications.
pub fn compose_batch(
    envelope: &Request,
    items: &[(Request, Option<Outcome<Reply>>)],
    clock: &Clock,
) -> Option<Vec<u8>> {
    if envelope.kind == Kind::Multicall {
        let parts: Vec<Vec<u8>> = items
            .iter()
            .map(|(request, outcome)| multicall_item(request, outcome, clock))
            .collect();
        return Some(rpc::result_reply(id_of(envelope), &join(parts)));
    }
    if items.is_empty() {
        return None;
    }
    let parts = items
        .iter()
        .map(|(request, outcome)| item(request, outcome, clock))
        .collect();
    Some(join(parts))
}

/// The reply to a request that was answered without a worker.
pub fn own(request: &Request, answer: &Result<String, RpcError>) -> Vec<u8> {
    match answer {
        Ok(result) => rpc::result_reply(id_of(request), result.as_bytes()),
        Err(error) => rpc::error_reply(request.id(), error),
    }
}

/// The code of a call that ended without an answer of its function.
pub fn code_of(failure: &Failure) -> Code {
    match failure {
        Failure::MethodNotFound { .. } => Code::MethodNotFound,
        Failure::DeadlineExceeded { .. } => Code::DeadlineExceeded,
        Failure::WorkerLost { .. } => Code::WorkerLost,
        Failure::Overloaded { .. } => Code::Overloaded,
        Failure::Cancelled { .. } => Code::Cancelled,
        Failure::Draining => Code::Draining,
        Failure::BadReply { .. } => Code::BadReply,
    }
}

/// The error object for a call that ended without an answer of its function.
pub fn error_of(failure: &Failure, clock: &Clock) -> RpcError {
    let error = RpcError::new(code_of(failure));
    match failure {
        Failure::MethodNotFound { no_workers: true } => {
            error.data(&json!({"reason": "no workers"}))
        }
        Failure::MethodNotFound { no_workers: false } => error,
        Failure::DeadlineExceeded { was_running } => {
            let state = if *was_running { "running" } else { "queued" };
            error
                .message(format!("the deadline passed while the call was {state}"))
                .data(&json!({"state": state}))
        }
        Failure::WorkerLost { attempts } => worker_lost(attempts, clock),
        Failure::Overloaded { limit, max } => RpcError::overloaded(limit, *max),
        Failure::Cancelled { by } => error
            .message(format!("cancelled: {by}"))
            .data(&json!({"by": by})),
        Failure::Draining => error.message("the broker is going away and takes no calls"),
        Failure::BadReply { worker } => error
            .message("what the worker sent can't be read as an answer")
            .data(&json!({"worker": worker})),
    }
}

fn worker_lost(attempts: &[Attempt], clock: &Clock) -> RpcError {
    let list: Vec<_> = attempts
        .iter()
        .map(|attempt| attempt_json(attempt, clock))
        .collect();
    let slot = |attempt: &Attempt| format!("{} ({})", attempt.slot, how(attempt));
    let text = match attempts {
        [] => "lost with its worker".to_owned(),
        [once] => format!("lost with its worker {}", slot(once)),
        [.., last] => {
            let times = attempts.len();
            format!("lost with its worker {times} times, at last {}", slot(last))
        }
    };
    RpcError::new(Code::WorkerLost)
        .message(text)
        .data(&json!({"attempts": list}))
}

/// One try that ended with its slot.
pub fn attempt_json(attempt: &Attempt, clock: &Clock) -> serde_json::Value {
    let ending = &attempt.ending;
    json!({
        "worker": attempt.worker,
        "slot": attempt.slot,
        "host": attempt.host,
        "pid": attempt.pid,
        "started": clock.wall_seconds(attempt.started),
        "elapsed_ms": attempt.elapsed.as_micros() as f64 / 1e3,
        "ended": how(attempt),
        "exit_code": ending.exit_code,
        "signal": ending.signal,
        "out_of_memory": ending.out_of_memory,
        "stderr": ending.stderr_tail,
    })
}

/// How an attempt ended, in words.
fn how(attempt: &Attempt) -> String {
    let ending = &attempt.ending;
    let memory = if ending.out_of_memory {
        ", out of memory"
    } else {
        ""
    };
    match (ending.signal, ending.exit_code, ending.reason) {
        (Some(signal), ..) => format!("signal {signal}{memory}"),
        (_, Some(code), _) => format!("exit code {code}{memory}"),
        (_, _, EndReason::Silent) => "silent".into(),
        (_, _, EndReason::Goodbye) => "left".into(),
        (_, _, EndReason::TooLarge) => {
            let max = muster_proto::limits::LINK_BYTES_MAX;
            format!("its reply is over the limit of {max} bytes")
        }
        _ => "disconnected".into(),
    }
}

/// An unknown id is null: JSON-RPC 2.0, section 5.
fn id_of(request: &Request) -> &str {
    request.id().unwrap_or("null")
}

fn failed(request: &Request, failure: &Failure, clock: &Clock) -> Frame {
    rpc::error_reply(request.id(), &error_of(failure, clock)).into()
}

fn value(request: &Request, bytes: &[u8], is_error: bool) -> Frame {
    let head: &[u8] = if is_error {
        br#"{"jsonrpc":"2.0","error":"#
    } else {
        br#"{"jsonrpc":"2.0","result":"#
    };
    // An unknown id is null: JSON-RPC 2.0, section 5.
    let id = request.id_bytes().unwrap_or(b"null");
    Frame::join(&[head, bytes, br#","id":"#, id, b"}"])
}

/// Whether `body` is exactly what [`rpc::result_reply`] makes for this id, around some result.
fn is_whole(body: &[u8], id: &str) -> bool {
    let tail = body.strip_prefix(br#"{"jsonrpc":"2.0","result":"#.as_slice());
    let tail = tail.and_then(|rest| rest.strip_suffix(b"}"));
    let rest = tail.and_then(|rest| rest.strip_suffix(id.as_bytes()));
    rest.is_some_and(|rest| rest.ends_with(br#","id":"#))
}

/// A whole reply under another id (a lane that writes ids its own way, a keyed call asked for
/// again): the same outcome under this request's id.
fn whole_anew(request: &Request, reply: &Reply) -> Frame {
    match rpc::read_reply(reply.bytes()) {
        Some(ReplyView {
            outcome: Ok(result),
            ..
        }) => rpc::result_reply(id_of(request), result.as_bytes()).into(),
        Some(ReplyView {
            outcome: Err(error),
            ..
        }) => rpc::error_reply(request.id(), &error).into(),
        None => {
            let error = RpcError::new(Code::BadReply);
            rpc::error_reply(request.id(), &error).into()
        }
    }
}

fn item(request: &Request, outcome: &Option<Outcome<Reply>>, clock: &Clock) -> Vec<u8> {
    match outcome {
        Some(outcome) => {
            let mut frames = Vec::with_capacity(1);
            compose(request, outcome, clock, &mut frames);
            frames[0].to_vec()
        }
        None => match request.extra().and_then(|extra| extra.answer.as_ref()) {
            Some(answer) => own(request, answer),
            None => rpc::error_reply(request.id(), &RpcError::new(Code::InternalError)),
        },
    }
}

/// `[result]` or a fault, as XML-RPC's multicall has it.
fn multicall_item(request: &Request, outcome: &Option<Outcome<Reply>>, clock: &Clock) -> Vec<u8> {
    let reply = item(request, outcome, clock);
    match rpc::read_reply(&reply) {
        Some(ReplyView {
            outcome: Ok(result),
            ..
        }) => format!("[{result}]").into_bytes(),
        Some(ReplyView {
            outcome: Err(error),
            ..
        }) => json!({"faultCode": error.code, "faultString": error.message})
            .to_string()
            .into(),
        None => json!({"faultCode": Code::BadReply.number(), "faultString": "BadReply"})
            .to_string()
            .into(),
    }
}

fn join(parts: Vec<Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::with_capacity(parts.iter().map(|part| part.len() + 1).sum::<usize>() + 2);
    out.push(b'[');
    for (n, part) in parts.into_iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&part);
    }
    out.push(b']');
    out
}
