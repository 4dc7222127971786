//! Every cap and its reason. The broker can set most of them by flag; these are the defaults.

/// Frame 0 of a call or reply: what a JSON parser can take without hurting its neighbours.
pub const BODY_BYTES_MAX: usize = 16 << 20;
/// One binary attachment.
pub const ATTACHMENT_BYTES_MAX: usize = 128 << 20;
/// All frames of one message together.
pub const MESSAGE_BYTES_MAX: usize = 256 << 20;
/// Frames of one message, envelope included.
pub const MESSAGE_FRAMES_MAX: usize = 64;
/// Where libzmq itself cuts the link (`ZMQ_MAXMSGSIZE`), well above the caps that get an answer.
pub const LINK_BYTES_MAX: i64 = 512 << 20;
/// Nesting of a JSON body: deeper ones serve nobody but an attacker of recursive parsers.
pub const DEPTH_MAX: usize = 64;
/// Calls in one batch.
pub const BATCH_CALLS_MAX: usize = 1_000;
/// Items in one map chunk.
pub const CHUNK_ITEMS_MAX: usize = 100_000;
/// A method's name, in bytes of UTF-8.
pub const METHOD_BYTES_MAX: usize = 256;
/// A JSON-RPC id, in bytes as written; it is kept and echoed for every call.
pub const ID_BYTES_MAX: usize = 4_096;
/// A call's key.
pub const KEY_BYTES_MAX: usize = 256;
/// Methods of one worker.
pub const WORKER_METHODS_MAX: usize = 10_000;
/// One method's documentation.
pub const DOC_BYTES_MAX: usize = 64 << 10;
/// A worker's registration as JSON.
pub const REGISTRATION_BYTES_MAX: usize = 16 << 20;
/// Slots of one worker.
pub const WORKER_SLOTS_MAX: u32 = 4_096;
/// Slots that a worker opens for calls inside others, for each of its own: a bound for recursion
/// that branches, far above what a pool that waits for itself needs.
pub const NESTED_SLOTS_MAX: u32 = 4;
/// Calls inside calls inside calls.
pub const NESTED_DEPTH_MAX: usize = 8;
/// A worker's name.
pub const WORKER_NAME_BYTES_MAX: usize = 128;
/// Calls waiting in the broker.
pub const QUEUED_CALLS_MAX: usize = 2_000_000;
/// Bytes of the calls waiting in the broker.
pub const QUEUED_BYTES_MAX: usize = 1 << 30;
/// Unanswered calls of one client.
pub const CLIENT_CALLS_MAX: usize = 1_000_000;
/// Replies kept for one client that does not read: as many as it may have calls, so that the answers
/// to a burst of all of them wait for it, however fast they are there.
pub const OUTBOX_REPLIES_MAX: usize = CLIENT_CALLS_MAX;
/// Bytes of the replies kept for one client that does not read.
pub const OUTBOX_BYTES_MAX: usize = 256 << 20;
/// Frames of a return path in front of the delimiter.
pub const PATH_FRAMES_MAX: usize = 4;
/// Bytes of a return path in front of the delimiter.
pub const PATH_BYTES_MAX: usize = 1_024;
/// How long a connection may take for its handshake, in ms.
pub const HANDSHAKE_MS: u32 = 3_000;
/// A worker's heartbeat, in ms; three missed ones mean that the process is gone.
pub const HEARTBEAT_MS: u64 = 1_000;
/// Heartbeats missed before a worker is lost.
pub const HEARTBEATS_MISSED_MAX: u64 = 3;
/// The tail of a lost child's standard error that travels with the answer.
pub const STDERR_TAIL_BYTES_MAX: usize = 4_096;
