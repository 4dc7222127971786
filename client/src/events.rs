//! What the broker tells those who watch: a SUB on its events.

use crate::error::Error;
use crate::target::Target;
use muster_proto::socket::{
    Context, Frame, Interest, Kind, LinkEvent, Monitor, PollItem, Profile, Socket, SocketError,
    Watch, poll,
};
use std::time::{Duration, Instant};

/// A subscription to a broker's events.
pub struct Events {
    socket: Socket,
    monitor: Monitor,
    endpoint: String,
    is_linked: bool,
    frames: Vec<Frame>,
}

/// What a subscriber meets.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// An event: a JSON object, as the broker wrote it.
    Event(String),
    /// The link is up, for the first time or again.
    Linked,
    /// The link is down; it is looked for again. What happens meanwhile is not told.
    Unlinked,
}

impl Events {
    /// Subscribes to events whose name starts with one of these, at the broker's `events` door. The
    /// keys are those of the target.
    ///
    /// # Errors
    /// When the address makes no sense, or the connection file can't be read.
    pub fn subscribe(target: &Target, endpoint: &str, prefixes: &[String]) -> Result<Self, Error> {
        let socket = Socket::open(&Context::new(1)?, Kind::Sub, &Profile::EventsLink)?;
        if let Some(curve) = &target.resolve()?.curve {
            socket.set_curve_client(&curve.server_key, &curve.public_key, &curve.secret_key)?;
        }
        for prefix in prefixes {
            socket.subscribe(prefix.as_bytes())?;
        }
        let monitor = socket.monitor(Watch::LinksAndRefusals)?;
        socket.connect(endpoint)?;
        Ok(Events {
            socket,
            monitor,
            endpoint: endpoint.to_owned(),
            is_linked: false,
            frames: Vec::new(),
        })
    }

    /// Whether the link comes up within this time.
    ///
    /// # Errors
    /// [`Error::KeyRefused`].
    pub fn is_reachable(&mut self, timeout: Duration) -> Result<bool, Error> {
        let deadline = Instant::now() + timeout;
        while !self.is_linked {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.next(left)?;
        }
        Ok(true)
    }

    /// What comes next; `None` when nothing did in time.
    ///
    /// # Errors
    /// [`Error::KeyRefused`].
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Heard>, Error> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(heard) = self.take()? {
                return Ok(Some(heard));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let mut items = [
                PollItem::socket(&self.socket, Interest::Read),
                PollItem::socket(self.monitor.socket(), Interest::Read),
            ];
            poll(&mut items, Some(left))?;
        }
    }

    fn take(&mut self) -> Result<Option<Heard>, Error> {
        while let Some(event) = self.monitor.next_event()? {
            match event {
                LinkEvent::Up => {
                    self.is_linked = true;
                    return Ok(Some(Heard::Linked));
                }
                LinkEvent::Down if self.is_linked => {
                    self.is_linked = false;
                    return Ok(Some(Heard::Unlinked));
                }
                LinkEvent::KeyRefused(_) => {
                    let endpoint = self.endpoint.clone();
                    return Err(Error::KeyRefused { endpoint });
                }
                LinkEvent::Down | LinkEvent::HandshakeFailed | LinkEvent::Accepted(_) => {}
            }
        }
        while self.receive()? {
            if let [_, body] = self.frames.as_slice()
                && let Ok(text) = std::str::from_utf8(body)
            {
                return Ok(Some(Heard::Event(text.to_owned())));
            }
        }
        Ok(None)
    }

    fn receive(&mut self) -> Result<bool, SocketError> {
        self.socket.recv_into(&mut self.frames)
    }
}
