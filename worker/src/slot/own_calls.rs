//! Calls that run in the slot itself: Rust functions, and commands, which it waits for.

use super::gate::Start;
use super::inbox::CallSpans;
use super::replies::{Replies, ReplyHead};
use super::{Slot, too_large};
use crate::attachment::check_named;
use crate::call_error::CallError;
use crate::chunk;
use crate::context::CallContext;
use crate::registry::Runs;
use muster_proto::limits;
use muster_proto::socket::{Frame, SocketError};
use muster_proto::worker::{Command, StreamItem, StreamKind, flag};
use std::cell::RefCell;
use std::time::{Duration, Instant};

impl Slot {
    /// Runs the next call, of a Rust function or a command.
    pub(super) fn run_call(&mut self, number: usize) -> Result<(), SocketError> {
        let Some(call) = self.inbox.front().cloned() else {
            return Ok(());
        };
        let is_long = call.items > 0 || self.estimates[number].is_long();
        if is_long || self.replies.is_full() {
            self.flush()?;
        }
        if !self.may_start(call.seq) {
            return Ok(());
        }
        let began = self.last_end.unwrap_or_else(Instant::now);
        let (outcome, attached) = self.compute(&call, number, began);
        self.desk.gate.end(call.seq);
        let end = Instant::now();
        self.last_end = Some(end);
        let service_us = micros(end - began);
        if call.items == 0 {
            self.estimates[number].add(service_us);
        }
        let (items, error) = match outcome {
            Ok(items) if self.result.len() <= limits::BODY_BYTES_MAX => (items, None),
            Ok(_) => (1, Some(too_large(self.result.len()))),
            Err(error) => (1, Some(error.to_rpc(&self.origin))),
        };
        let is_error = error.is_some();
        let head = ReplyHead {
            dispatch: call.dispatch,
            service_us,
            items,
            is_error,
        };
        match error {
            None => {
                let is_whole = Replies::makes_whole(&self.result);
                let id = if is_whole { self.inbox.id(&call) } else { "" };
                self.replies.push(head, id, &self.result, attached);
            }
            Some(error) => self.replies.push(head, "", error.to_json().as_bytes(), []),
        }
        // A caller shall not wait for the calls behind its own for longer than a long call takes.
        if is_long || self.replies.is_full() {
            self.flush()?;
        }
        Ok(())
    }

    /// Leaves the result of a call in `self.result`; returns how many items it had, and what
    /// travels beside it.
    fn compute(
        &mut self,
        call: &CallSpans,
        number: usize,
        began: Instant,
    ) -> (Result<u32, CallError>, Vec<Frame>) {
        self.result.clear();
        let Slot {
            registry,
            inbox,
            desk,
            joining,
            origin,
            result,
            ..
        } = self;
        let timeout =
            (call.remaining_ms > 0).then(|| Duration::from_millis(u64::from(call.remaining_ms)));
        let attachments = inbox.attachments(call);
        let mut streamed = [0; StreamKind::ALL.len()];
        let mut stream = |kind: StreamKind, value: &[u8]| {
            let seq = &mut streamed[kind as usize - 1];
            *seq += 1;
            let mut packed = Vec::new();
            let item = StreamItem {
                dispatch: call.dispatch,
                seq: *seq,
                kind,
                value,
            };
            item.pack(&mut packed);
            // Dropped when the broker does not keep up: a stream is a courtesy.
            let _ = joining.send([Frame::from(&Command::Stream.frame()), Frame::from(packed)]);
        };
        let function = registry.function(number);
        let mut context = CallContext::new(&function.method.name, &desk.gate.cancel);
        context.attachments = attachments;
        context.takes_frames = call.flags & flag::FRAMES != 0;
        context.deadline = timeout
            .filter(|_| call.items == 0)
            .map(|timeout| began + timeout);
        if call.flags & flag::STREAM != 0 {
            context.stream = Some(RefCell::new(&mut stream));
        }
        let computed = match std::str::from_utf8(inbox.body(call)) {
            Err(_) => Err(CallError::InvalidParams(
                "the parameters are no UTF-8".into(),
            )),
            Ok(body) => check_named(body, attachments.len()).and_then(|()| match &function.runs {
                Runs::Native(native) if call.items > 0 => {
                    chunk::run(native, body, timeout, &mut context, origin, result)
                }
                Runs::Native(native) => native.call(body, &context, result).map(|()| 1),
                Runs::Command(command) => {
                    let is_stopped = || desk.is_stopped();
                    command
                        .run(body, &context, &desk.wake, &is_stopped, result)
                        .map(|()| 1)
                }
                Runs::Run(run) => {
                    let is_stopped = || desk.is_stopped();
                    run.run(body, &context, origin, &desk.wake, &is_stopped, result)
                        .map(|()| 1)
                }
                Runs::Python | Runs::Rep => unreachable!("these run elsewhere"),
            }),
        };
        let attached = if computed.is_ok() {
            context.attached.take()
        } else {
            Vec::new()
        };
        (computed, attached)
    }

    /// Takes the next call up. `false`: it is not to run, since it was recalled or cancelled.
    pub(super) fn may_start(&mut self, seq: u32) -> bool {
        match self.desk.gate.start(seq) {
            Start::Refuse => self.refuse(&CallError::Cancelled),
            start => {
                self.inbox.advance();
                return start == Start::Run;
            }
        }
        false
    }

    /// Answers the next call with an error instead of running it.
    pub(super) fn refuse(&mut self, error: &CallError) {
        let Some(call) = self.inbox.front().cloned() else {
            return;
        };
        self.inbox.advance();
        if matches!(error, CallError::UnknownMethod(_)) && self.is_withdrawn(call.seq) {
            return;
        }
        let error = error.to_rpc(&self.origin).to_json();
        let head = ReplyHead {
            dispatch: call.dispatch,
            service_us: 0,
            items: 1,
            is_error: true,
        };
        self.replies.push(head, "", error.as_bytes(), []);
    }

    /// Takes note of a call that will not run; whether it was given back.
    fn is_withdrawn(&self, seq: u32) -> bool {
        let start = self.desk.gate.start(seq);
        self.desk.gate.end(seq);
        start == Start::Skip
    }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
