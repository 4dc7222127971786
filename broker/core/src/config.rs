//! Every cap and constant the core decides by.

use muster_proto::id::Epoch;
use muster_proto::limits;
use std::time::Duration;

/// What the core is told once, at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// This run, for the fence.
    pub epoch: Epoch,
    /// Starts of a call that asks for nothing else, from 1.
    pub attempts_max: u32,
    /// Deadline of a call that asks for none; `None`: it may wait for ever.
    pub timeout: Option<Duration>,
    /// How long a call waits for a first worker before its method counts as unknown.
    pub settle: Duration,
    /// Calls waiting.
    pub queued_calls_max: usize,
    /// Bytes of the calls waiting.
    pub queued_bytes_max: usize,
    /// Unanswered calls of one client.
    pub client_calls_max: usize,
    /// Classes (method, `to`) that are remembered.
    pub classes_max: usize,
    /// A worker's heartbeat is due this often.
    pub heartbeat: Duration,
    /// Heartbeats missed before a worker is lost.
    pub heartbeats_missed_max: u32,
    /// The backlog, in expected service time, up to which a busy slot is given more calls. Long
    /// enough to hide a round trip, short enough that nobody minds waiting behind it.
    pub window: Duration,
    /// Calls in flight on one slot, however short they are.
    pub slot_calls_max: usize,
    /// Calls in flight on one lane, however short they are.
    pub lane_calls_max: usize,
    /// The second retry waits about this long, each later one twice as long.
    pub retry_backoff: Duration,
    /// No retry waits longer.
    pub retry_backoff_max: Duration,
    /// How long the keyed calls of a gone client go on.
    pub orphan_grace: Duration,
    /// How long the answer to a keyed call is kept.
    pub answer_kept: Duration,
    /// Answers kept, by count.
    pub answers_max: usize,
    /// Answers kept, by bytes.
    pub answers_bytes_max: usize,
    /// How long a call that is about to fail waits for word of how its child ended.
    pub obituary: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            epoch: Epoch(0),
            attempts_max: 3,
            timeout: None,
            settle: Duration::from_secs(3),
            queued_calls_max: limits::QUEUED_CALLS_MAX,
            queued_bytes_max: limits::QUEUED_BYTES_MAX,
            client_calls_max: limits::CLIENT_CALLS_MAX,
            classes_max: 20_000,
            heartbeat: Duration::from_millis(limits::HEARTBEAT_MS),
            heartbeats_missed_max: limits::HEARTBEATS_MISSED_MAX as u32,
            window: Duration::from_millis(2),
            slot_calls_max: 256,
            lane_calls_max: 48,
            retry_backoff: Duration::from_millis(50),
            retry_backoff_max: Duration::from_secs(5),
            orphan_grace: Duration::from_secs(10),
            answer_kept: Duration::from_secs(60),
            answers_max: 100_000,
            answers_bytes_max: 64 << 20,
            obituary: Duration::from_millis(250),
        }
    }
}
