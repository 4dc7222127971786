//! What all connections share.

use crate::budget::Budget;
use crate::config::{Config, Patience};
use crate::events::Hub;
use crate::failures::Failures;
use crate::gate::Gate;
use crate::limits::BODIES_BYTES_MAX;
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::request::Policy;
use crate::stop::Stop;
use muster_proto::socket::random_bytes;
use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::Notify;

/// The pool, the rules, the counters, and how many connections there are.
pub(crate) struct Gateway {
    pub(crate) pool: Arc<dyn Pool>,
    pub(crate) policy: Policy,
    pub(crate) body_bytes_max: usize,
    pub(crate) patience: Patience,
    pub(crate) budget: Budget,
    pub(crate) gate: Gate,
    pub(crate) metrics: Metrics,
    pub(crate) failures: Failures,
    pub(crate) hub: Hub,
    pub(crate) stop: Stop,
    connections: AtomicUsize,
    /// One of them has ended.
    ended: Notify,
    keys: AtomicU64,
    key_prefix: String,
}

impl Gateway {
    /// # Errors
    /// The system's, when it has no random bytes.
    pub(crate) fn new(config: Config, pool: Arc<dyn Pool>, stop: Stop) -> io::Result<Self> {
        let mut key_prefix = String::new();
        for byte in random_bytes::<12>()? {
            let _ = write!(key_prefix, "{byte:02x}");
        }
        Ok(Gateway {
            pool,
            policy: Policy {
                allow_admin: config.allow_admin,
                timeout: config.timeout,
            },
            body_bytes_max: config.body_bytes_max,
            patience: config.patience,
            budget: Budget::new(BODIES_BYTES_MAX),
            gate: Gate::new(config.token, &config.allow_hosts),
            metrics: Metrics::default(),
            failures: Failures::default(),
            hub: Hub::default(),
            stop,
            connections: AtomicUsize::new(0),
            ended: Notify::new(),
            keys: AtomicU64::new(1),
            key_prefix,
        })
    }

    /// A key for a call: random for this gateway, so that nobody guesses it.
    pub(crate) fn key(&self) -> String {
        let number = self.keys.fetch_add(1, Ordering::Relaxed);
        format!("{}.{number}", self.key_prefix)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Waits until there is no connection.
    pub(crate) async fn quiet(&self) {
        loop {
            let ended = self.ended.notified();
            if self.connections() == 0 {
                return;
            }
            ended.await;
        }
    }
}

/// A connection as it is counted.
pub(crate) struct Counted {
    gateway: Arc<Gateway>,
}

impl Counted {
    pub(crate) fn new(gateway: &Arc<Gateway>) -> Self {
        gateway.connections.fetch_add(1, Ordering::Relaxed);
        Counted {
            gateway: Arc::clone(gateway),
        }
    }

    pub(crate) fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.gateway.connections.fetch_sub(1, Ordering::Relaxed);
        self.gateway.ended.notify_one();
    }
}
