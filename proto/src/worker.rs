//! The worker protocol: what travels between a worker and the broker's `workers` ROUTER.
//!
//! Frame 0 of every message is two bytes, the protocol's version and a [`Command`]. Control
//! messages carry JSON in frame 1, the data path ([`Call`], [`Reply`]) packed little-endian
//! records, several to a frame, so that small calls share the cost of a message.
//!
//! Source: docs/protocol.md, "Worker protocol".

mod command;
mod cursor;
mod message;
mod recall;
mod record;
mod stream;

pub use command::{Command, WireError};
pub use message::{
    Join, Method, Nest, NotOpened, Param, Refused, Registration, SlotLost, SlotReady, Welcome,
};
pub use recall::{Recalled, SlotCall};
pub use record::{Bytes, Call, Reply, flag};
pub use stream::{StreamItem, StreamKind};

/// The version this code speaks; a registration carries the range a worker speaks.
pub const VERSION: u8 = 1;
