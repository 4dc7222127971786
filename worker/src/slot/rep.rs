//! Calls that a stock REP server answers: `muster-worker --rep`.
//!
//! The slot stands in front of one server. It hands over one call at a time, below an envelope that
//! the server sends back untouched, so that an answer is never taken for another call's. A server
//! can't be told to stop: a cancelled call keeps its slot busy until it is answered.

use super::Slot;
use super::inbox::CallSpans;
use super::replies::ReplyHead;
use crate::link::Link;
use muster_proto::code::Code;
use muster_proto::id::DispatchId;
use muster_proto::rpc::{self, ReplyView, RpcError};
use muster_proto::socket::{
    Context, Frame, Interest, LinkEvent, PollItem, Profile, SendOutcome, SocketError,
};
use muster_proto::worker::{SlotLost, flag};
use std::time::Instant;

/// Calls that may be on their way to the server.
const CREDIT: u32 = 1;

/// The server of a slot.
pub(super) struct RepServer {
    endpoint: String,
    link: Link,
    is_up: bool,
    frames: Vec<Frame>,
}

impl RepServer {
    /// Starts to connect.
    pub fn open(context: &Context, endpoint: &str) -> Result<Self, SocketError> {
        let profile = Profile::LaneDial { credit: CREDIT };
        Ok(RepServer {
            endpoint: endpoint.to_owned(),
            link: Link::open(context, &profile, endpoint, None)?,
            is_up: false,
            frames: Vec::new(),
        })
    }

    /// Whether it is there.
    pub fn is_up(&self) -> bool {
        self.is_up
    }

    /// What shows that it came, left or answered.
    pub fn poll_items(&self) -> [PollItem<'_>; 2] {
        [
            PollItem::socket(self.link.monitor.socket(), Interest::Read),
            PollItem::socket(&self.link.socket, Interest::Read),
        ]
    }

    /// Looks at what became of the connection; whether it ended meanwhile.
    fn heed_monitor(&mut self, label: &str) -> Result<bool, SocketError> {
        let mut has_ended = false;
        while let Some(event) = self.link.event()? {
            match event {
                LinkEvent::Up => {
                    log::info!("slot={label}: {} is there", self.endpoint);
                    self.is_up = true;
                }
                LinkEvent::Down if self.is_up => {
                    log::warn!("slot={label}: {} is gone", self.endpoint);
                    (self.is_up, has_ended) = (false, true);
                }
                _ => {}
            }
        }
        Ok(has_ended)
    }

    /// The answer to a dispatch: its frames without the envelope. Answers to others are dropped.
    fn answer_to(&mut self, dispatch: DispatchId) -> Result<Option<Vec<Frame>>, SocketError> {
        while self.link.socket.recv_into(&mut self.frames)? {
            let is_its = self
                .frames
                .first()
                .is_some_and(|frame| frame[..] == dispatch.to_bytes());
            if is_its {
                return Ok(Some(self.frames.drain(..).skip(2).collect()));
            }
        }
        Ok(None)
    }
}

impl Slot {
    /// Runs the next call by the server.
    pub(super) fn run_rep_call(&mut self) -> Result<(), SocketError> {
        let Some(call) = self.inbox.front().cloned() else {
            return Ok(());
        };
        self.flush()?;
        if !self.may_start(call.seq) {
            return Ok(());
        }
        let message = self.request_of(&call);
        let began = Instant::now();
        let Some(rep) = &mut self.rep else {
            return Ok(());
        };
        let is_sent = rep.link.socket.send(message)? == SendOutcome::Sent;
        let answer = if is_sent {
            self.await_answer(call.dispatch)?
        } else {
            None
        };
        self.desk.gate.end(call.seq);
        match answer {
            Some(answer) => {
                let service = began.elapsed().as_micros();
                let service_us = u32::try_from(service).unwrap_or(u32::MAX);
                self.push_answer(&call, answer, service_us);
                self.flush()
            }
            None if self.desk.is_stopped() => Ok(()),
            None => self.lose_rep(),
        }
    }

    /// The call as the server takes it: a raw body as it is, a JSON-RPC call without what is
    /// Muster's own, and under an id of ours.
    fn request_of(&self, call: &CallSpans) -> Vec<Frame> {
        let body = self.inbox.body(call);
        let body = if call.flags & flag::RAW != 0 {
            Frame::from(body)
        } else {
            let method = serde_json::to_string(self.inbox.method(call)).expect("a string is JSON");
            let params: &[&[u8]] = match body {
                b"" => &[],
                params => &[br#","params":"#, params],
            };
            let id = call.seq.to_string();
            let head = [
                br#"{"jsonrpc":"2.0","method":"#.as_slice(),
                method.as_bytes(),
            ];
            let tail = [br#","id":"#.as_slice(), id.as_bytes(), b"}"];
            Frame::join(&[&head, params, &tail].concat())
        };
        let mut message = vec![Frame::from(&call.dispatch.to_bytes()), Frame::empty(), body];
        message.extend(self.inbox.attachments(call).iter().map(Frame::share));
        message
    }

    /// Waits for the server; `None` when it is gone, or the slot is to stop.
    fn await_answer(&mut self, dispatch: DispatchId) -> Result<Option<Vec<Frame>>, SocketError> {
        loop {
            let Some(rep) = &mut self.rep else {
                return Ok(None);
            };
            // What it said before it went counts.
            let has_ended = rep.heed_monitor(&self.label)?;
            if let Some(answer) = rep.answer_to(dispatch)? {
                return Ok(Some(answer));
            }
            if has_ended || !rep.is_up || self.desk.is_stopped() {
                return Ok(None);
            }
            if self.desk.has_news() {
                self.heed_news()?;
            }
            self.wait(None, false)?;
        }
    }

    fn push_answer(&mut self, call: &CallSpans, mut answer: Vec<Frame>, service_us: u32) {
        let mut head = ReplyHead {
            dispatch: call.dispatch,
            service_us,
            items: 1,
            is_error: false,
        };
        if !self.joining.is_joined() {
            // Its broker is gone, or has given the call to another slot.
            return;
        }
        let attachments = answer.split_off(answer.len().min(1));
        let body = answer.pop().unwrap_or_default();
        if call.flags & flag::RAW != 0 {
            return self.replies.push_raw(head, body, attachments);
        }
        let error = match rpc::read_reply(&body) {
            Some(ReplyView {
                outcome: Ok(result),
                ..
            }) => {
                let id = self.inbox.id(call);
                return self.replies.push(head, id, result.as_bytes(), attachments);
            }
            Some(ReplyView {
                outcome: Err(error),
                ..
            }) => error,
            None => RpcError::new(Code::BadReply)
                .message("what the server sent can't be read as an answer"),
        };
        head.is_error = true;
        self.replies.push(head, "", error.to_json().as_bytes(), []);
    }

    /// The server is gone, with the call it may have had.
    fn lose_rep(&mut self) -> Result<(), SocketError> {
        self.tell_lost(&SlotLost {
            slot: self.number,
            pid: self.origin.pid,
            ..SlotLost::default()
        })
    }

    /// Between calls: the broker hears when the server goes and when it is back.
    pub(super) fn keep_rep(&mut self) -> Result<(), SocketError> {
        let Some(rep) = &mut self.rep else {
            return Ok(());
        };
        let has_ended = rep.heed_monitor(&self.label)?;
        // Answers that nobody waits for any more.
        while rep.link.socket.recv_into(&mut rep.frames)? {}
        if has_ended && !self.is_down {
            self.lose_rep()?;
        }
        if self.is_down && self.rep.as_ref().is_some_and(RepServer::is_up) {
            self.tell_ready()?;
        }
        Ok(())
    }
}
