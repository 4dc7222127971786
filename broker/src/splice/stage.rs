//! How far a connection has come on its way to become a line.

use super::common::{Common, End};
use super::door::Door;
use super::event::{GoneReason, Stranger};
use super::greeting::{Dialect, Greeting, OPENING};
use super::handshake::Handshake;
use super::joint::Joint;
use super::wire::Wire;

/// How far a link has come, and what it has while it is there.
pub(super) enum Stage {
    /// The connection is being made.
    Dialling { wire: Wire, due: u64 },
    /// The peer has to say that it speaks ZMTP.
    Greeting {
        wire: Wire,
        greeting: Greeting,
        due: u64,
    },
    /// The peer has to say what it is.
    Shaking {
        wire: Wire,
        handshake: Handshake,
        due: u64,
    },
    /// The peer has greeted, and needs a DEALER, which may have to wait for its turn.
    Queueing {
        wire: Wire,
        greeting: Greeting,
        dialect: Dialect,
        due: u64,
    },
    /// The loop has to connect a DEALER. It may take its time.
    Waiting {
        wire: Wire,
        greeting: Greeting,
        dialect: Dialect,
        door: Door,
    },
    /// Bytes flow.
    Joined { wire: Wire, joint: Box<Joint> },
    /// The loop has the connection.
    HandedOver,
    /// Between two stages, or ended.
    Nowhere,
}

impl Stage {
    /// What follows when the connection is there: both sides speak first in ZMTP.
    pub fn open(mut wire: Wire, common: &mut Common) -> Result<Stage, End> {
        let sent = wire
            .await_room(false, &common.epoll)
            .and_then(|()| wire.send(&OPENING));
        // A fresh connection has room for a few bytes, or is broken.
        if sent.map_err(|_| Stranger::Left)? < OPENING.len() {
            return Err(Stranger::Left.into());
        }
        Ok(Stage::Greeting {
            wire,
            greeting: Greeting::new(),
            due: common.after(common.config.handshake),
        })
    }

    /// Whether the loop knows the link, and has to be told of its end.
    pub fn is_known(&self) -> bool {
        !matches!(
            self,
            Stage::Dialling { .. }
                | Stage::Greeting { .. }
                | Stage::Queueing { .. }
                | Stage::Nowhere
        )
    }

    /// Whether messages could flow.
    pub fn is_ready(&self) -> bool {
        match self {
            Stage::Joined { joint, .. } => joint.is_ready(),
            Stage::HandedOver => true,
            _ => false,
        }
    }

    /// Whether time alone can end it.
    pub fn needs_watch(&self) -> bool {
        match self {
            Stage::Dialling { .. }
            | Stage::Greeting { .. }
            | Stage::Queueing { .. }
            | Stage::Shaking { .. } => true,
            Stage::Waiting { .. } | Stage::HandedOver | Stage::Nowhere => false,
            Stage::Joined { joint, .. } => joint.needs_watch(),
        }
    }

    /// Ends it if its time is over.
    pub fn judge(&mut self, tick: u64) -> Result<(), End> {
        match self {
            Stage::Dialling { due, .. }
            | Stage::Greeting { due, .. }
            | Stage::Queueing { due, .. }
                if tick >= *due =>
            {
                Err(Stranger::TimedOut.into())
            }
            Stage::Shaking { due, .. } if tick >= *due => Err(GoneReason::HandshakeTimeout.into()),
            Stage::Joined { wire, joint } => joint.judge(wire, tick).map_err(End::Known),
            _ => Ok(()),
        }
    }
}
