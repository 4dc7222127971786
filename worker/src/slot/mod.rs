//! One slot: room for one running call, and the data link its calls come by.
//!
//! The slot reads a message of calls, runs them in order and packs the replies into as few
//! messages as it can: they go out before a call starts that may take long, and whenever no further
//! call is at hand. What must reach a slot that computes comes by its [`Desk`].

mod desk;
mod estimate;
mod gate;
mod inbox;
mod joining;
mod python_calls;
mod replies;

pub(crate) use desk::{Desk, LinkOrder, Phase};
pub(crate) use gate::Cancel;

use crate::attachment::check_named;
use crate::call_error::{CallError, Origin};
use crate::chunk;
use crate::context::CallContext;
use crate::python::{self, Keeper, Python};
use crate::registry::{Registry, Runs};
use estimate::Estimate;
use gate::Start;
use inbox::{CallSpans, Inbox};
use joining::Joining;
use muster_proto::limits;
use muster_proto::rpc::RpcError;
use muster_proto::socket::{Context, Frame, Interest, PollItem, SocketError, poll};
use muster_proto::worker::{Command, StreamItem, flag};
use python_calls::Outstanding;
use replies::{Replies, ReplyHead};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A draining slot ends when no call came for this long: some may still be on their way.
const DRAIN_QUIET: Duration = Duration::from_millis(100);

/// What a slot is made of.
pub(crate) struct SlotSpec {
    /// Its number, from 1.
    pub number: u32,
    /// NAME.NUMBER, for logs and for its child's command line.
    pub label: String,
    /// Whose errors its calls answer; the pid is the slot's.
    pub origin: Origin,
    pub registry: Arc<Registry>,
    pub python: Option<python::Source>,
    /// A child that has loaded its modules already.
    pub first_child: Option<Python>,
    pub desk: Arc<Desk>,
}

/// A slot that serves a broker.
pub(crate) struct Slot {
    number: u32,
    label: String,
    origin: Origin,
    registry: Arc<Registry>,
    desk: Arc<Desk>,
    joining: Joining,
    /// The Python child, if some function needs one.
    keeper: Option<Keeper>,
    /// The broker was told that the child is gone, and not yet that its successor is up.
    is_down: bool,
    inbox: Inbox,
    /// A message just received.
    frames: Vec<Frame>,
    replies: Replies,
    /// By number of function.
    estimates: Vec<Estimate>,
    /// Calls the Python child has and has not answered, in order.
    outstanding: VecDeque<Outstanding>,
    /// The result that is being made.
    result: Vec<u8>,
    /// The end of the last call, when nothing has been waited for since.
    last_end: Option<Instant>,
    /// When a draining slot saw its last call.
    quiet_since: Instant,
}

impl Slot {
    pub fn new(context: Context, spec: SlotSpec) -> Self {
        let SlotSpec {
            number,
            label,
            origin,
            registry,
            python,
            first_child,
            desk,
        } = spec;
        let keeper = python.map(|source| Keeper::new(source, number, label.clone(), first_child));
        Slot {
            number,
            joining: Joining::new(context, number, label.clone()),
            label,
            origin,
            estimates: vec![Estimate::default(); registry.len()],
            registry,
            desk,
            keeper,
            is_down: false,
            inbox: Inbox::default(),
            frames: Vec::new(),
            replies: Replies::default(),
            outstanding: VecDeque::new(),
            result: Vec::new(),
            last_end: None,
            quiet_since: Instant::now(),
        }
    }

    /// Serves until the desk says to end.
    ///
    /// # Errors
    /// When sockets can't be used any more.
    pub fn run(mut self) -> Result<(), SocketError> {
        loop {
            if self.desk.has_news() {
                self.heed_news()?;
            }
            match self.desk.phase() {
                Phase::Serve => {}
                Phase::Drain if self.is_quiet() => break,
                Phase::Drain => {}
                Phase::Stop => break,
            }
            if self.inbox.is_empty() && !self.receive()? {
                self.keep_python()?;
                // It may have come while a child was started, and the wake with it is used up.
                if !self.desk.has_news() {
                    self.pause()?;
                }
                continue;
            }
            self.work()?;
        }
        self.flush()?;
        if self.desk.phase() == Phase::Drain {
            self.joining.linger()?;
        }
        Ok(())
    }

    fn heed_news(&mut self) -> Result<(), SocketError> {
        if let Some(order) = self.desk.take_news() {
            self.origin.worker.clone_from(&order.worker);
            self.joining.obey(order)?;
        }
        Ok(())
    }

    /// Whether a draining slot holds nothing and nothing has come for a while.
    fn is_quiet(&self) -> bool {
        let is_idle = self.inbox.is_empty() && !self.replies.is_blocked();
        is_idle && (self.is_down || self.quiet_since.elapsed() >= DRAIN_QUIET)
    }

    /// Sees to it that the Python child lives, that the broker knows, and that the slot is joined.
    fn keep_python(&mut self) -> Result<(), SocketError> {
        if let Some(keeper) = &mut self.keeper
            && keeper.due().is_some()
        {
            let desk = &self.desk;
            let is_interrupted = || desk.phase() != Phase::Serve;
            if keeper.revive(&self.origin, &desk.wake, is_interrupted) && self.is_down {
                self.tell_ready()?;
            }
        }
        let pid = match &self.keeper {
            None => self.origin.pid,
            Some(keeper) => keeper.pid(),
        };
        if pid != 0 && !self.desk.is_suspended() && self.joining.is_due() {
            // Nothing of the time before concerns the broker any more. First this, then the join:
            // its answer may be followed by a recall, which must find the new numbers.
            self.desk.gate.reset();
            self.inbox.clear();
            self.replies.clear();
            self.is_down = false;
            self.joining.join(pid)?;
        }
        Ok(())
    }

    /// The next message: true when it brought calls.
    fn receive(&mut self) -> Result<bool, SocketError> {
        while self.joining.receive(&mut self.frames)? {
            let Some(command) = self
                .frames
                .first()
                .and_then(|frame| Command::read(frame).ok())
            else {
                log::warn!(
                    "slot={}: the broker sent no message of this protocol",
                    self.label
                );
                continue;
            };
            if command != Command::Calls {
                self.joining.heed(command, &self.frames)?;
                continue;
            }
            self.quiet_since = Instant::now();
            // Calls of a time before the join, or for the child that died, are others' by now.
            if !self.joining.is_joined() || self.is_down {
                continue;
            }
            match self.inbox.load(&mut self.frames) {
                Ok(()) if self.inbox.is_empty() => {}
                Ok(()) => return Ok(true),
                Err(error) => log::error!("slot={}: {error} from the broker", self.label),
            }
        }
        Ok(false)
    }

    /// Runs the calls at hand, until there is news.
    fn work(&mut self) -> Result<(), SocketError> {
        while let Some(call) = self.inbox.front() {
            if self.desk.has_news() {
                return Ok(());
            }
            let method = self.inbox.method(call);
            let found = match call.flags & flag::RAW {
                0 => self.registry.find(method),
                _ => None,
            };
            match found {
                Some((_, function)) if matches!(function.runs, Runs::Python) => {
                    self.run_python_calls()?;
                }
                Some((number, _)) => self.run_call(number)?,
                None => {
                    let error = CallError::UnknownMethod(method.to_owned());
                    self.refuse(&error)?;
                }
            }
            if self.is_down {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Runs the next call, of a Rust function or a command.
    fn run_call(&mut self, number: usize) -> Result<(), SocketError> {
        let Some(call) = self.inbox.front().cloned() else {
            return Ok(());
        };
        let is_long = call.items > 0 || self.estimates[number].is_long();
        if is_long || self.replies.is_full() {
            self.flush()?;
        }
        match self.desk.gate.start(call.seq) {
            Start::Run => {}
            Start::Skip => {
                self.inbox.advance();
                return Ok(());
            }
            Start::Refuse => return self.refuse(&CallError::Cancelled),
        }
        self.inbox.advance();
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
            None => self
                .replies
                .push(head, self.inbox.id(&call), &self.result, attached),
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
        let mut stream_seq = 0;
        let mut stream = |kind, value: &[u8]| {
            stream_seq += 1;
            let mut packed = Vec::new();
            let item = StreamItem {
                dispatch: call.dispatch,
                seq: stream_seq,
                kind,
                value,
            };
            item.pack(&mut packed);
            // Dropped when the broker does not keep up: a stream is a courtesy.
            let _ = joining.send([Frame::from(&Command::Stream.frame()), Frame::from(packed)]);
        };
        let mut context = CallContext::new(inbox.method(call), &desk.gate.cancel);
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
            Ok(body) => check_named(body, attachments.len()).and_then(|()| {
                match &registry.function(number).runs {
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
                    Runs::Python => unreachable!("these go to the Python child"),
                }
            }),
        };
        let attached = if computed.is_ok() {
            context.attached.take()
        } else {
            Vec::new()
        };
        (computed, attached)
    }

    /// Answers the next call with an error instead of running it.
    fn refuse(&mut self, error: &CallError) -> Result<(), SocketError> {
        let Some(call) = self.inbox.front().cloned() else {
            return Ok(());
        };
        self.inbox.advance();
        if matches!(error, CallError::UnknownMethod(_)) && self.is_withdrawn(call.seq) {
            return Ok(());
        }
        let error = error.to_rpc(&self.origin).to_json();
        let head = ReplyHead {
            dispatch: call.dispatch,
            service_us: 0,
            items: 1,
            is_error: true,
        };
        self.replies.push(head, "", error.as_bytes(), []);
        Ok(())
    }

    /// Takes note of a call that will not run; whether it was given back.
    fn is_withdrawn(&self, seq: u32) -> bool {
        let start = self.desk.gate.start(seq);
        self.desk.gate.end(seq);
        start == Start::Skip
    }

    fn flush(&mut self) -> Result<(), SocketError> {
        if !self.replies.is_empty() {
            self.quiet_since = Instant::now();
        }
        match self.joining.socket() {
            Some(socket) => self.replies.flush(socket),
            None => {
                self.replies.clear();
                Ok(())
            }
        }
    }

    /// No call is at hand: sends the replies and waits until something happens.
    fn pause(&mut self) -> Result<(), SocketError> {
        self.flush()?;
        let quiet_end = (self.desk.phase() == Phase::Drain)
            .then(|| self.quiet_since + DRAIN_QUIET)
            .filter(|_| !self.replies.is_blocked());
        let child_due = self.keeper.as_ref().and_then(Keeper::due);
        let retry_at = self
            .joining
            .retry_at()
            .filter(|_| !self.desk.is_suspended());
        let due = [quiet_end, child_due, retry_at].into_iter().flatten().min();
        self.wait(due, Interest::Read)?;
        let Some(python) = self.keeper.as_mut().and_then(Keeper::python) else {
            return Ok(());
        };
        // A child that nothing was asked of says nothing: this finds its end.
        match python.next() {
            Ok(_) => Ok(()),
            Err(_) => self.lose_child(),
        }
    }

    /// Waits for the broker, the desk and the child, until `due` at the latest.
    fn wait(&mut self, due: Option<Instant>, calls: Interest) -> Result<(), SocketError> {
        let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
        let calls = if self.replies.is_blocked() {
            Interest::Both
        } else {
            calls
        };
        self.last_end = None;
        let wake = PollItem::fd(&self.desk.wake, Interest::Read);
        let mut items = Vec::with_capacity(7);
        if let Some(python) = self.keeper.as_ref().and_then(Keeper::python_ref) {
            items.extend(python.poll_items());
        }
        let child_items = items.len();
        items.push(wake);
        items.extend(self.joining.poll_items(calls));
        poll(&mut items, timeout)?;
        let child = (child_items > 0).then(|| python::readiness(&items));
        let is_woken = items[child_items].is_readable();
        drop(items);
        if let Some(ready) = child
            && let Some(python) = self.keeper.as_mut().and_then(Keeper::python)
        {
            python.heed(ready);
        }
        if is_woken {
            self.desk.wake.drain();
        }
        self.joining.heed_monitor()?;
        if !self.joining.is_up() {
            // Whoever they were for has given the calls to others.
            self.replies.clear();
        }
        if let Some(socket) = self.joining.socket() {
            self.replies.send_waiting(socket)?;
        }
        Ok(())
    }
}

fn too_large(size: usize) -> RpcError {
    RpcError::too_large("result_bytes", size, limits::BODY_BYTES_MAX)
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
