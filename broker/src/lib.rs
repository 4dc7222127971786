//! The Muster broker around its core: sockets, the one loop, and what it says of itself.
//!
//! The decisions are in the crate `muster-core`. [`server`] is the only loop; [`frontend`] and
//! [`workers`] are the doors of clients and managed workers; [`splice`] accepts stock REP workers,
//! [`lines`] are the connections to them and [`epoll`] is what it waits with; [`shelf`] keeps large
//! attachments of processes on this machine; [`desk`] answers the broker's own methods.

pub mod answer;
pub mod cli;
pub mod clock;
pub mod config;
pub mod desk;
pub mod door;
pub mod epoll;
pub mod events;
pub mod frontend;
pub mod introspect;
pub mod keyring;
pub mod known;
pub mod lanes;
pub mod lines;
pub mod logging;
pub mod memory;
pub mod reply;
pub mod request;
pub mod room;
pub mod server;
pub mod shelf;
pub mod splice;
pub mod streamed;
pub mod tally;
pub mod workers;
pub mod zap;
mod zmtp;

use muster_core::{Action, Event};

/// What happens, with requests and replies as the broker keeps them.
pub(crate) type CoreEvent = Event<request::Request, reply::Reply>;
/// What is to be done, likewise.
pub(crate) type CoreAction = Action<request::Request, reply::Reply>;
