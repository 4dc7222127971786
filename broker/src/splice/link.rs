//! One connection, from its first byte to its last.

use std::io::ErrorKind;

use super::common::{Common, End, Side, Turn};
use super::door::Door;
use super::event::{
    Arrival, Connection, Events, GoneReason, LinkId, Origin, PeerProcess, SpliceEvent, Stranger,
    Way,
};
use super::greeting::Dialect;
use super::handshake::Handshake;
use super::joint::Joint;
use super::stage::Stage;
use super::wire::Wire;
use crate::epoll::Change;

/// Read at once in the handshake, which is shorter.
const READ_BYTES: usize = 1024;

/// A peer's connection, as it comes from a listener or a dial.
pub(super) struct Caller {
    pub id: LinkId,
    pub origin: Origin,
    pub address: String,
    pub process: Option<PeerProcess>,
    /// Whether it has to use CURVE.
    pub curve: bool,
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
    /// Whether the thread has it in the queue of those who wait for their turn.
    pub is_queued: bool,
}

impl Link {
    /// A connection that is there, or one that is still being made.
    pub fn new(
        caller: Caller,
        wire: Wire,
        is_connected: bool,
        common: &mut Common,
    ) -> Result<Self, End> {
        let due = common.after(common.config.handshake);
        let stage = if is_connected {
            Stage::open(wire, common)?
        } else {
            Stage::Dialling { wire, due }
        };
        Ok(Link {
            caller,
            has_peer_closed: false,
            stage,
            is_watched: false,
            is_unfinished: false,
            is_queued: false,
        })
    }

    pub fn origin(&self) -> Origin {
        self.caller.origin
    }

    pub fn address(&self) -> &str {
        &self.caller.address
    }

    /// Whether the loop knows the link, and has to be told of its end.
    pub fn is_known(&self) -> bool {
        self.stage.is_known()
    }

    /// Whether messages could flow.
    pub fn is_ready(&self) -> bool {
        self.stage.is_ready()
    }

    /// Whether it waits for its turn.
    pub fn is_queueing(&self) -> bool {
        matches!(self.stage, Stage::Queueing { .. })
    }

    /// Whether time alone can end it.
    pub fn needs_watch(&self) -> bool {
        self.stage.needs_watch()
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
            Stage::Dialling { wire, .. } if change.writable => {
                wire.connect_result().map_err(|_| Stranger::Left)?;
                let Stage::Dialling { wire, .. } = self.take_stage() else {
                    return Ok(Turn::Over);
                };
                self.stage = Stage::open(wire, common)?;
                self.greet(common, events)
            }
            Stage::Greeting { .. } => self.greet(common, events),
            Stage::Shaking { .. } => self.shake(common, events),
            Stage::Waiting { .. } if side == Side::Lane => self.join(common, events),
            Stage::Waiting { .. } if self.has_peer_closed => Err(GoneReason::Eof.into()),
            Stage::Queueing { .. } if self.has_peer_closed => Err(Stranger::Left.into()),
            Stage::Joined { joint, .. } => {
                joint.changed(side, change);
                self.resume(common, events)
            }
            // While the DEALER is not there, what the peer sends is left in its socket.
            Stage::Dialling { .. }
            | Stage::Queueing { .. }
            | Stage::Waiting { .. }
            | Stage::HandedOver
            | Stage::Nowhere => Ok(Turn::Over),
        }
    }

    /// Copies on, after a turn that ended with [`Turn::Again`].
    pub fn resume(&mut self, common: &mut Common, events: &Events) -> Result<Turn, End> {
        let Stage::Joined { wire, joint } = &mut self.stage else {
            return Ok(Turn::Over);
        };
        let was_ready = joint.is_ready();
        let turn = joint.pump(wire, common)?;
        if !was_ready && joint.is_ready() {
            events.push(SpliceEvent::Ready {
                link: self.caller.id,
                connection: None,
            });
        }
        Ok(turn)
    }

    /// Ends it if its time is over.
    pub fn judge(&mut self, tick: u64) -> Result<(), End> {
        self.stage.judge(tick)
    }

    fn take_stage(&mut self) -> Stage {
        std::mem::replace(&mut self.stage, Stage::Nowhere)
    }

    fn greet(&mut self, common: &mut Common, events: &Events) -> Result<Turn, End> {
        let Stage::Greeting { wire, greeting, .. } = &mut self.stage else {
            return Ok(Turn::Over);
        };
        let dialect = loop {
            match wire.recv(greeting.room()) {
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
        let Stage::Greeting {
            wire,
            greeting,
            due,
        } = self.take_stage()
        else {
            return Ok(Turn::Over);
        };
        if dialect.is_direct() {
            let words = Handshake::words();
            // They are few, and all that was sent so far.
            if wire.send(&words).map_err(|_| Stranger::Left)? < words.len() {
                return Err(Stranger::Left.into());
            }
            self.stage = Stage::Shaking {
                wire,
                handshake: Handshake::new(),
                due: common.after(common.config.handshake),
            };
            self.announce(dialect, Way::Direct, events);
            return self.shake(common, events);
        }
        self.stage = Stage::Queueing {
            wire,
            greeting,
            dialect,
            due,
        };
        self.enter(common, events)
    }

    /// Has the loop connect a DEALER, unless the link has to wait for its turn.
    pub fn enter(&mut self, common: &mut Common, events: &Events) -> Result<Turn, End> {
        let Stage::Queueing { dialect, .. } = &self.stage else {
            return Ok(Turn::Over);
        };
        let is_newcomer = matches!(self.caller.origin, Origin::Listener(_));
        if dialect.is_encrypted && is_newcomer && !common.turns.take(&self.caller.address) {
            return Ok(Turn::Over);
        }
        let Stage::Queueing {
            wire,
            greeting,
            dialect,
            ..
        } = self.take_stage()
        else {
            return Ok(Turn::Over);
        };
        let id = self.caller.id;
        let token = Side::Lane.token(id);
        let door = Door::open(&common.config.runtime_dir, id.0, token, &common.epoll);
        let door = door.map_err(|error| {
            log::warn!("link={id}: no private endpoint: {error}");
            Stranger::Exhausted
        })?;
        self.announce(dialect, Way::Dealer(door.endpoint()), events);
        self.stage = Stage::Waiting {
            wire,
            greeting,
            dialect,
            door,
        };
        Ok(Turn::Over)
    }

    fn announce(&self, dialect: Dialect, way: Way, events: &Events) {
        events.push(SpliceEvent::Arrived(Arrival {
            link: self.caller.id,
            origin: self.caller.origin,
            address: self.caller.address.clone(),
            process: self.caller.process,
            answers_pings: dialect.answers_pings,
            way,
        }));
    }

    fn shake(&mut self, common: &mut Common, events: &Events) -> Result<Turn, End> {
        let Stage::Shaking {
            wire, handshake, ..
        } = &mut self.stage
        else {
            return Ok(Turn::Over);
        };
        let received = loop {
            let mut bytes = [0; READ_BYTES];
            match wire.recv(&mut bytes) {
                Ok(0) => return Err(GoneReason::Eof.into()),
                Ok(count) => {
                    if let Some(received) = handshake.hear(&bytes[..count])? {
                        break received;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Turn::Over),
                Err(_) => return Err(GoneReason::Reset.into()),
            }
        };
        let Stage::Shaking { wire, .. } = self.take_stage() else {
            return Ok(Turn::Over);
        };
        // From here on the link is known, whatever becomes of the socket.
        self.stage = Stage::HandedOver;
        let fd = wire
            .into_fd(&common.epoll)
            .map_err(|_| GoneReason::Exhausted)?;
        events.push(SpliceEvent::Ready {
            link: self.caller.id,
            connection: Some(Connection { fd, received }),
        });
        Ok(Turn::Over)
    }

    fn join(&mut self, common: &mut Common, events: &Events) -> Result<Turn, End> {
        let Stage::Waiting {
            greeting,
            dialect,
            door,
            ..
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
            Ok(Some(joint)) => Box::new(joint),
            Ok(None) => return Ok(Turn::Over),
            Err(error) => {
                log::warn!("link={}: our own connection: {error}", self.caller.id);
                return Err(GoneReason::Exhausted.into());
            }
        };
        // The door closes, and its path goes.
        let Stage::Waiting { wire, .. } = self.take_stage() else {
            return Ok(Turn::Over);
        };
        self.stage = Stage::Joined { wire, joint };
        self.resume(common, events)
    }
}
