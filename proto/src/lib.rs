//! What travels between the programs of a Muster cluster.
//!
//! Message envelopes ([`envelope`]), JSON-RPC read as little as the broker has to ([`rpc`]), JSON
//! checked ([`json`]), the code table ([`code`]), the worker protocol ([`worker`]), every cap with its reason
//! ([`limits`]), the runtime directory and its connection file ([`runtime`], [`connection`]) and
//! the user's settings file (`settings`) and
//! the one door to ZeroMQ (`socket`, behind the default feature of that name, so that the broker's
//! core can use the ids and codes without a socket in reach).

pub mod code;
pub mod connection;
pub mod envelope;
pub mod exit;
pub mod id;
pub mod json;
pub mod limits;
pub mod parent;
pub mod rpc;
pub mod runtime;
#[cfg(feature = "settings")]
pub mod settings;
#[cfg(feature = "socket")]
pub mod socket;
pub mod worker;
