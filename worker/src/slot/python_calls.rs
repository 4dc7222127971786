//! Calls that run in the slot's Python child.
//!
//! Short ones are handed to the child several at a time, so that neither side waits for the other
//! between two of them. A call that may take long goes alone, with all replies before it sent.

use super::gate::Start;
use super::inbox::CallSpans;
use super::replies::ReplyHead;
use super::{Slot, too_large};
use crate::call_error::CallError;
use crate::python::{Head, Keeper, flag as pipe_flag, kind};
use crate::registry::Runs;
use muster_proto::code::Code;
use muster_proto::id::DispatchId;
use muster_proto::limits;
use muster_proto::rpc::RpcError;
use muster_proto::socket::{Frame, SocketError};
use muster_proto::worker::{Command, StreamItem, StreamKind, flag};
use std::time::{Duration, Instant};

/// Calls the child may have at once, however short they are.
const CALLS_MAX: usize = 64;
/// Expected service time, in µs, that the child may have in hand.
const WINDOW_US: f32 = 2_000.0;
/// An item of a chunk is interrupted by the child itself; one that cannot be, because C code does
/// not come back, is given this much longer before the child is ended.
const ITEM_GRACE: Duration = Duration::from_secs(1);
/// How long a function that looks for its cancellation may go on once it is told.
const CANCEL_GRACE: Duration = Duration::from_secs(1);
/// How long a call may go on after the slot lost the broker that asked for it.
const ORPHAN_GRACE: Duration = Duration::from_secs(10);

/// A call that the child has.
#[derive(Debug)]
pub(super) struct Outstanding {
    dispatch: DispatchId,
    pub(super) seq: u32,
    number: usize,
    id: String,
    items: u32,
    /// Of a chunk: the timeout of an item.
    item_timeout: Option<Duration>,
    /// Stream items sent, by kind.
    streamed: [u32; StreamKind::ALL.len()],
    /// The function looks for its cancellation.
    heeds_cancel: bool,
    /// It was told, and is ended then.
    cancel_due: Option<Instant>,
}

impl Slot {
    /// Runs the Python calls at hand, until the child has answered all it was given.
    pub(super) fn run_python_calls(&mut self) -> Result<(), SocketError> {
        // What the child of a chunk said last; when the broker was lost.
        let mut heard = Instant::now();
        let mut orphaned: Option<Instant> = None;
        loop {
            if self.desk.has_news() {
                self.heed_news()?;
            }
            self.tend_child()?;
            self.hand_over()?;
            if self.outstanding.is_empty() {
                if !self.awaits_successor() {
                    return Ok(());
                }
                self.flush()?;
                self.wait(None, false)?;
                continue;
            }
            // While the link has no room for what a function yields, the function waits, too.
            if !self.replies.is_blocked() && self.take_message()? {
                heard = Instant::now();
                continue;
            }
            if self.is_down || self.desk.is_stopped() {
                return Ok(());
            }
            if self.desk.gate.cancel.is_set() && !self.gives_time_to_cancel() {
                return self.replace_child("cancelled");
            }
            if self.joining.is_joined() {
                orphaned = None;
            } else if orphaned.get_or_insert_with(Instant::now).elapsed() >= ORPHAN_GRACE {
                return self.replace_child("its broker is gone");
            }
            let item_due = self
                .item_timeout()
                .map(|timeout| heard + timeout + ITEM_GRACE);
            if item_due.is_some_and(|due| due <= Instant::now()) {
                return self.expire_chunk();
            }
            self.flush()?;
            let orphan_due = orphaned.map(|since| since + ORPHAN_GRACE);
            let cancel_due = self.outstanding.front().and_then(|call| call.cancel_due);
            let memory_due = self.keeper.as_ref().and_then(Keeper::due);
            let due = [item_due, orphan_due, cancel_due, memory_due]
                .into_iter()
                .flatten()
                .min();
            let calls = self.has_room();
            self.wait(due, calls)?;
        }
    }

    /// A function that looks for its cancellation is told, and has a moment to end by itself.
    fn gives_time_to_cancel(&mut self) -> bool {
        let Some(call) = self.outstanding.front_mut() else {
            return false;
        };
        let now = Instant::now();
        match call.cancel_due {
            Some(due) => due > now,
            None if call.heeds_cancel => {
                call.cancel_due = Some(now + CANCEL_GRACE);
                let serial = call.seq;
                if let Some(python) = self.keeper.as_mut().and_then(Keeper::python) {
                    python.push_cancel(serial);
                }
                true
            }
            None => false,
        }
    }

    fn item_timeout(&self) -> Option<Duration> {
        self.outstanding.front().and_then(|call| call.item_timeout)
    }

    /// Whether a short call could be handed over if one came.
    fn has_room(&self) -> bool {
        self.inbox.is_empty()
            && self.outstanding.len() < CALLS_MAX
            && !self
                .outstanding
                .iter()
                .any(|call| self.is_long(call.number, call.items))
    }

    fn is_long(&self, number: usize, items: u32) -> bool {
        items > 0 || self.estimates[number].is_long()
    }

    /// Gives the child what it may have.
    fn hand_over(&mut self) -> Result<(), SocketError> {
        while self.outstanding.is_empty() || self.has_room() || !self.inbox.is_empty() {
            if self.is_down || self.is_child_spent() || !self.joining.is_joined() {
                return Ok(());
            }
            // While the child computes, further calls are taken in as they come.
            if self.inbox.is_empty() && (self.outstanding.is_empty() || !self.receive()?) {
                return Ok(());
            }
            let Some(call) = self.inbox.front().cloned() else {
                return Ok(());
            };
            let found = self.registry.find(self.inbox.method(&call));
            let Some((number, function)) = found else {
                return Ok(());
            };
            if !matches!(function.runs, Runs::Python) || call.flags & flag::RAW != 0 {
                return Ok(());
            }
            let is_long = self.is_long(number, call.items);
            if !self.outstanding.is_empty() && (is_long || self.is_full(number)) {
                return Ok(());
            }
            if is_long {
                self.flush()?;
            }
            match self.desk.gate.start(call.seq) {
                Start::Run => self.push_call(&call, number),
                Start::Skip => self.inbox.advance(),
                Start::Refuse => self.refuse(&CallError::Cancelled),
            }
        }
        Ok(())
    }

    /// Whether the child has enough in hand to add one more of this function.
    fn is_full(&self, number: usize) -> bool {
        let is_long = |call: &Outstanding| self.is_long(call.number, call.items);
        let in_hand: f32 = self
            .outstanding
            .iter()
            .map(|call| self.estimates[call.number].mean_us())
            .sum();
        self.outstanding.len() >= CALLS_MAX
            || self.outstanding.iter().any(is_long)
            || in_hand + self.estimates[number].mean_us() > WINDOW_US
    }

    fn push_call(&mut self, call: &CallSpans, number: usize) {
        self.inbox.advance();
        let timeout_ms = if call.items > 0 { call.remaining_ms } else { 0 };
        let mut flags = 0;
        if call.flags & flag::FRAMES != 0 {
            flags |= pipe_flag::TAKES_FRAMES;
        }
        if call.flags & flag::SHARED != 0 {
            flags |= pipe_flag::TAKES_SHARED;
        }
        if call.flags & flag::STREAM != 0 {
            flags |= pipe_flag::WANTS_STREAM;
        }
        self.outstanding.push_back(Outstanding {
            dispatch: call.dispatch,
            seq: call.seq,
            number,
            id: self.inbox.id(call).to_owned(),
            items: call.items,
            item_timeout: (timeout_ms > 0).then(|| Duration::from_millis(u64::from(timeout_ms))),
            streamed: [0; StreamKind::ALL.len()],
            heeds_cancel: false,
            cancel_due: None,
        });
        let head = Head {
            kind: kind::CALL,
            flags,
            serial: call.seq,
            first: call.items,
            second: timeout_ms,
            call: call.dispatch.call.0,
        };
        let (inbox, keeper) = (&self.inbox, &mut self.keeper);
        if let Some(keeper) = keeper {
            keeper.give(call.items);
        }
        if let Some(python) = keeper.as_mut().and_then(Keeper::python) {
            let (method, body) = (inbox.method(call), inbox.body(call));
            python.push_call(head, method, body, inbox.attachments(call));
        }
    }

    /// Takes one message of the child; false when there is none.
    fn take_message(&mut self) -> Result<bool, SocketError> {
        let Slot {
            keeper,
            outstanding,
            replies,
            estimates,
            desk,
            joining,
            ..
        } = self;
        let Some(python) = keeper.as_mut().and_then(Keeper::python) else {
            self.lose_child()?;
            return Ok(false);
        };
        let message = match python.next() {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(false),
            Err(error) => {
                if error.kind() == std::io::ErrorKind::InvalidData {
                    log::error!("slot={}: the Python child sent {error}", self.label);
                }
                self.lose_child()?;
                return Ok(false);
            }
        };
        let (head, body) = (message.head, message.body);
        let Some(call) = outstanding
            .front_mut()
            .filter(|call| call.seq == head.serial)
        else {
            return Ok(true);
        };
        match head.kind {
            kind::RESULT => {
                let is_plain = call.items == 0;
                if is_plain {
                    estimates[call.number].add(head.first);
                }
                let is_error = head.flags & pipe_flag::IS_ERROR != 0;
                let mut reply = ReplyHead {
                    dispatch: call.dispatch,
                    service_us: head.first,
                    items: head.second.max(1),
                    is_error,
                };
                if !joining.is_joined() {
                    // Its broker is gone, or has given the call to another slot.
                } else if body.len() > limits::BODY_BYTES_MAX {
                    reply.is_error = true;
                    replies.push(reply, "", too_large(body.len()).to_json().as_bytes(), []);
                } else {
                    replies.push(reply, &call.id, body, message.attachments);
                }
                desk.gate.end(call.seq);
                outstanding.pop_front();
                if let Some(keeper) = keeper {
                    keeper.answered();
                }
                if replies.is_full() {
                    self.flush()?;
                }
            }
            kind::STREAM => {
                let Some(kind) = stream_kind(head.flags) else {
                    return Ok(true);
                };
                let sent = &mut call.streamed[kind as usize - 1];
                *sent += 1;
                let item = StreamItem {
                    dispatch: call.dispatch,
                    seq: *sent,
                    kind,
                    value: body,
                };
                let mut packed = Vec::new();
                item.pack(&mut packed);
                let mut frames = vec![Frame::from(&Command::Stream.frame()), Frame::from(packed)];
                frames.extend(message.attachments);
                match (kind, joining.socket()) {
                    // What a function yields waits for room, the rest is a courtesy.
                    (StreamKind::Item, Some(socket)) if joining.is_joined() => {
                        replies.send_after(frames, socket)?;
                    }
                    _ => {
                        let _ = joining.send(frames)?;
                    }
                }
            }
            kind::HEEDS_CANCEL => call.heeds_cancel = true,
            // It shows that a chunk goes on, and its arrival has done so.
            kind::TICK => {}
            kind => log::error!("slot={}: the Python child sent kind {kind:#x}", self.label),
        }
        Ok(true)
    }

    /// An item of a chunk hangs where the child itself cannot interrupt it.
    fn expire_chunk(&mut self) -> Result<(), SocketError> {
        if let Some(call) = self.outstanding.pop_front() {
            let error = RpcError::new(Code::DeadlineExceeded)
                .data(&serde_json::json!({"state": "running"}));
            let head = ReplyHead {
                dispatch: call.dispatch,
                service_us: 0,
                items: 1,
                is_error: true,
            };
            self.replies.push(head, "", error.to_json().as_bytes(), []);
            self.desk.gate.end(call.seq);
        }
        self.replace_child("overran the timeout of its items")
    }
}

fn stream_kind(flags: u8) -> Option<StreamKind> {
    StreamKind::ALL
        .into_iter()
        .find(|kind| *kind as u8 == flags)
}
