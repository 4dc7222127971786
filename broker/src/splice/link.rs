//! One connection, from its first byte to its last.

use std::io::ErrorKind;
use std::time::Duration;

use super::door::Door;
use super::event::{
    Arrival, Events, GoneReason, LinkId, Origin, PeerProcess, SpliceEvent, Stranger,
};
use super::flow::Spares;
use super::greeting::{Dialect, Greeting, OPENING};
use super::joint::Joint;
use super::wire::Wire;
use super::{SpliceConfig, TICK};
use crate::epoll::{Change, Epoll};

/// What all links share.
pub(super) struct Common {
    pub epoll: Epoll,
    pub spares: Spares,
    pub config: SpliceConfig,
    /// The time, in ticks of the thread.
    pub tick: u64,
}

impl Common {
    /// The tick at which at least `time` has passed from now.
    pub fn after(&self, time: Duration) -> u64 {
        self.tick + ticks(time) + 1
    }
}

/// A length of time in ticks, rounded up.
pub(super) fn ticks(time: Duration) -> u64 {
    time.as_millis().div_ceil(TICK.as_millis()) as u64
}

/// The two sockets of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Towards the worker.
    Peer,
    /// Towards our DEALER: first the door, then the connection that came through it.
    Lane,
}

impl Side {
    /// The number under which a link's socket is watched.
    pub fn token(self, link: LinkId) -> u64 {
        link.0 << 2 | if self == Side::Peer { 1 } else { 2 }
    }
}

/// Whether a link goes on by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Until the next change.
    Over,
    /// There is more to copy when the others have had their turn.
    Again,
}

/// How a link ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Nobody was told of it.
    Unknown(Stranger),
    /// The loop knows it.
    Known(GoneReason),
}

impl From<GoneReason> for End {
    fn from(reason: GoneReason) -> Self {
        End::Known(reason)
    }
}

impl From<Stranger> for End {
    fn from(stranger: Stranger) -> Self {
        End::Unknown(stranger)
    }
}

/// A peer's connection, as it comes from a listener or a dial.
pub(super) struct Caller {
    pub id: LinkId,
    pub origin: Origin,
    pub address: String,
    pub process: Option<PeerProcess>,
    /// Whether it has to use CURVE.
    pub curve: bool,
    pub wire: Wire,
}

/// A connection and how far it has come.
pub(super) struct Link {
    caller: Caller,
    has_peer_closed: bool,
    stage: Stage,
    /// Whether the thread has it on its list for the next tick.
    pub is_watched: bool,
    /// Whether the thread has it on its list of those with more to copy.
    pub is_unfinished: bool,
}

enum Stage {
    /// The connection is being made.
    Dialling { due: u64 },
    /// The peer has to say that it speaks ZMTP.
    Greeting { greeting: Greeting, due: u64 },
    /// The loop has to connect a DEALER. It may take its time.
    Waiting {
        greeting: Greeting,
        dialect: Dialect,
        door: Door,
    },
    /// Bytes flow.
    Joined(Box<Joint>),
}

impl Link {
    /// A connection that is there, or one that is still being made.
    pub fn new(caller: Caller, is_connected: bool, common: &mut Common) -> Result<Self, End> {
        let due = common.after(common.config.handshake);
        let stage = Stage::Dialling { due };
        let mut link = Link {
            caller,
            has_peer_closed: false,
            stage,
            is_watched: false,
            is_unfinished: false,
        };
        if is_connected {
            link.open(common)?;
        }
        Ok(link)
    }

    pub fn origin(&self) -> Origin {
        self.caller.origin
    }

    pub fn address(&self) -> &str {
        &self.caller.address
    }

    /// Whether the loop knows the link, and has to be told of its end.
    pub fn is_known(&self) -> bool {
        matches!(self.stage, Stage::Waiting { .. } | Stage::Joined(_))
    }

    /// Whether messages could flow.
    pub fn is_ready(&self) -> bool {
        matches!(&self.stage, Stage::Joined(joint) if joint.is_ready())
    }

    /// Whether time alone can end it.
    pub fn needs_watch(&self) -> bool {
        match &self.stage {
            Stage::Dialling { .. } | Stage::Greeting { .. } => true,
            Stage::Waiting { .. } => false,
            Stage::Joined(joint) => joint.needs_watch(),
        }
    }

    /// Acts on a change of one of its sockets.
    pub fn react(
        &mut self,
        side: Side,
        change: Change,
        common: &mut Common,
        events: &Events,
    ) -> Result<Turn, End> {
        self.has_peer_closed |= side == Side::Peer && change.closed;
        match &mut self.stage {
            Stage::Dialling { .. } if change.writable => {
                self.caller
                    .wire
                    .connect_result()
                    .map_err(|_| Stranger::Left)?;
                self.open(common)?;
                self.greet(common, events)
            }
            Stage::Dialling { .. } => Ok(Turn::Over),
            Stage::Greeting { .. } => self.greet(common, events),
            Stage::Waiting { .. } if side == Side::Lane => self.join(common, events),
            Stage::Waiting { .. } if self.has_peer_closed => Err(GoneReason::Eof.into()),
            // What the peer sends is left in its socket until the DEALER is there.
            Stage::Waiting { .. } => Ok(Turn::Over),
            Stage::Joined(joint) => {
                joint.changed(side, change);
                self.resume(common, events)
            }
        }
    }

    /// Copies on, after a turn that ended with [`Turn::Again`].
    pub fn resume(&mut self, common: &mut Common, events: &Events) -> Result<Turn, End> {
        let Stage::Joined(joint) = &mut self.stage else {
            return Ok(Turn::Over);
        };
        let was_ready = joint.is_ready();
        let turn = joint.pump(&mut self.caller.wire, common)?;
        if !was_ready && joint.is_ready() {
            events.push(SpliceEvent::Ready {
                link: self.caller.id,
            });
        }
        Ok(turn)
    }

    /// Ends it if its time is over.
    pub fn judge(&mut self, tick: u64) -> Result<(), End> {
        match &mut self.stage {
            Stage::Dialling { due } | Stage::Greeting { due, .. } if tick >= *due => {
                Err(Stranger::TimedOut.into())
            }
            Stage::Joined(joint) => joint.judge(&self.caller.wire, tick).map_err(End::Known),
            _ => Ok(()),
        }
    }

    /// Both sides speak first in ZMTP.
    fn open(&mut self, common: &mut Common) -> Result<(), End> {
        let wire = &mut self.caller.wire;
        let sent = wire
            .await_room(false, &common.epoll)
            .and_then(|()| wire.send(&OPENING));
        // A fresh connection has room for a few bytes, or is broken.
        if sent.map_err(|_| Stranger::Left)? < OPENING.len() {
            return Err(Stranger::Left.into());
        }
        let due = common.after(common.config.handshake);
        self.stage = Stage::Greeting {
            greeting: Greeting::new(),
            due,
        };
        Ok(())
    }

    fn greet(&mut self, common: &mut Common, events: &Events) -> Result<Turn, End> {
        let Stage::Greeting { greeting, .. } = &mut self.stage else {
            return Ok(Turn::Over);
        };
        let dialect = loop {
            match self.caller.wire.recv(greeting.room()) {
                Ok(0) => return Err(Stranger::Left.into()),
                Ok(count) => {
                    if let Some(dialect) = greeting.grow(count, self.caller.curve)? {
                        break dialect;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Turn::Over),
                Err(_) => return Err(Stranger::Left.into()),
            }
        };
        if self.has_peer_closed {
            return Err(Stranger::Left.into());
        }
        let greeting = greeting.clone();
        let id = self.caller.id;
        let token = Side::Lane.token(id);
        let door = Door::open(&common.config.runtime_dir, id.0, token, &common.epoll);
        let door = door.map_err(|error| {
            log::warn!("link={id}: no private endpoint: {error}");
            Stranger::Exhausted
        })?;
        events.push(SpliceEvent::Arrived(Arrival {
            link: id,
            origin: self.caller.origin,
            address: self.caller.address.clone(),
            process: self.caller.process,
            answers_pings: dialect.answers_pings,
            endpoint: door.endpoint(),
        }));
        self.stage = Stage::Waiting {
            greeting,
            dialect,
            door,
        };
        Ok(Turn::Over)
    }

    fn join(&mut self, common: &mut Common, events: &Events) -> Result<Turn, End> {
        let Stage::Waiting {
            greeting,
            dialect,
            door,
        } = &self.stage
        else {
            return Ok(Turn::Over);
        };
        let joined = door.accept().and_then(|fd| {
            fd.map(|fd| {
                let token = Side::Lane.token(self.caller.id);
                Joint::new(fd, token, greeting.bytes(), *dialect, common)
            })
            .transpose()
        });
        let joint = match joined {
            Ok(Some(joint)) => joint,
            Ok(None) => return Ok(Turn::Over),
            Err(error) => {
                log::warn!("link={}: our own connection: {error}", self.caller.id);
                return Err(GoneReason::Exhausted.into());
            }
        };
        // The door closes, and its path goes.
        self.stage = Stage::Joined(Box::new(joint));
        self.resume(common, events)
    }
}
