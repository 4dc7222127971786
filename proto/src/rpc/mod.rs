//! JSON-RPC 2.0, read as far as a broker has to and no further.
//!
//! Of a call [`read`] looks at `method`, `id` and `meta`; `params` stays a span of the body.
//! Reading is strict (RFC 8259 by `serde_json`, or for a plain call by a scanner that finds the
//! same), bounded by [`crate::limits`] and never panics. [`write`] composes replies and errors
//! around raw spans.
//!
//! Source: JSON-RPC 2.0 specification; docs/protocol.md, "Calls".

mod chunk;
mod error;
mod meta;
mod plain;
mod read;
mod reply;
mod write;

pub use chunk::{chunk_items, unpack_items};
pub use error::RpcError;
pub use meta::Meta;
pub use read::{Body, CallView, Refused, read};
pub use reply::{ReplyView, read_replies, read_reply};
pub use write::{error_reply, insert_id, result_reply};
