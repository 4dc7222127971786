//! The broker's figures, from its own methods.
//!
//! What a broker does not tell is left out, so that an older one is scraped as well.

use super::exposition::Exposition;
use crate::broker;
use crate::gateway::Gateway;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    name: String,
    version: String,
    uptime_s: f64,
    draining: bool,
    clients: u64,
    workers: BTreeMap<String, u64>,
    slots: BTreeMap<String, u64>,
    calls: BTreeMap<String, Value>,
    /// Errors by code.
    errors: BTreeMap<String, u64>,
    /// Bytes by direction.
    bytes: BTreeMap<String, u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Worker {
    name: String,
    in_flight: u64,
    calls: u64,
    failures: u64,
    slot_states: Vec<Slot>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Slot {
    service_s: f64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Method {
    name: String,
    slots: u64,
    queued: u64,
    service_us: Option<f64>,
    /// How long calls took from admission to answer.
    latency: Option<Latency>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Latency {
    /// Upper bounds in seconds with how many calls took at most so long.
    buckets: Vec<(f64, u64)>,
    sum_s: f64,
    count: u64,
}

/// How a call can end, as `broker.status` counts it.
const OUTCOMES: [&str; 8] = [
    "succeeded",
    "failed",
    "expired",
    "cancelled",
    "lost",
    "shed",
    "not_found",
    "drained",
];

/// All of `/metrics`.
pub(crate) async fn scrape(gateway: &Gateway) -> String {
    let questions = [
        ("broker.status", "[]"),
        ("broker.workers", "[]"),
        ("broker.methods", "[]"),
    ];
    let mut out = Exposition::default();
    let answers = broker::ask_all(&*gateway.pool, &questions).await;
    let is_up = answers.as_ref().is_ok_and(|answers| answers[0].is_some());
    out.lone_gauge(
        "muster_up",
        "Whether the broker answers this gateway.",
        u8::from(is_up),
    );
    if let Ok(answers) = &answers {
        let [status, workers, methods] = [0, 1, 2].map(|at| answers[at].as_deref());
        if let Some(status) = read(status) {
            write_status(&status, &mut out);
        }
        if let Some(workers) = read::<Vec<Worker>>(workers) {
            write_workers(&workers, &mut out);
        }
        if let Some(methods) = read::<Vec<Method>>(methods) {
            write_methods(&methods, &mut out);
        }
    }
    gateway.metrics.write(&mut out);
    out.lone_gauge(
        "muster_gateway_connections",
        "HTTP connections to this gateway.",
        gateway.connections(),
    );
    out.finish()
}

fn read<T: for<'a> Deserialize<'a>>(text: Option<&str>) -> Option<T> {
    serde_json::from_str(text?).ok()
}

fn write_status(status: &Status, out: &mut Exposition) {
    let count = |name: &str| status.calls.get(name).and_then(Value::as_u64);
    out.gauge("muster_build_info", "The broker's version and cluster.");
    let labels = [("version", &*status.version), ("cluster", &*status.name)];
    out.value(&labels, 1);
    let help = "How long the broker has been up.";
    out.lone_gauge("muster_uptime_seconds", help, status.uptime_s);
    let help = "Whether the broker is leaving.";
    out.lone_gauge("muster_draining", help, u8::from(status.draining));
    out.lone_gauge("muster_clients", "Connected clients.", status.clients);
    out.gauge("muster_workers", "Workers, managed ones and stock lanes.");
    for (kind, workers) in &status.workers {
        out.value(&[("kind", kind)], workers);
    }
    out.gauge("muster_slots", "Slots by state.");
    for (state, slots) in status.slots.iter().filter(|(state, _)| *state != "total") {
        out.value(&[("state", state)], slots);
    }
    for (member, name, help) in [
        (
            "queued",
            "muster_queued_calls",
            "Calls that wait for a slot.",
        ),
        (
            "queued_bytes",
            "muster_queued_bytes",
            "Bytes of the calls that wait.",
        ),
        (
            "running",
            "muster_running_calls",
            "Calls that were given to a slot.",
        ),
    ] {
        if let Some(value) = count(member) {
            out.lone_gauge(name, help, value);
        }
    }
    out.counter("muster_calls_total", "Calls that ended, by outcome.");
    for outcome in OUTCOMES {
        if let Some(calls) = count(outcome) {
            out.value(&[("outcome", outcome)], calls);
        }
    }
    for (member, name, help) in [
        (
            "admitted",
            "muster_admitted_calls_total",
            "Calls that were taken on.",
        ),
        (
            "shed",
            "muster_shed_calls_total",
            "Calls refused because a cap was reached.",
        ),
        (
            "retried",
            "muster_retries_total",
            "Dispatches beyond a call's first.",
        ),
        (
            "recalled",
            "muster_recalls_total",
            "Calls taken back from a busy slot before they started.",
        ),
        (
            "fenced",
            "muster_fenced_replies_total",
            "Replies of dispatches that held no call any more.",
        ),
        (
            "late",
            "muster_late_replies_total",
            "Replies to calls that had been resolved without them.",
        ),
        (
            "bad_replies",
            "muster_bad_replies_total",
            "Replies that could not be read.",
        ),
        (
            "reattached",
            "muster_reattached_calls_total",
            "Calls found again by their key.",
        ),
        (
            "replies_dropped",
            "muster_dropped_replies_total",
            "Replies dropped because their clients do not read.",
        ),
    ] {
        if let Some(value) = count(member) {
            out.lone_counter(name, help, value);
        }
    }
    out.counter(
        "muster_errors_total",
        "Error answers that clients were given, by code.",
    );
    for (code, errors) in &status.errors {
        out.value(&[("code", code)], errors);
    }
    for (direction, name, help) in [
        (
            "in",
            "muster_received_bytes_total",
            "Bytes of clients' messages.",
        ),
        (
            "out",
            "muster_sent_bytes_total",
            "Bytes of what clients were sent.",
        ),
    ] {
        if let Some(bytes) = status.bytes.get(direction) {
            out.lone_counter(name, help, bytes);
        }
    }
}

fn write_workers(workers: &[Worker], out: &mut Exposition) {
    out.gauge("muster_worker_slots", "Slots, by worker.");
    for worker in workers {
        out.value(&[("worker", &worker.name)], worker.slot_states.len());
    }
    out.gauge(
        "muster_worker_in_flight_calls",
        "Calls given to it and not answered, by worker.",
    );
    for worker in workers {
        out.value(&[("worker", &worker.name)], worker.in_flight);
    }
    out.counter("muster_worker_calls_total", "Calls answered, by worker.");
    for worker in workers {
        out.value(&[("worker", &worker.name)], worker.calls);
    }
    out.counter(
        "muster_worker_failures_total",
        "Calls that failed, by worker.",
    );
    for worker in workers {
        out.value(&[("worker", &worker.name)], worker.failures);
    }
    out.counter(
        "muster_worker_busy_seconds_total",
        "Time spent in functions, by worker.",
    );
    for worker in workers {
        let service_s: f64 = worker.slot_states.iter().map(|slot| slot.service_s).sum();
        out.value(&[("worker", &worker.name)], service_s);
    }
}

fn write_methods(methods: &[Method], out: &mut Exposition) {
    out.gauge(
        "muster_method_queued_calls",
        "Calls that wait for a slot, by method.",
    );
    for method in methods {
        out.value(&[("method", &method.name)], method.queued);
    }
    out.gauge("muster_method_slots", "Slots that offer it, by method.");
    for method in methods {
        out.value(&[("method", &method.name)], method.slots);
    }
    out.gauge(
        "muster_method_service_seconds",
        "Estimate of the time one call takes, by method.",
    );
    for method in methods {
        if let Some(service_us) = method.service_us {
            out.value(&[("method", &method.name)], service_us / 1e6);
        }
    }
    if methods.iter().any(|method| method.latency.is_some()) {
        out.histogram(
            "muster_call_duration_seconds",
            "From admission to answer, by method.",
        );
        for method in methods {
            if let Some(latency) = &method.latency {
                let labels = [("method", &*method.name)];
                out.buckets(&labels, &latency.buckets, latency.sum_s, latency.count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_tells_all_and_one_that_tells_little_are_written() {
        let mut out = Exposition::default();
        let status = r#"{"name":"c","version":"1","uptime_s":1.5,"slots":{"total":3,"ready":3},
            "calls":{"queued":2,"succeeded":9,"retried":1,"new":null},"errors":{"-32000":4},
            "bytes":{"in":10},"endpoints":{}}"#;
        write_status(&read(Some(status)).unwrap(), &mut out);
        write_status(&read(Some("{}")).unwrap(), &mut out);
        let methods = r#"[{"name":"m","queued":1,"service_us":null,
            "latency":{"buckets":[[0.1,1],[1,2]],"sum_s":0.9,"count":3}}]"#;
        write_methods(&read::<Vec<Method>>(Some(methods)).unwrap(), &mut out);
        let text = out.finish();
        for line in [
            "muster_queued_calls 2",
            r#"muster_slots{state="ready"} 3"#,
            r#"muster_calls_total{outcome="succeeded"} 9"#,
            "muster_retries_total 1",
            r#"muster_errors_total{code="-32000"} 4"#,
            "muster_received_bytes_total 10",
            r#"muster_call_duration_seconds_bucket{method="m",le="1"} 2"#,
            r#"muster_call_duration_seconds_bucket{method="m",le="+Inf"} 3"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("total\"} 3"));
    }
}
