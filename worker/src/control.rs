//! The control link: how a worker introduces itself, shows that it lives and takes orders. Its
//! thread runs no function, so it always answers.

use crate::address::Found;
use crate::link::Link;
use muster_proto::code::Code;
use muster_proto::limits;
use muster_proto::socket::{
    Context, Frame, Interest, LinkEvent, PollItem, Profile, SendOutcome, SocketError,
};
use muster_proto::worker::{
    Command, Nest, NotOpened, Recalled, Refused, Registration, SlotCall, SlotLost, Welcome,
};
use std::time::{Duration, Instant};

/// How long to wait for the answer to a registration before sending it again.
const RETRY: Duration = Duration::from_secs(1);
/// How long the last words of a worker that leaves may take to get through.
const LINGER: Duration = Duration::from_secs(2);

/// What the broker wants, or what became of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ControlEvent {
    /// The registration is accepted: the slots can join.
    Welcome {
        welcome: Welcome,
        /// The broker does not know the slots that joined before.
        is_new: bool,
    },
    /// It is not, and will not be.
    Refused(Refused),
    /// The broker is gone, or has been silent for three heartbeats.
    Silent,
    /// After that it is heard again, on the same connection.
    Back,
    /// Stop running this call.
    Cancel(SlotCall),
    /// Give these calls back, except those that have started.
    Recall(Vec<SlotCall>),
    /// Finish what runs and leave, within this time if it says one.
    Drain(Option<Duration>),
    /// Have this many slots.
    Resize(u32),
    /// Replace the children.
    Reload,
    /// Open a slot for the calls inside another.
    Open(Nest),
    /// Close the one with this number.
    Close(u32),
    /// The broker has heard a heartbeat.
    Beat,
}

/// The control link of a worker.
pub(crate) struct Control {
    context: Context,
    registration: Registration,
    link: Option<Link>,
    is_up: bool,
    state: State,
    heartbeat: Duration,
    next_beat: Instant,
    /// When the broker was last heard.
    heard: Instant,
    is_silent: bool,
    /// The run of the broker that accepted the last registration.
    epoch: String,
    /// Whether that run has, or may have, forgotten the worker since.
    is_forgotten: bool,
    frames: Vec<Frame>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The broker does not know the worker on this connection.
    Apart,
    /// It has been told, and is told again then.
    Told { retry_at: Instant },
    /// It knows.
    Registered,
}

impl Control {
    pub fn new(context: Context, registration: Registration) -> Self {
        let now = Instant::now();
        Control {
            context,
            registration,
            link: None,
            is_up: false,
            state: State::Apart,
            heartbeat: Duration::from_millis(limits::HEARTBEAT_MS),
            next_beat: now,
            heard: now,
            is_silent: false,
            epoch: String::new(),
            is_forgotten: false,
            frames: Vec::new(),
        }
    }

    /// Connects to a broker, leaving the one before.
    pub fn connect(&mut self, found: &Found) -> Result<(), SocketError> {
        let (endpoint, curve) = (&found.workers, found.curve.as_ref());
        self.link = Some(Link::open(
            &self.context,
            &Profile::ControlLink,
            endpoint,
            curve,
        )?);
        (self.is_up, self.state) = (false, State::Apart);
        (self.heard, self.is_silent) = (Instant::now(), false);
        self.is_forgotten = true;
        Ok(())
    }

    /// Whether there is a broker that knows the worker.
    pub fn is_registered(&self) -> bool {
        self.state == State::Registered
    }

    /// What the worker says of itself.
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// Changes what it says, and tells a broker that knows it.
    pub fn change(&mut self, change: impl FnOnce(&mut Registration)) -> Result<(), SocketError> {
        change(&mut self.registration);
        if self.is_registered() {
            self.send_json(Command::Changed)?;
        }
        Ok(())
    }

    /// When [`Self::tick`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        self.link.as_ref()?;
        Some(match self.state {
            State::Told { retry_at } => retry_at.min(self.next_beat),
            _ => self.next_beat,
        })
    }

    /// The link and its monitor.
    pub fn poll_items(&self) -> impl Iterator<Item = PollItem<'_>> {
        self.link.iter().flat_map(|link| {
            [
                PollItem::socket(&link.socket, Interest::Read),
                PollItem::socket(link.monitor.socket(), Interest::Read),
            ]
        })
    }

    /// Does what is due, then takes in what the broker sent.
    ///
    /// # Errors
    /// When the sockets can't be used any more.
    pub fn step(&mut self, events: &mut Vec<ControlEvent>) -> Result<(), SocketError> {
        self.heed_monitor(events)?;
        self.receive(events)?;
        self.tick(events)
    }

    fn heed_monitor(&mut self, events: &mut Vec<ControlEvent>) -> Result<(), SocketError> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        while let Some(event) = link.event()? {
            match event {
                LinkEvent::Up => (self.is_up, self.state) = (true, State::Apart),
                LinkEvent::Down => {
                    (self.is_up, self.state) = (false, State::Apart);
                    if !self.is_silent {
                        self.is_silent = true;
                        events.push(ControlEvent::Silent);
                    }
                }
                LinkEvent::KeyRefused(_) => log::error!("the broker refuses this worker's key"),
                LinkEvent::HandshakeFailed => {
                    log::warn!("who listens at the broker's endpoint is no broker, or wants a key");
                }
                LinkEvent::Accepted(_) => {}
            }
        }
        Ok(())
    }

    fn tick(&mut self, events: &mut Vec<ControlEvent>) -> Result<(), SocketError> {
        let now = Instant::now();
        let is_due = match self.state {
            State::Apart => true,
            State::Told { retry_at } => retry_at <= now,
            State::Registered => false,
        };
        if self.is_up && is_due {
            self.send_json(Command::Register)?;
            self.state = State::Told {
                retry_at: now + RETRY,
            };
        }
        if now >= self.next_beat {
            self.next_beat = now + self.heartbeat;
            if self.is_registered() {
                self.send(Command::Heartbeat)?;
            }
            let silence = self.heartbeat * limits::HEARTBEATS_MISSED_MAX as u32;
            if self.link.is_some() && !self.is_silent && now - self.heard > silence {
                self.is_silent = true;
                events.push(ControlEvent::Silent);
            }
        }
        Ok(())
    }

    fn receive(&mut self, events: &mut Vec<ControlEvent>) -> Result<(), SocketError> {
        let mut frames = std::mem::take(&mut self.frames);
        while let Some(link) = &self.link
            && link.socket.recv_into(&mut frames)?
        {
            let now = Instant::now();
            // After such a silence it may have counted the worker as lost, and its slots with it.
            self.is_forgotten |= now - self.heard > 2 * self.heartbeat;
            if std::mem::take(&mut self.is_silent) && self.is_registered() {
                events.push(ControlEvent::Back);
            }
            self.heard = now;
            match frames.first().map(|frame| Command::read(frame)) {
                Some(Ok(command)) => self.heed(command, &frames, events),
                Some(Err(error)) => log::warn!("control link: {error}"),
                None => {}
            }
        }
        self.frames = frames;
        Ok(())
    }

    fn heed(&mut self, command: Command, frames: &[Frame], events: &mut Vec<ControlEvent>) {
        let body = frames.get(1).map_or(&[][..], |frame| frame);
        match command {
            Command::Welcome => match serde_json::from_slice::<Welcome>(body) {
                Ok(welcome) => {
                    self.state = State::Registered;
                    // A broker that says 0 would have us spin.
                    self.heartbeat = Duration::from_millis(welcome.heartbeat_ms.max(10));
                    self.next_beat = Instant::now() + self.heartbeat;
                    let is_new = self.is_forgotten || self.epoch != welcome.epoch;
                    self.is_forgotten = false;
                    self.epoch.clone_from(&welcome.epoch);
                    events.push(ControlEvent::Welcome { welcome, is_new });
                }
                Err(error) => log::error!("control link: unreadable welcome: {error}"),
            },
            Command::Refused => match serde_json::from_slice::<Refused>(body) {
                Ok(refused) => {
                    self.state = State::Told {
                        retry_at: Instant::now() + RETRY,
                    };
                    let can_retry = Code::from_number(refused.code).is_some_and(Code::can_retry);
                    if can_retry {
                        log::warn!(
                            "the broker refuses this worker for now: {}",
                            refused.message
                        );
                    } else {
                        events.push(ControlEvent::Refused(refused));
                    }
                }
                Err(error) => log::error!("control link: unreadable refusal: {error}"),
            },
            // While a registration is under way its answer is what counts.
            Command::Who if self.is_registered() => {
                self.is_forgotten = true;
                self.state = State::Apart;
            }
            Command::Cancel => events.extend(slot_calls(body).map(ControlEvent::Cancel)),
            Command::Recall => events.push(ControlEvent::Recall(slot_calls(body).collect())),
            Command::Drain => {
                let grace = number(body).map(|ms| Duration::from_millis(u64::from(ms)));
                events.push(ControlEvent::Drain(grace));
            }
            Command::Resize => match number(body) {
                Some(slots) => events.push(ControlEvent::Resize(slots)),
                None => log::warn!("control link: a resize without a number"),
            },
            Command::Reload => events.push(ControlEvent::Reload),
            Command::Open => match serde_json::from_slice(body) {
                Ok(nest) => events.push(ControlEvent::Open(nest)),
                Err(error) => log::warn!("control link: {error}"),
            },
            Command::Close => events.extend(number(body).map(ControlEvent::Close)),
            Command::Beat => events.push(ControlEvent::Beat),
            _ => {}
        }
    }

    /// Says what became of recalled calls.
    pub fn send_recalled(&self, recalled: &[Recalled]) -> Result<(), SocketError> {
        let mut packed = Vec::new();
        recalled.iter().for_each(|one| one.pack(&mut packed));
        self.deliver([Frame::from(&Command::Recalled.frame()), Frame::from(packed)])
    }

    /// Says that no slot is opened for calls inside another.
    pub fn send_not_opened(&self, not_opened: &NotOpened) -> Result<(), SocketError> {
        self.deliver(crate::link::json_message(Command::NotOpened, not_opened))
    }

    /// Says how a slot's process ended.
    pub fn send_lost(&self, lost: &SlotLost) -> Result<(), SocketError> {
        self.deliver(crate::link::json_message(Command::Lost, lost))
    }

    /// Says that no more calls are wanted, and asks for a sign that this was heard.
    pub fn send_draining(&self) -> Result<(), SocketError> {
        self.send(Command::Draining)?;
        self.send(Command::Heartbeat)
    }

    /// Says goodbye and leaves.
    pub fn leave(&mut self) -> Result<(), SocketError> {
        if self.is_registered() {
            self.send(Command::Goodbye)?;
        }
        if let Some(link) = self.link.take() {
            link.socket.set_linger(LINGER)?;
        }
        self.state = State::Apart;
        Ok(())
    }

    fn send(&self, command: Command) -> Result<(), SocketError> {
        self.deliver([Frame::from(&command.frame())])
    }

    fn send_json(&self, command: Command) -> Result<(), SocketError> {
        self.deliver(crate::link::json_message(command, &self.registration))
    }

    fn deliver(&self, frames: impl IntoIterator<Item = Frame>) -> Result<(), SocketError> {
        if let Some(link) = &self.link
            && link.socket.send(frames)? != SendOutcome::Sent
        {
            // The link is down, and everything is said anew when it is up again.
            log::debug!("control link: not connected, a message is dropped");
        }
        Ok(())
    }
}

fn slot_calls(body: &[u8]) -> impl Iterator<Item = SlotCall> + '_ {
    SlotCall::unpack(body).filter_map(|call| {
        call.inspect_err(|error| log::warn!("control link: {error}"))
            .ok()
    })
}

fn number(body: &[u8]) -> Option<u32> {
    std::str::from_utf8(body).ok()?.trim().parse().ok()
}
