//! `GET /metrics`: what Prometheus reads.
//!
//! The broker's figures are asked for at each scrape; the gateway's own are counted here.

mod exposition;
mod histogram;
mod scrape;

use crate::limits::METHODS_COUNTED_MAX;
use exposition::Exposition;
use histogram::Histogram;
use muster_proto::code::Code;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) use scrape::scrape;

/// Where a call came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Door {
    Json,
    Xml,
}

impl Door {
    fn name(self) -> &'static str {
        match self {
            Door::Json => "jsonrpc",
            Door::Xml => "xmlrpc",
        }
    }
}

/// One answered request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample<'a> {
    pub(crate) door: Door,
    /// Of a batch the one that stands for it.
    pub(crate) method: &'a str,
    /// The error's code, if it was one.
    pub(crate) code: Option<i64>,
    pub(crate) elapsed: Duration,
    pub(crate) bytes_in: usize,
    pub(crate) bytes_out: usize,
}

/// The gateway's own figures.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    figures: Mutex<Figures>,
}

#[derive(Debug, Default)]
struct Figures {
    /// By the method's name.
    durations: BTreeMap<String, Histogram>,
    /// By door: requests, bytes in and bytes out.
    traffic: BTreeMap<Door, (u64, u64, u64)>,
    errors: BTreeMap<(Door, i64), u64>,
}

/// Callers choose names, so those that nobody offers share a line, and so do those above the cap.
const OTHER_METHODS: &str = "(other)";

impl Metrics {
    pub(crate) fn record(&self, sample: &Sample<'_>) {
        let mut figures = self.lock();
        let traffic = figures.traffic.entry(sample.door).or_default();
        traffic.0 += 1;
        traffic.1 += sample.bytes_in as u64;
        traffic.2 += sample.bytes_out as u64;
        if let Some(code) = sample.code {
            *figures.errors.entry((sample.door, code)).or_default() += 1;
        }
        let is_known = sample.code != Some(Code::MethodNotFound.number());
        let durations = &mut figures.durations;
        let name = match durations.contains_key(sample.method) {
            true => sample.method,
            false if is_known && durations.len() < METHODS_COUNTED_MAX => sample.method,
            false => OTHER_METHODS,
        };
        match durations.get_mut(name) {
            Some(histogram) => histogram.add(sample.elapsed),
            None => {
                let mut histogram = Histogram::default();
                histogram.add(sample.elapsed);
                durations.insert(name.to_owned(), histogram);
            }
        }
    }

    /// A request that did not get as far as the broker.
    pub(crate) fn count_refused(&self, door: Door, code: i64) {
        *self.lock().errors.entry((door, code)).or_default() += 1;
    }

    fn write(&self, out: &mut Exposition) {
        let figures = self.lock();
        out.counter(
            "muster_gateway_requests_total",
            "Calls, notifications and batches that went through this gateway.",
        );
        for (door, (requests, ..)) in &figures.traffic {
            out.value(&[("protocol", door.name())], *requests);
        }
        out.counter(
            "muster_gateway_received_bytes_total",
            "Bytes of their bodies.",
        );
        for (door, (_, bytes, _)) in &figures.traffic {
            out.value(&[("protocol", door.name())], *bytes);
        }
        out.counter(
            "muster_gateway_sent_bytes_total",
            "Bytes of the answers' bodies.",
        );
        for (door, (_, _, bytes)) in &figures.traffic {
            out.value(&[("protocol", door.name())], *bytes);
        }
        out.counter(
            "muster_gateway_errors_total",
            "Errors that callers of this gateway got, by code.",
        );
        for ((door, code), count) in &figures.errors {
            let code = code.to_string();
            out.value(&[("protocol", door.name()), ("code", &code)], *count);
        }
        out.histogram(
            "muster_gateway_request_duration_seconds",
            "From the request's head to its answer, by method.",
        );
        for (method, histogram) in &figures.durations {
            let (buckets, sum_s, count) = histogram.cumulative();
            out.buckets(&[("method", method)], &buckets, sum_s, count);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(method: &str, code: Option<i64>) -> Sample<'_> {
        Sample {
            door: Door::Json,
            method,
            code,
            elapsed: Duration::from_millis(3),
            bytes_in: 10,
            bytes_out: 20,
        }
    }

    fn text(metrics: &Metrics) -> String {
        let mut out = Exposition::default();
        metrics.write(&mut out);
        out.finish()
    }

    #[test]
    fn what_was_recorded_is_written() {
        let metrics = Metrics::default();
        metrics.record(&sample("m\"", None));
        metrics.record(&sample("m\"", Some(-32000)));
        let text = text(&metrics);
        for line in [
            r#"muster_gateway_requests_total{protocol="jsonrpc"} 2"#,
            r#"muster_gateway_received_bytes_total{protocol="jsonrpc"} 20"#,
            r#"muster_gateway_errors_total{protocol="jsonrpc",code="-32000"} 1"#,
            r#"muster_gateway_request_duration_seconds_bucket{method="m\"",le="0.0025"} 0"#,
            r#"muster_gateway_request_duration_seconds_bucket{method="m\"",le="0.005"} 2"#,
            r#"muster_gateway_request_duration_seconds_bucket{method="m\"",le="+Inf"} 2"#,
            r#"muster_gateway_request_duration_seconds_count{method="m\""} 2"#,
            r#"muster_gateway_request_duration_seconds_sum{method="m\""} 0.006"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn callers_cannot_make_lines_without_end() {
        let metrics = Metrics::default();
        for n in 0..2 * METHODS_COUNTED_MAX {
            metrics.record(&sample(&format!("m{n}"), None));
            metrics.record(&sample(&format!("none{n}"), Some(-32601)));
        }
        assert!(metrics.lock().durations.len() <= METHODS_COUNTED_MAX + 1);
        assert!(text(&metrics).contains(r#"{method="(other)",le="#));
    }
}
