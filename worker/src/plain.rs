//! A slot as a stock REP socket, for any ROUTER/DEALER broker: `muster-worker --plain`.
//!
//! JSON-RPC 2.0 by the book: a REP must answer every request, so a notification is answered by an
//! empty frame.

use crate::attachment::check_named;
use crate::call_error::{CallError, Origin};
use crate::chunk;
use crate::context::CallContext;
use crate::python::{self, Head, Keeper, flag, kind};
use crate::registry::{Registry, Runs};
use crate::slot::{Desk, Phase, SlotSpec};
use muster_proto::code::Code;
use muster_proto::limits;
use muster_proto::rpc::{Body, CallView, RpcError, error_reply, read, result_reply};
use muster_proto::socket::{
    Context, Frame, Interest, Kind, PollItem, Profile, Socket, SocketError, poll,
};
use muster_proto::worker::SlotLost;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A slot that serves a stock broker.
pub(crate) struct PlainSlot {
    label: String,
    origin: Origin,
    registry: Arc<Registry>,
    desk: Arc<Desk>,
    keeper: Option<Keeper>,
    socket: Socket,
    serial: u32,
}

/// A result as JSON, with what travels beside it.
type Answered = (Vec<u8>, Vec<Frame>);

impl PlainSlot {
    pub fn new(
        context: &Context,
        spec: SlotSpec,
        endpoints: &[String],
    ) -> Result<Self, SocketError> {
        let SlotSpec {
            number,
            label,
            origin,
            registry,
            python,
            first_child,
            rep: _,
            desk,
        } = spec;
        let socket = Socket::open(context, Kind::Rep, &Profile::DataLink)?;
        for endpoint in endpoints {
            socket.connect(endpoint)?;
        }
        let keeper = python.map(|source| Keeper::new(source, number, label.clone(), first_child));
        Ok(PlainSlot {
            label,
            origin,
            registry,
            desk,
            keeper,
            socket,
            serial: 0,
        })
    }

    /// Serves until the desk says to end.
    pub fn run(mut self) -> Result<(), SocketError> {
        let mut frames = Vec::new();
        while self.desk.phase() == Phase::Serve {
            self.revive();
            // Without its child the slot takes nothing: other workers of the broker shall.
            let is_down = self.keeper.as_ref().is_some_and(Keeper::is_down);
            let due = self.keeper.as_ref().and_then(Keeper::due);
            if !is_down && self.socket.recv_into(&mut frames)? {
                let mut reply = self.answer(&frames);
                let _ = self.socket.send_frames(&mut reply)?;
                continue;
            }
            let calls = if is_down {
                Interest::Nothing
            } else {
                Interest::Read
            };
            self.wait(calls, due)?;
            self.heed_child();
        }
        if self.desk.phase() == Phase::Drain {
            self.socket.set_linger(Duration::from_secs(2))?;
        }
        Ok(())
    }

    fn revive(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            if keeper.is_spent() {
                keeper.replace();
            }
            let desk = &self.desk;
            keeper.revive(&self.origin, &desk.wake, || desk.phase() != Phase::Serve);
        }
    }

    fn heed_child(&mut self) {
        if let Some(keeper) = &mut self.keeper
            && keeper.look_at_memory(false).is_none()
            && keeper.python().is_some_and(|python| python.next().is_err())
        {
            keeper.lost();
        }
    }

    fn wait(&mut self, calls: Interest, due: Option<Instant>) -> Result<(), SocketError> {
        let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
        let mut items = Vec::with_capacity(6);
        if let Some(python) = self.keeper.as_ref().and_then(Keeper::python_ref) {
            items.extend(python.poll_items(true));
        }
        let has_child = !items.is_empty();
        items.push(PollItem::fd(&self.desk.wake, Interest::Read));
        items.push(PollItem::socket(&self.socket, calls));
        poll(&mut items, timeout)?;
        let ready = has_child.then(|| python::readiness(&items));
        drop(items);
        if let Some(ready) = ready
            && let Some(python) = self.keeper.as_mut().and_then(Keeper::python)
        {
            python.heed(ready);
        }
        self.desk.wake.drain();
        Ok(())
    }

    /// The reply to a request, whatever it is.
    fn answer(&mut self, frames: &[Frame]) -> Vec<Frame> {
        let Some((body, attachments)) = frames.split_first() else {
            return vec![Frame::empty()];
        };
        let alone = |reply: Vec<u8>| vec![Frame::from(reply)];
        if body.len() > limits::BODY_BYTES_MAX {
            let error = RpcError::too_large("body_bytes", body.len(), limits::BODY_BYTES_MAX);
            return alone(error_reply(None, &error));
        }
        match read(body) {
            Body::Raw => alone(error_reply(None, &RpcError::new(Code::ParseError))),
            Body::Foreign(refused) | Body::Refused(refused) => {
                alone(error_reply(refused.id, &refused.error))
            }
            Body::Call(call) => match self.reply(&call, attachments) {
                None => vec![Frame::empty()],
                Some((reply, attached)) => {
                    let mut frames = alone(reply);
                    frames.extend(attached);
                    frames
                }
            },
            Body::Batch(items) => {
                let replies: Vec<Vec<u8>> = items
                    .iter()
                    .filter_map(|item| match item {
                        Ok(call) => self.reply(call, &[]).map(|(reply, _)| reply),
                        Err(refused) => Some(error_reply(refused.id, &refused.error)),
                    })
                    .collect();
                if replies.is_empty() {
                    return vec![Frame::empty()];
                }
                let mut out = b"[".to_vec();
                out.extend_from_slice(&replies.join(&b","[..]));
                out.push(b']');
                alone(out)
            }
        }
    }

    /// Runs a call and composes its reply; `None` for a notification.
    fn reply(&mut self, call: &CallView<'_>, attachments: &[Frame]) -> Option<Answered> {
        let outcome = self.run_call(call, attachments);
        let id = call.id?;
        Some(match outcome {
            Ok((result, _)) if result.len() > limits::BODY_BYTES_MAX => {
                let max = limits::BODY_BYTES_MAX;
                let error = RpcError::too_large("result_bytes", result.len(), max);
                (error_reply(Some(id), &error), Vec::new())
            }
            Ok((result, attached)) => (result_reply(id, &result), attached),
            Err(error) => (error_reply(Some(id), &error), Vec::new()),
        })
    }

    fn run_call(
        &mut self,
        call: &CallView<'_>,
        attachments: &[Frame],
    ) -> Result<Answered, RpcError> {
        let registry = Arc::clone(&self.registry);
        let Some((_, function)) = registry.find(&*call.method) else {
            return Err(CallError::UnknownMethod(call.method.to_string()).to_rpc(&self.origin));
        };
        let takes_frames = !attachments.is_empty() || call.meta.frames;
        let params = call.params.unwrap_or_default();
        if matches!(function.runs, Runs::Python) {
            let items = if call.meta.map { u32::MAX } else { 0 };
            let timeout_ms = call.meta.timeout_ms.filter(|_| call.meta.map).unwrap_or(0);
            let head = Head {
                kind: kind::CALL,
                flags: if takes_frames { flag::TAKES_FRAMES } else { 0 },
                serial: 0,
                first: items,
                second: u32::try_from(timeout_ms).unwrap_or(u32::MAX),
                call: 0,
            };
            return self.run_python(head, &call.method, params, attachments);
        }
        self.desk.gate.cancel.clear();
        let timeout = call
            .meta
            .timeout_ms
            .filter(|&ms| ms > 0)
            .map(Duration::from_millis);
        let mut context = CallContext::new(&call.method, &self.desk.gate.cancel);
        context.attachments = attachments;
        context.takes_frames = takes_frames;
        context.deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut result = Vec::new();
        check_named(params, attachments.len())
            .and_then(|()| match &function.runs {
                Runs::Native(native) if call.meta.map => {
                    let (context, out) = (&mut context, &mut result);
                    chunk::run(native, params, timeout, context, &self.origin, out).map(drop)
                }
                Runs::Native(native) => native.call(params, &context, &mut result),
                Runs::Command(command) => {
                    let is_stopped = || self.desk.is_stopped();
                    command.run(params, &context, &self.desk.wake, &is_stopped, &mut result)
                }
                Runs::Run(run) => {
                    let is_stopped = || self.desk.is_stopped();
                    let wake = &self.desk.wake;
                    run.run(
                        params,
                        &context,
                        &self.origin,
                        wake,
                        &is_stopped,
                        &mut result,
                    )
                }
                Runs::Python | Runs::Rep => unreachable!("not in a plain slot"),
            })
            .map_err(|error| error.to_rpc(&self.origin))?;
        Ok((result, context.attached.take()))
    }

    fn run_python(
        &mut self,
        mut head: Head,
        method: &str,
        params: &str,
        attachments: &[Frame],
    ) -> Result<Answered, RpcError> {
        self.revive();
        self.serial = self.serial.wrapping_add(1);
        head.serial = self.serial;
        let gone = |what: String| RpcError::new(Code::WorkerLost).message(what);
        let Some(python) = self.keeper.as_mut().and_then(Keeper::python) else {
            return Err(gone("the Python child is being replaced".into()));
        };
        python.push_call(head, method, params.as_bytes(), attachments);
        if let Some(keeper) = &mut self.keeper {
            keeper.give(1);
        }
        loop {
            if self.desk.is_stopped() {
                return Err(gone("the worker stops".into()));
            }
            let lost = self
                .keeper
                .as_mut()
                .and_then(|keeper| keeper.look_at_memory(true));
            if let Some(lost) = lost {
                return Err(self.lost_call(&lost));
            }
            let Some(python) = self.keeper.as_mut().and_then(Keeper::python) else {
                return Err(gone("the Python child is gone".into()));
            };
            match python.next() {
                Ok(Some(message)) => {
                    if (message.head.kind, message.head.serial) != (kind::RESULT, self.serial) {
                        continue;
                    }
                    let (body, attachments) = (message.body.to_vec(), message.attachments);
                    let is_error = message.head.flags & flag::IS_ERROR != 0;
                    if let Some(keeper) = &mut self.keeper {
                        keeper.answered();
                    }
                    if !is_error {
                        return Ok((body, attachments));
                    }
                    return Err(serde_json::from_slice(&body).unwrap_or_else(|error| {
                        log::error!("slot={}: an unreadable error: {error}", self.label);
                        RpcError::new(Code::InternalError)
                    }));
                }
                Ok(None) => {
                    let due = self.keeper.as_ref().and_then(Keeper::due);
                    self.wait(Interest::Nothing, due)
                        .map_err(|error| gone(error.to_string()))?;
                }
                Err(_) => return Err(self.lose_child()),
            }
        }
    }

    fn lose_child(&mut self) -> RpcError {
        let Some(keeper) = &mut self.keeper else {
            return RpcError::new(Code::WorkerLost);
        };
        let lost = keeper.lost();
        self.lost_call(&lost)
    }

    fn lost_call(&self, lost: &SlotLost) -> RpcError {
        let attempt = serde_json::json!({
            "worker": self.origin.worker,
            "host": self.origin.host,
            "pid": lost.pid,
            "exit_code": lost.exit_code,
            "signal": lost.signal,
            "out_of_memory": lost.out_of_memory,
            "stderr_tail": lost.stderr_tail,
        });
        RpcError::new(Code::WorkerLost).data(&serde_json::json!({ "attempts": [attempt] }))
    }
}
