//! The gateway's own caps, each with its reason. Those of calls are in [`muster_proto::limits`].

use std::time::Duration;

/// Connections at once; one more is answered 503 and closed.
pub(crate) const CONNECTIONS_MAX: usize = 1_024;
/// Bytes of request bodies held at once, over all connections; beyond it: 503.
pub(crate) const BODIES_BYTES_MAX: usize = 256 << 20;
/// A request's head. Browsers send one or two kilobytes.
pub(crate) const HEAD_BYTES_MAX: usize = 32 << 10;
/// How long requests under way may go on once the gateway is asked to leave.
pub(crate) const GRACE: Duration = Duration::from_secs(10);
/// Pages that watch at once; one more is answered 503.
pub(crate) const WATCHERS_MAX: usize = 64;
/// Methods with figures of their own in the metrics; the others share one line.
pub(crate) const METHODS_COUNTED_MAX: usize = 500;
/// How long the broker may take to answer the gateway's own questions.
pub(crate) const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// Bodies and answers above this are read off the thread that serves the connections.
pub(crate) const INLINE_BYTES_MAX: usize = 64 << 10;
