//! Calls on a Muster cluster, from Rust.
//!
//! ```no_run
//! use muster_client::{Client, Target};
//!
//! let client = Client::connect(&Target::default())?;
//! let product: i64 = client.call("multiply", &(5, 3))?.json()?;
//! assert_eq!(product, 15);
//! # Ok::<(), muster_client::Error>(())
//! ```
//!
//! [`Client::call`] waits, [`Client::submit`] returns a [`Pending`], [`Client::batch`] sends several
//! calls in one message, [`Client::map`] applies a method to any number of items with bounded
//! memory. One thread of the client owns the socket and survives the broker's restart.

mod answer;
mod call;
mod client;
mod completions;
mod entry;
mod error;
mod events;
mod forward;
mod handle;
mod items;
mod ledger;
mod lines;
mod link;
mod map;
mod pending;
pub mod req;
mod request;
mod status;
mod target;
mod transport;

pub use answer::Answer;
pub use call::Call;
pub use client::{Client, ClientOptions};
pub use error::Error;
pub use events::{Events, Heard};
pub use forward::{Forward, Forwarded};
pub use items::{Items, Next};
pub use lines::{Lines, LinesOptions, Taken};
pub use map::{Block, ItemOutcome, Map, MapOptions, MapStopper, Step};
pub use muster_proto::rpc::RpcError;
pub use muster_proto::socket::Frame;
pub use pending::{Outcome, Pending, as_completed};
pub use status::{MethodEntry, Slots, Status};
pub use target::{Address, Target};
