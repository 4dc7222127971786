//! `broker.status` and `broker.endpoints`.

use super::Front;
use crate::frontend::Asker;
use muster_core::SlotState;
use muster_proto::connection::Connection;
use serde_json::{Value, json};

impl Front<'_> {
    pub(super) fn status(&self, asker: &Asker<'_>) -> Value {
        let status = self.core.status();
        let totals = status.totals;
        let tally = asker.tally();
        let (bytes_in, bytes_out) = tally.bytes();
        let count = |state: SlotState| status.slots[state as usize];
        let local = &self.about.local;
        json!({
            "name": local.name,
            "version": env!("CARGO_PKG_VERSION"),
            "host": local.host,
            "pid": local.pid,
            "started": local.started,
            "uptime_s": self.clock.uptime().as_secs_f64(),
            "epoch": self.about.epoch,
            "endpoints": endpoints_json(local),
            "tcp_endpoints": self.about.remote.as_ref().map(endpoints_json),
            "draining": status.is_draining,
            "takes_raw": self.core.takes_raw(),
            "workers": {"managed": status.managed, "lanes": status.lanes},
            "slots": {
                "total": status.slots.iter().sum::<usize>(),
                "ready": count(SlotState::Ready),
                "busy": count(SlotState::Busy),
                "starting": count(SlotState::Starting),
                "draining": count(SlotState::Draining),
                "backoff": count(SlotState::Backoff),
            },
            "clients": self.clients,
            "calls": {
                "queued": status.queued,
                "queued_bytes": status.queued_bytes,
                "running": status.running,
                "admitted": totals.admitted,
                "succeeded": totals.succeeded,
                "failed": totals.failed,
                "expired": totals.expired,
                "cancelled": totals.cancelled,
                "lost": totals.lost,
                "shed": totals.shed,
                "not_found": totals.not_found,
                "drained": totals.drained,
                "retried": totals.retried,
                "recalled": totals.recalled,
                "fenced": totals.fenced,
                "late": totals.late,
                "bad_replies": totals.bad_replies,
                "reattached": totals.reattached,
                "replies_dropped": self.replies_dropped,
            },
            "errors": tally.errors_json(),
            "bytes": {"in": bytes_in, "out": bytes_out},
            "methods": status.methods,
        })
    }

    pub(super) fn endpoints(&self, asker: &Asker<'_>) -> Value {
        let remote = self.about.remote.as_ref().filter(|_| asker.over_tcp());
        let connection = remote.unwrap_or(&self.about.local);
        let mut endpoints = endpoints_json(connection);
        endpoints["name"] = json!(connection.name);
        endpoints["host"] = json!(connection.host);
        endpoints["epoch"] = json!(self.about.epoch);
        endpoints
    }
}
fn endpoints_json(connection: &Connection) -> Value {
    json!({
        "frontend": connection.frontend,
        "backend": connection.backend,
        "workers": connection.workers,
        "events": connection.events,
    })
}
