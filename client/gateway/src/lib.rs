//! A Muster cluster over HTTP, as an ordinary client of its broker.
//!
//! `POST /rpc` takes JSON-RPC 2.0, `POST /RPC2` XML-RPC; `GET /metrics`, `/healthz`, `/readyz` and
//! `/openrpc.json` are for machines, and `/` is a page for people. How calls reach the broker is
//! the caller's: [`run`] gets a [`Pool`].
//!
//! One thread serves all connections. What could keep it from the others, such as reading a body
//! of megabytes, goes to a thread pool.

mod asking;
mod body;
mod broker;
mod budget;
mod config;
mod events;
mod failures;
mod gate;
mod gateway;
mod jsonrpc;
mod limits;
mod metrics;
mod page;
mod patience;
mod pool;
mod reply;
mod request;
mod router;
mod server;
mod snapshot;
mod stop;
mod token;
mod xmlrpc;

pub use config::{Config, ConfigError, Patience};
pub use pool::{Done, Failure, Pool, Request, Ticket};
pub use server::{ServeError, Server};
pub use stop::Stop;
pub use token::{BadToken, Token};

/// An XML-RPC call's method and its parameters as a JSON array; `None`: it would be answered with a
/// fault. For the fuzz targets.
#[doc(hidden)]
pub fn read_xml_rpc(body: &[u8]) -> Option<(String, String)> {
    xmlrpc::parse(body)
}
