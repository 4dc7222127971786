//! The thread that owns the socket.
//!
//! Callers leave [`Command`]s at the [`Handle`]; the thread keeps every call in the [`Ledger`] until
//! the outcome is there. A lost link is opened anew: the broker is asked who it is before anything is
//! sent again, because calls that must not run twice may go to the same broker only.

mod recovery;

use crate::answer::{Answer, Reply, id_of};
use crate::entry::{Entry, Key, Sink};
use crate::error::Error;
use crate::handle::{Command, Handle};
use crate::ledger::Ledger;
use crate::link::{Link, Tag};
use crate::request;
use crate::status::Status;
use crate::target::{Address, Target};
use log::debug;
use muster_proto::limits;
use muster_proto::socket::{Context, Interest, LinkEvent, PollItem, SocketError, poll};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Messages received or sent before the thread looks at its other work.
const BURST: usize = 256;
/// How long an opened link may take until the broker has told its status.
const LINK_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause before the broker is looked for again.
const RETRY: Duration = Duration::from_millis(50);
/// How long the end waits for the broker to have the last cancels.
const FAREWELL: Duration = Duration::from_millis(200);

/// How far the way to the broker is.
enum Phase {
    /// No link; the broker is looked for at this time.
    Down { retry: Instant },
    /// A link is opened; when it has no status by then, it is opened anew.
    Opening { until: Instant },
    /// The broker is known and calls flow.
    Ready,
}

/// The thread's side.
pub(crate) struct Transport {
    handle: Arc<Handle>,
    context: Context,
    target: Target,
    patience: Duration,
    link: Option<Link>,
    phase: Phase,
    /// Since when there is no broker.
    lost: Option<Instant>,
    /// The broker that had our calls last.
    epoch: Option<String>,
    ledger: Ledger,
    once: FxHashMap<String, bool>,
    ping: Instant,
    heard: Instant,
    /// Since when, and when next, methods are asked for after a restart.
    asking: Option<(Instant, Instant)>,
    commands: Vec<Command>,
}

impl Transport {
    pub(crate) fn new(
        handle: Arc<Handle>,
        context: Context,
        target: Target,
        patience: Duration,
        address: Address,
    ) -> Result<Self, Error> {
        let now = Instant::now();
        let link = Link::open(&context, address)?;
        Ok(Transport {
            handle,
            context,
            target,
            patience,
            link: Some(link),
            phase: Phase::Opening {
                until: now + LINK_TIMEOUT,
            },
            lost: Some(now),
            epoch: None,
            ledger: Ledger::default(),
            once: FxHashMap::default(),
            ping: now,
            heard: now,
            asking: None,
            commands: Vec::new(),
        })
    }

    /// Works until the last client is gone.
    pub(crate) fn run(mut self) {
        while let Ok(true) = self.turn() {}
        // Whatever fails here, the end is the same.
        let _ = self.farewell();
    }

    /// Sends the last wishes, such as cancels, and waits a moment for the broker to have them.
    fn farewell(&mut self) -> Result<(), SocketError> {
        let others = self.ledger.take_others();
        self.fail(others, &Error::Closed);
        let deadline = Instant::now() + FAREWELL;
        while matches!(self.phase, Phase::Ready) && !self.ledger.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let is_full = self.send()?;
            if left.is_zero() || (self.receive()? == 0 && self.ledger.is_empty()) {
                return Ok(());
            }
            match &self.link {
                Some(link) => link.wait(&self.handle.wake, is_full, Some(left))?,
                None => return Ok(()),
            }
            self.handle.wake.drain();
            self.watch()?;
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<bool, SocketError> {
        if !self.take_commands() {
            return Ok(false);
        }
        self.watch()?;
        let received = self.receive()?;
        let is_full = self.send()?;
        self.keep_time();
        if received < BURST {
            self.sleep(is_full)?;
        }
        Ok(true)
    }

    fn take_commands(&mut self) -> bool {
        let mut commands = std::mem::take(&mut self.commands);
        self.handle.swap_commands(&mut commands);
        for command in commands.drain(..) {
            match command {
                Command::Submit(entry) => self.ledger.insert(entry),
                Command::Cancel(id) => self.cancel(vec![id]),
                Command::CancelGroup(group) => self.cancel(self.ledger.ids_of_group(group)),
                Command::Stop => return false,
            }
        }
        // The emptied buffer becomes the next swap's other half.
        self.commands = commands;
        true
    }

    /// Ends unsent calls here and asks the broker to end the others.
    fn cancel(&mut self, ids: Vec<u64>) {
        let mut keys = Vec::new();
        for id in ids {
            let Some(entry) = self.ledger.get(id) else {
                continue;
            };
            match &entry.key {
                _ if !entry.is_sent => self.end(id, Err(Error::Cancelled)),
                Key::Numbered { count } => {
                    keys.extend((id..id + count).map(|id| self.handle.key(id)));
                }
                Key::Given(key) => keys.push(key.clone()),
                Key::None => self.end(id, Err(Error::Cancelled)),
            }
        }
        for keys in keys.chunks(limits::BATCH_CALLS_MAX) {
            let id = self.handle.ids(1);
            self.ledger.insert(request::cancel(id, keys));
        }
    }

    fn watch(&mut self) -> Result<(), SocketError> {
        while let Some(link) = &mut self.link {
            let Some(event) = link.next_event()? else {
                break;
            };
            match event {
                LinkEvent::Up => self.ask_status(),
                LinkEvent::Down => {
                    // What the broker said last is still here to be read.
                    while self.receive()? > 0 {}
                    self.lose("the connection ended", RETRY);
                }
                LinkEvent::KeyRefused(_) => {
                    let endpoint = link.address.endpoint.clone();
                    self.handle
                        .set_presence(None, Some(Error::KeyRefused { endpoint }));
                }
                LinkEvent::HandshakeFailed | LinkEvent::Accepted(_) => {}
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<usize, SocketError> {
        for received in 0..BURST {
            let Some(link) = &mut self.link else {
                return Ok(received);
            };
            let Some((tag, reply)) = link.receive()? else {
                if received > 0 {
                    self.heard = Instant::now();
                }
                return Ok(received);
            };
            let id = match tag {
                Tag::ByPath(number) => Some(number),
                Tag::ById => id_of(&reply.body),
            };
            match id {
                Some(id) => self.answered(id, reply),
                None => debug!("a message without a call of ours: {:?}", reply.body),
            }
        }
        self.heard = Instant::now();
        Ok(BURST)
    }

    fn answered(&mut self, id: u64, reply: Reply) {
        match self.ledger.get(id).map(|entry| &entry.sink) {
            Some(Sink::Status) => {
                self.ledger.remove(id);
                self.heard = Instant::now();
                self.found(Status::read(Answer::read(reply)));
            }
            Some(Sink::Methods) => {
                self.ledger.remove(id);
                if let Ok(flags) = Answer::read(reply).and_then(|answer| answer.json()) {
                    self.learn(flags);
                }
            }
            _ => self.end(id, Ok(reply)),
        }
    }

    fn end(&mut self, id: u64, reply: Result<Reply, Error>) {
        if let Some(entry) = self.ledger.remove(id) {
            self.handle.forget(&entry);
            entry.resolve(reply);
        }
    }

    fn fail(&self, entries: Vec<Entry>, error: &Error) {
        for entry in entries {
            self.handle.forget(&entry);
            entry.resolve(Err(error.clone()));
        }
    }

    /// Sends what there is; true: the socket has no more room.
    fn send(&mut self) -> Result<bool, SocketError> {
        let Some(link) = &mut self.link else {
            return Ok(false);
        };
        for _ in 0..BURST {
            let Some(entry) = self.ledger.next_outgoing() else {
                return Ok(false);
            };
            if !matches!(self.phase, Phase::Ready) && !matches!(entry.sink, Sink::Status) {
                return Ok(false);
            }
            let path = entry.is_by_path.then_some(entry.id);
            if !link.send(path, &entry.body, &entry.attachments)? {
                return Ok(true);
            }
            self.ledger.sent();
        }
        Ok(self.ledger.next_outgoing().is_some())
    }

    fn keep_time(&mut self) {
        let now = Instant::now();
        while let Some(entry) = self.ledger.pop_overdue(now) {
            let error = Error::Timeout(entry.timeout);
            self.fail(vec![entry], &error);
        }
        if let Some(lost) = self.lost.filter(|lost| now - *lost >= self.patience) {
            self.give_up(now - lost);
        }
        match self.phase {
            Phase::Down { retry } if retry <= now => self.reopen(now),
            Phase::Opening { until } if until <= now => self.lose("it is silent", RETRY),
            Phase::Ready => self.ping(now),
            _ => {}
        }
        self.keep_asking(now);
    }

    fn sleep(&mut self, is_full: bool) -> Result<(), SocketError> {
        if self.handle.fall_asleep() {
            let timeout = self
                .next_time()
                .map(|at| at.saturating_duration_since(Instant::now()));
            match &self.link {
                Some(link) => link.wait(&self.handle.wake, is_full, timeout)?,
                None => {
                    let mut items = [PollItem::fd(&self.handle.wake, Interest::Read)];
                    poll(&mut items, timeout)?;
                }
            }
        }
        self.handle.wake_up();
        Ok(())
    }

    fn next_time(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Down { retry } => Some(retry),
            Phase::Opening { until } => Some(until),
            Phase::Ready => self.ledger.has_calls().then_some(self.ping),
        };
        let patience = self.lost.filter(|_| !self.ledger.is_empty());
        let patience = patience.map(|lost| lost + self.patience);
        let asking = self.asking.map(|(_, next)| next);
        [phase, patience, asking, self.ledger.next_guard()]
            .into_iter()
            .flatten()
            .min()
    }
}

impl Drop for Transport {
    /// However the thread ends, nobody waits for it in vain.
    fn drop(&mut self) {
        for command in self.handle.close() {
            if let Command::Submit(entry) = command {
                entry.resolve(Err(Error::Closed));
            }
        }
        for entry in self.ledger.take_all() {
            entry.resolve(Err(Error::Closed));
        }
    }
}
