//! `GET /events`: a snapshot each second, as server-sent events, while somebody watches.

use crate::gateway::Gateway;
use crate::limits::WATCHERS_MAX;
use crate::reply::{Payload, Reply, line};
use crate::snapshot;
use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};

const PERIOD: Duration = Duration::from_secs(1);

/// Those who watch, and what they are shown.
#[derive(Debug)]
pub(crate) struct Hub {
    watchers: AtomicUsize,
    arrived: Notify,
    latest: watch::Sender<Bytes>,
}

impl Default for Hub {
    fn default() -> Self {
        Hub {
            watchers: AtomicUsize::new(0),
            arrived: Notify::new(),
            latest: watch::Sender::new(Bytes::new()),
        }
    }
}

/// One who watches.
struct Watcher {
    gateway: Arc<Gateway>,
}

impl Watcher {
    /// `None`: there are too many.
    fn enter(gateway: &Arc<Gateway>) -> Option<Self> {
        let watchers = &gateway.hub.watchers;
        if watchers.fetch_add(1, Ordering::Relaxed) >= WATCHERS_MAX {
            watchers.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        gateway.hub.arrived.notify_one();
        Some(Watcher {
            gateway: Arc::clone(gateway),
        })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.gateway.hub.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Asks the broker once a second while somebody watches; never ends.
pub(crate) async fn poll(gateway: Arc<Gateway>) {
    let hub = &gateway.hub;
    loop {
        while hub.watchers.load(Ordering::Relaxed) == 0 {
            hub.arrived.notified().await;
        }
        let snapshot = snapshot::take(&gateway).await;
        let event = Bytes::from(format!("data: {snapshot}\n\n"));
        hub.latest.send_replace(event);
        tokio::time::sleep(PERIOD).await;
    }
}

/// Answers one watcher.
pub(crate) fn get(gateway: &Arc<Gateway>) -> Reply {
    let Some(watcher) = Watcher::enter(gateway) else {
        let reason = format!("{WATCHERS_MAX} pages watch already");
        return line(StatusCode::SERVICE_UNAVAILABLE, &reason);
    };
    // One event on its way: a slow page skips some instead of falling behind.
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(feed(watcher, sender));
    let mut reply = Response::new(Payload::Stream(receiver));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

async fn feed(watcher: Watcher, sender: mpsc::Sender<Bytes>) {
    let gateway = &watcher.gateway;
    let mut latest = gateway.hub.latest.subscribe();
    let mut event = Bytes::from_static(b"retry: 2000\n\n");
    loop {
        if sender.send(event).await.is_err() {
            return;
        }
        tokio::select! {
            changed = latest.changed() => {
                if changed.is_err() {
                    return;
                }
                event = latest.borrow_and_update().clone();
            }
            () = sender.closed() => return,
            () = gateway.stop.asked(1) => return,
        }
    }
}
