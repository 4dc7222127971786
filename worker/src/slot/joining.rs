//! A slot's way into the broker: the data link and whether the broker knows it.

use super::desk::LinkOrder;
use crate::link::Link;
use muster_proto::socket::{
    Context, Frame, Interest, LinkEvent, PollItem, Profile, SendOutcome, Socket, SocketError,
};
use muster_proto::worker::{Command, Join, Refused};
use std::time::{Duration, Instant};

/// How long to wait for the answer to a join before asking again.
const RETRY: Duration = Duration::from_secs(1);

/// How long the last replies of a draining slot may take to get through.
const LINGER: Duration = Duration::from_secs(10);

/// The data link of one slot.
pub(super) struct Joining {
    context: Context,
    number: u32,
    label: String,
    order: Option<LinkOrder>,
    link: Option<Link>,
    /// The connection is made.
    is_up: bool,
    state: State,
    /// Whether the last refusal was told.
    is_refused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The broker has not been asked on this connection.
    Apart,
    /// It has been, and is asked again then.
    Asked { retry_at: Instant },
    /// It gives calls.
    Joined,
}

impl Joining {
    pub fn new(context: Context, number: u32, label: String) -> Self {
        Joining {
            context,
            number,
            label,
            order: None,
            link: None,
            is_up: false,
            state: State::Apart,
            is_refused: false,
        }
    }

    /// A new order: another broker, the same one that wants the slot to join anew, or one that
    /// only ends a suspension.
    pub fn obey(&mut self, order: LinkOrder) -> Result<(), SocketError> {
        let known = self.order.as_ref();
        let is_anew = known.is_none_or(|known| known.generation != order.generation);
        let is_elsewhere = known
            .is_none_or(|known| known.endpoint != order.endpoint || known.curve != order.curve);
        if is_elsewhere {
            self.is_up = false;
            let (endpoint, curve) = (&order.endpoint, order.curve.as_ref());
            self.link = Some(Link::open(
                &self.context,
                &Profile::DataLink,
                endpoint,
                curve,
            )?);
            // Whoever finds nothing is told of what comes; whoever never looked is not.
            self.heed_monitor()?;
        }
        if is_anew || is_elsewhere {
            self.state = State::Apart;
        }
        self.order = Some(order);
        Ok(())
    }

    /// Whether the connection is made.
    pub fn is_up(&self) -> bool {
        self.is_up
    }

    /// Has the link, when it is dropped, send first what it holds.
    pub fn linger(&self) -> Result<(), SocketError> {
        self.socket()
            .map_or(Ok(()), |socket| socket.set_linger(LINGER))
    }

    /// Whether the broker gives calls, or will once it has read the join: what is said from now on
    /// concerns it.
    pub fn has_asked(&self) -> bool {
        self.state != State::Apart
    }

    /// Whether the broker gives calls.
    pub fn is_joined(&self) -> bool {
        self.state == State::Joined
    }

    /// The socket, while it is connected or about to be.
    pub fn socket(&self) -> Option<&Socket> {
        self.link.as_ref().map(|link| &link.socket)
    }

    /// When the broker is to be asked again.
    pub fn retry_at(&self) -> Option<Instant> {
        match self.state {
            State::Asked { retry_at } => Some(retry_at),
            _ => None,
        }
    }

    /// Whether the broker is to be asked now.
    pub fn is_due(&self) -> bool {
        let is_due = match self.state {
            State::Apart => true,
            State::Asked { retry_at } => retry_at <= Instant::now(),
            State::Joined => false,
        };
        is_due && self.is_up && self.order.is_some()
    }

    /// Asks to join; `pid` is the process that runs the calls.
    pub fn join(&mut self, pid: u32) -> Result<(), SocketError> {
        if let (Some(link), Some(order)) = (&self.link, &self.order) {
            let join = Join {
                token: order.token.clone(),
                slot: self.number,
                pid,
                nest: order.nest.clone(),
            };
            // Without room for it the next attempt has.
            let _ = link.send_json(Command::Join, &join)?;
            self.state = State::Asked {
                retry_at: Instant::now() + RETRY,
            };
        }
        Ok(())
    }

    /// Receives a message, if there is one.
    pub fn receive(&self, frames: &mut Vec<Frame>) -> Result<bool, SocketError> {
        match &self.link {
            Some(link) => link.socket.recv_into(frames),
            None => Ok(false),
        }
    }

    /// Sends a message, unless the link has no room.
    pub fn send(
        &self,
        frames: impl IntoIterator<Item = Frame>,
    ) -> Result<SendOutcome, SocketError> {
        match &self.link {
            Some(link) => link.socket.send(frames),
            None => Ok(SendOutcome::WouldBlock),
        }
    }

    /// What the broker says that is no call.
    pub fn heed(&mut self, command: Command, frames: &[Frame]) -> Result<(), SocketError> {
        match command {
            Command::Joined if matches!(self.state, State::Asked { .. }) => {
                log::debug!("slot={}: joined", self.label);
                self.state = State::Joined;
                self.is_refused = false;
            }
            // It does not know this link (any more). If it has been asked since the connection
            // was made, its answer is on the way.
            Command::Who => {
                self.heed_monitor()?;
                if self.is_joined() {
                    self.state = State::Apart;
                }
            }
            Command::Refused => {
                let refused = frames
                    .get(1)
                    .and_then(|frame| serde_json::from_slice(frame).ok());
                let reason = refused.map_or_else(String::new, |r: Refused| r.message);
                if !self.is_refused {
                    log::warn!("slot={}: the broker refuses it: {reason}", self.label);
                }
                self.is_refused = true;
                self.state = State::Asked {
                    retry_at: Instant::now() + RETRY,
                };
            }
            _ => {}
        }
        Ok(())
    }

    /// Looks at what became of the connection.
    pub fn heed_monitor(&mut self) -> Result<(), SocketError> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        while let Some(event) = link.event()? {
            match event {
                LinkEvent::Up => (self.is_up, self.state) = (true, State::Apart),
                LinkEvent::Down => (self.is_up, self.state) = (false, State::Apart),
                // The control link has told why.
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether there is a message to receive.
    pub fn has_message(&self) -> Result<bool, SocketError> {
        match &self.link {
            Some(link) => Ok(link.socket.has_message()?),
            None => Ok(false),
        }
    }

    /// Adds what to wait for: first the monitor, then the link, for `calls` and, while replies are
    /// `blocked`, for room. There is no message now ([`Self::has_message`]).
    pub fn add_poll_items<'a>(
        &'a self,
        items: &mut Vec<PollItem<'a>>,
        calls: bool,
        blocked: bool,
    ) -> Result<(), SocketError> {
        if let Some(link) = &self.link {
            items.push(PollItem::wake_of(link.monitor.socket())?);
            match (blocked, calls) {
                (true, true) => items.push(PollItem::socket(&link.socket, Interest::Both)),
                (true, false) => items.push(PollItem::socket(&link.socket, Interest::Write)),
                (false, true) => items.push(PollItem::wake_of(&link.socket)?),
                (false, false) => {}
            }
        }
        Ok(())
    }
}
