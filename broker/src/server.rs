//! The one loop: sockets in, events to the core, actions out.
//!
//! It touches sockets and the clock and decides nothing. Every turn reads a bounded number of
//! messages from each door before it sends what has piled up, so that calls and replies travel
//! many to a message under load and at once when there is none.

use crate::clock::Clock;
use crate::desk::Front;
use crate::frontend::{Frontend, Incoming};
use crate::keyring::Keyring;
use crate::known::KnownMethods;
use crate::reply::Reply;
use crate::request::Request;
use crate::workers::{Order, Received, Workers};
use log::{debug, info, log_enabled};
use muster_core::{Action, Core, Event, MonoTime, SlotId};
use muster_proto::socket::{self, Interest, PollItem, SocketError, Wake};
use muster_proto::worker::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub(crate) type CoreEvent = Event<Request, Reply>;
pub(crate) type CoreAction = Action<Request, Reply>;

/// Messages read from one door before the others have their turn.
const DOOR_MESSAGES_MAX: usize = 256;

/// How long the last answers may take to go out.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// How often somebody asked the broker to leave, and how the loop hears of it.
#[derive(Clone, Debug)]
pub struct Leave {
    /// Signals so far.
    pub asked: Arc<AtomicU32>,
    /// Wakes the loop.
    pub wake: Wake,
}

/// The broker at work.
pub struct Server {
    pub(crate) core: Core<Request, Reply>,
    pub(crate) clock: Clock,
    pub(crate) frontend: Frontend,
    pub(crate) workers: Workers,
    pub(crate) about: crate::desk::About,
    leave: Leave,
    leaving: u32,
    grace: Duration,
    known: KnownMethods,
    /// Events that came up while something else was done.
    later: Vec<CoreEvent>,
    keyring: Option<Keyring>,
    /// Users whose key was revoked and whose connections still have to be cut off.
    revoked: Vec<String>,
    is_drained: bool,
}

/// What the loop is made of.
pub struct Parts {
    /// The decisions.
    pub core: Core<Request, Reply>,
    /// The clock that the core's times come from.
    pub clock: Clock,
    /// The clients' door.
    pub frontend: Frontend,
    /// The managed workers' door.
    pub workers: Workers,
    /// What the broker says of itself.
    pub about: crate::desk::About,
    /// How it is told to leave.
    pub leave: Leave,
    /// How long a drain may take.
    pub grace: Duration,
    /// Where the names of methods are kept for a successor.
    pub known: KnownMethods,
    /// The keys, where some door asks for them.
    pub keyring: Option<Keyring>,
}

impl Server {
    /// A loop that has not started.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            core,
            clock,
            frontend,
            workers,
            about,
            leave,
            grace,
            known,
            keyring,
        } = parts;
        Server {
            core,
            clock,
            frontend,
            workers,
            about,
            leave,
            leaving: 0,
            grace,
            known,
            later: Vec::new(),
            keyring,
            revoked: Vec::new(),
            is_drained: false,
        }
    }

    /// Serves until a drain is over or a second signal comes.
    ///
    /// # Errors
    /// [`SocketError`] when a socket fails for good.
    pub fn run(&mut self) -> Result<(), SocketError> {
        while !self.is_drained && self.leaving < 2 {
            let was_busy = self.turn()?;
            if !was_busy {
                self.wait()?;
            }
            self.heed_signals();
        }
        self.known.save(self.core.known());
        // The last answers are with libzmq, not yet with their clients.
        self.frontend.socket().set_linger(LAST_ANSWERS)?;
        Ok(())
    }

    /// Reads what is there, sends what came of it. `false`: there was nothing.
    fn turn(&mut self) -> Result<bool, SocketError> {
        let from_workers = self.read_workers()?;
        let from_clients = self.read_clients()?;
        self.run_later();
        self.cut_off_revoked();
        // All input before any verdict on who stayed silent: after a freeze everybody did.
        let now = self.clock.now();
        if from_workers + from_clients == 0 && self.core.poll_deadline().is_some_and(|at| at <= now)
        {
            self.tell(Event::Tick);
        }
        if self.frontend.next_due().is_some_and(|at| at <= now) {
            self.frontend.retry(now);
        }
        self.flush();
        Ok(from_workers + from_clients > 0)
    }

    fn read_workers(&mut self) -> Result<usize, SocketError> {
        for read in 0..DOOR_MESSAGES_MAX {
            match self.workers.receive()? {
                Received::Event(event) => self.tell(event),
                Received::Nothing => {}
                Received::Empty => return Ok(read),
            }
        }
        Ok(DOOR_MESSAGES_MAX)
    }

    fn read_clients(&mut self) -> Result<usize, SocketError> {
        for read in 0..DOOR_MESSAGES_MAX {
            let mut front = Front {
                core: &self.core,
                workers: &self.workers,
                about: &self.about,
                clock: &self.clock,
                clients: self.frontend.clients(),
                later: &mut self.later,
                keyring: self.keyring.as_ref(),
                revoked: &mut self.revoked,
            };
            match self.frontend.receive(&mut front)? {
                Some(Incoming::Event(event)) => self.tell(event),
                Some(Incoming::Nothing) => {}
                None => return Ok(read),
            }
        }
        Ok(DOOR_MESSAGES_MAX)
    }

    /// Cuts off whoever came with a key that was revoked.
    fn cut_off_revoked(&mut self) {
        for user in std::mem::take(&mut self.revoked) {
            for client in self.frontend.revoke(&user) {
                self.tell(Event::ClientGone { client });
            }
            for event in self.workers.revoke(&user) {
                self.tell(event);
            }
        }
    }

    fn run_later(&mut self) {
        while let Some(event) = self.later.pop() {
            self.tell(event);
        }
    }

    /// Tells the core what happened and does what it wants done.
    fn tell(&mut self, event: CoreEvent) {
        if log_enabled!(log::Level::Debug) {
            log_event(&event);
        }
        self.core.handle(self.clock.now(), event);
        while let Some(action) = self.core.poll_action() {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: CoreAction) {
        match action {
            Action::Dispatch {
                slot,
                dispatch,
                seq,
                remaining,
                is_long,
            } => {
                debug!(
                    "call={} attempt={} slot={}",
                    dispatch.call, dispatch.attempt, slot.0
                );
                let Some(request) = self.core.request(dispatch.call) else {
                    return;
                };
                let Some(target) = self.core.target(dispatch.call) else {
                    return;
                };
                let order = Order {
                    slot,
                    dispatch,
                    seq,
                    remaining,
                    target,
                    request,
                };
                if let Err(slot) = self.workers.dispatch(&order) {
                    self.later.push(Event::DispatchFailed { slot });
                } else if is_long {
                    self.flush();
                }
            }
            Action::Answer {
                client,
                call,
                request,
                outcome,
            } => {
                debug!("call={call} client={}: answered", client.0);
                if self
                    .frontend
                    .answer(client, &request, &outcome, &self.clock)
                {
                    self.later.push(Event::ClientGone { client });
                }
            }
            Action::AnswerBatch {
                client,
                envelope,
                items,
            } => {
                if self
                    .frontend
                    .answer_batch(client, &envelope, &items, &self.clock)
                {
                    self.later.push(Event::ClientGone { client });
                }
            }
            Action::Acknowledge { client, call } => {
                let Some(request) = self.core.request(call) else {
                    return;
                };
                if self.frontend.acknowledge(client, request, &self.clock) {
                    self.later.push(Event::ClientGone { client });
                }
            }
            Action::AcknowledgeRefused { client, request } => {
                if self.frontend.acknowledge(client, &request, &self.clock) {
                    self.later.push(Event::ClientGone { client });
                }
            }
            Action::Cancel {
                slot,
                seq,
                dispatch,
            } => {
                self.workers
                    .tell_of_call(Command::Cancel, slot, seq, dispatch);
            }
            Action::Recall {
                slot,
                seq,
                dispatch,
            } => {
                // What is recalled must have been sent, or the answer would overtake it.
                self.flush();
                self.workers
                    .tell_of_call(Command::Recall, slot, seq, dispatch);
            }
            Action::CloseLane { .. } => {}
            Action::ForgetWorker { worker } => {
                info!("worker={}: silent for too long, lost", worker.0);
                self.workers.forget(worker);
            }
            Action::Drained => {
                info!("drained");
                self.is_drained = true;
            }
        }
    }

    fn flush(&mut self) {
        for slot in self.workers.flush() {
            self.lost(slot);
        }
        self.run_later();
    }

    fn lost(&mut self, slot: SlotId) {
        self.later.push(Event::DispatchFailed { slot });
    }

    fn wait(&mut self) -> Result<(), SocketError> {
        let due = [self.core.poll_deadline(), self.frontend.next_due()];
        let due = due.into_iter().flatten().min();
        let timeout = due.map(|at: MonoTime| at.since(self.clock.now()));
        self.known.save_if_new(self.core.known());
        let mut items = [
            PollItem::socket(self.workers.socket(), Interest::Read),
            PollItem::socket(self.frontend.socket(), Interest::Read),
            PollItem::fd(&self.leave.wake, Interest::Read),
        ];
        socket::poll(&mut items, timeout)?;
        Ok(())
    }

    fn heed_signals(&mut self) {
        self.leave.wake.drain();
        let asked = self.leave.asked.load(Ordering::Relaxed);
        if asked > 0 && self.leaving == 0 {
            let grace_s = self.grace.as_secs_f64();
            info!(
                "asked to leave: finishing what runs, for {grace_s} s at most; ask again to stop"
            );
            self.tell(Event::Drain { grace: self.grace });
            self.flush();
        }
        self.leaving = asked;
    }
}

fn log_event(event: &CoreEvent) {
    match event {
        Event::Call { client, call } => debug!("client={}: call for {:?}", client.0, call.target),
        Event::Batch { client, items, .. } => {
            debug!("client={}: batch of {}", client.0, items.len());
        }
        Event::Replied {
            slot,
            dispatch,
            service,
            verdict,
            ..
        } => {
            debug!(
                "call={} attempt={} slot={}: {verdict:?} in {service:?}",
                dispatch.call, dispatch.attempt, slot.0
            );
        }
        Event::WorkerHeard { .. } | Event::Tick => {}
        other => debug!("{other:?}"),
    }
}
