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
mod own_calls;
mod python_calls;
mod python_child;
mod rep;
mod replies;

pub(crate) use desk::{Desk, LinkOrder, Phase, ReloadOrder};
pub(crate) use gate::Cancel;

use crate::call_error::{CallError, Origin};
use crate::python::{self, Keeper, Python};
use crate::registry::{Registry, Runs};
use estimate::Estimate;
use inbox::Inbox;
use joining::Joining;
use muster_proto::limits;
use muster_proto::rpc::RpcError;
use muster_proto::socket::{Context, Frame, Interest, PollItem, SocketError, poll};
use muster_proto::worker::{Command, flag};
use python_calls::Outstanding;
use rep::RepServer;
use replies::Replies;
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
    /// The stock server that runs its calls.
    pub rep: Option<String>,
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
    /// What is offered once the child's successor serves.
    reload: Option<ReloadOrder>,
    /// The server that runs all its calls, if there is one.
    rep: Option<RepServer>,
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
    has_answered: bool,
}

impl Slot {
    ///
    /// # Errors
    /// When its server's endpoint can't be used.
    pub fn new(context: Context, spec: SlotSpec) -> Result<Self, SocketError> {
        let SlotSpec {
            number,
            label,
            origin,
            registry,
            python,
            first_child,
            rep,
            desk,
        } = spec;
        let rep = rep.map(|endpoint| RepServer::open(&context, &endpoint));
        let keeper = python.map(|source| Keeper::new(source, number, label.clone(), first_child));
        Ok(Slot {
            number,
            joining: Joining::new(context, number, label.clone()),
            label,
            origin,
            estimates: vec![Estimate::default(); registry.len()],
            registry,
            desk,
            keeper,
            reload: None,
            rep: rep.transpose()?,
            is_down: false,
            inbox: Inbox::default(),
            frames: Vec::new(),
            replies: Replies::default(),
            outstanding: VecDeque::new(),
            result: Vec::new(),
            last_end: None,
            quiet_since: Instant::now(),
            has_answered: false,
        })
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
                self.keep_rep()?;
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
        if let Some(order) = self.desk.take_reload() {
            self.begin_reload(order);
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
        self.tend_child()?;
        if let Some(keeper) = &mut self.keeper
            && keeper.is_down()
        {
            let desk = &self.desk;
            let is_interrupted = || desk.phase() != Phase::Serve;
            if keeper.revive(&self.origin, &desk.wake, is_interrupted) && self.is_down {
                self.tell_ready()?;
            }
        }
        let pid = match (&self.keeper, &self.rep) {
            (Some(keeper), _) => Some(keeper.pid()).filter(|&pid| pid != 0),
            (None, Some(rep)) if !rep.is_up() => None,
            // Each call will have a process of its own, which ends with it: none is named.
            (None, None) if self.registry.only_starts_commands() => Some(0),
            (None, _) => Some(self.origin.pid),
        };
        if let Some(pid) = pid
            && !self.desk.is_suspended()
            && self.joining.is_due()
        {
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
            if self.desk.has_news() || self.desk.is_stopped() {
                return Ok(());
            }
            if !self.joining.is_joined() {
                // Its broker is gone, or has given the calls to other slots.
                self.inbox.clear();
                return Ok(());
            }
            if self.rep.is_some() {
                self.run_rep_call()?;
                if self.is_down {
                    return Ok(());
                }
                continue;
            }
            let found = match call.flags & flag::RAW {
                0 => self.registry.find(self.inbox.method_bytes(call)),
                _ => None,
            };
            match found {
                Some((_, function)) if matches!(function.runs, Runs::Python) => {
                    self.run_python_calls()?;
                }
                Some((number, _)) => self.run_call(number)?,
                None => {
                    let error = CallError::UnknownMethod(self.inbox.method(call).to_owned());
                    self.refuse(&error);
                }
            }
            if self.is_down {
                return Ok(());
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SocketError> {
        if !self.replies.is_empty() {
            self.quiet_since = Instant::now();
            if !self.has_answered {
                self.has_answered = true;
                self.desk.answered();
            }
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
        self.wait(due, true)?;
        let Some(python) = self.keeper.as_mut().and_then(Keeper::python) else {
            return Ok(());
        };
        // A child that nothing was asked of says nothing: this finds its end.
        match python.next() {
            Ok(_) => Ok(()),
            Err(_) => self.lose_child(),
        }
    }

    /// Waits for the desk, the child and, if `calls` are wanted, the broker, until `due` at the
    /// latest.
    fn wait(&mut self, due: Option<Instant>, calls: bool) -> Result<(), SocketError> {
        self.last_end = None;
        if calls && self.joining.has_message()? {
            return Ok(());
        }
        let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
        let mut items = Vec::with_capacity(9);
        if let Some(python) = self.keeper.as_ref().and_then(Keeper::python_ref) {
            // What a function yields waits in it while the link has no room.
            items.extend(python.poll_items(!self.replies.is_blocked()));
        }
        let child_items = items.len();
        items.push(PollItem::fd(&self.desk.wake, Interest::Read));
        self.joining
            .add_poll_items(&mut items, calls, self.replies.is_blocked())?;
        if let Some(rep) = &self.rep {
            items.extend(rep.poll_items());
        }
        let successor_items = items.len();
        if let Some(successor) = self.keeper.as_ref().and_then(Keeper::successor) {
            items.extend(successor.poll_items(true));
        }
        poll(&mut items, timeout)?;
        let successor =
            (successor_items < items.len()).then(|| python::readiness(&items[successor_items..]));
        let child = (child_items > 0).then(|| python::readiness(&items));
        let (is_woken, link) = (items[child_items].is_readable(), &items[child_items + 1..]);
        let is_monitored = link.first().is_some_and(PollItem::is_readable);
        drop(items);
        if let Some(ready) = child
            && let Some(python) = self.keeper.as_mut().and_then(Keeper::python)
        {
            python.heed(ready);
        }
        if let Some(ready) = successor
            && let Some(successor) = self.keeper.as_mut().and_then(Keeper::successor_mut)
        {
            successor.heed(ready);
        }
        if is_woken {
            self.desk.wake.drain();
        }
        if is_monitored {
            self.joining.heed_monitor()?;
        }
        if !self.joining.is_up() {
            // Whoever they were for has given the calls to others.
            self.replies.clear();
        }
        if self.replies.is_blocked() {
            self.flush()?;
        }
        Ok(())
    }
}

fn too_large(size: usize) -> RpcError {
    RpcError::too_large("result_bytes", size, limits::BODY_BYTES_MAX)
}
