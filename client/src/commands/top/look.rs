//! The cluster at one moment, and what happened between two.

use crate::commands::Failure;
use muster_client::{Call, Client};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long the broker may take to answer before it counts as away.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Failures that are shown.
const FAILURES: usize = 50;

/// What the broker told.
pub struct Look {
    at: Instant,
    /// By the wall clock, in milliseconds since 1970.
    pub taken_ms: u64,
    pub status: Status,
    pub workers: Vec<Worker>,
    pub methods: Vec<Method>,
    pub failures: Vec<Failed>,
    /// Methods of running calls, by id.
    pub running: HashMap<String, Running>,
}

#[derive(Deserialize)]
pub struct Status {
    pub name: String,
    pub host: String,
    pub version: String,
    pub epoch: String,
    pub uptime_s: f64,
    pub draining: bool,
    pub clients: u64,
    pub slots: HashMap<String, u64>,
    pub calls: HashMap<String, u64>,
}

#[derive(Deserialize)]
pub struct Worker {
    pub name: String,
    pub slot_states: Vec<Slot>,
}

#[derive(Clone, Deserialize)]
pub struct Slot {
    pub name: String,
    pub state: String,
    pub calls: u64,
    pub failures: u64,
    pub service_s: f64,
    pub call: Option<String>,
}

#[derive(Deserialize)]
pub struct Method {
    pub name: String,
    pub slots: u64,
    pub queued: u64,
    pub calls: u64,
    pub failures: u64,
    pub latency: Latency,
}

#[derive(Clone, Default, Deserialize)]
pub struct Latency {
    pub buckets: Vec<(f64, u64)>,
    pub count: u64,
}

#[derive(Deserialize)]
pub struct Running {
    pub id: String,
    pub method: Option<String>,
    pub age_s: f64,
}

#[derive(Deserialize)]
pub struct Failed {
    pub id: String,
    pub method: Option<String>,
    pub state: String,
    pub slot: Option<String>,
    pub ended_ms: u64,
    pub error: Value,
}

impl Look {
    /// Asks the broker, in one message.
    pub fn take(client: &Client) -> Result<Self, Failure> {
        let questions = [
            ("broker.status", json!([])),
            ("broker.workers", json!([])),
            ("broker.methods", json!([])),
            (
                "broker.calls",
                json!({"state": "failed", "limit": FAILURES}),
            ),
            ("broker.calls", json!({"state": "running", "limit": 5_000})),
        ];
        let calls: Result<Vec<Call>, _> = questions
            .iter()
            .map(|(method, params)| Ok(Call::new(method, params)?.timeout(ANSWER_TIMEOUT)))
            .collect();
        let mut answers = client.batch(calls.map_err(Failure::Client)?)?.into_iter();
        fn read<T: DeserializeOwned>(
            answers: &mut impl Iterator<Item = muster_client::Outcome>,
        ) -> Result<T, Failure> {
            let answer = answers.next().ok_or(muster_client::Error::Closed)?;
            Ok(answer?.json()?)
        }
        let answers = &mut answers;
        let status = read(answers)?;
        let workers = read(answers)?;
        let methods = read(answers)?;
        let failures = read(answers)?;
        let running: Vec<Running> = read(answers)?;
        Ok(Look {
            at: Instant::now(),
            taken_ms: wall_ms(),
            status,
            workers,
            methods,
            failures,
            running: running
                .into_iter()
                .map(|call| (call.id.clone(), call))
                .collect(),
        })
    }

    /// A number of `broker.status`, of all calls.
    pub fn calls(&self, member: &str) -> u64 {
        self.status.calls.get(member).copied().unwrap_or(0)
    }

    /// Slots in a state.
    pub fn slots(&self, state: &str) -> u64 {
        self.status.slots.get(state).copied().unwrap_or(0)
    }

    fn ended(&self) -> u64 {
        ["succeeded", "failed", "expired", "cancelled", "lost"]
            .iter()
            .map(|end| self.calls(end))
            .sum()
    }

    fn unwell(&self) -> u64 {
        ["failed", "expired", "lost", "shed", "not_found"]
            .iter()
            .map(|end| self.calls(end))
            .sum()
    }
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// What happened between two looks.
#[derive(Default)]
pub struct Since {
    /// Calls that ended, per second.
    pub rate: Option<f64>,
    /// Of these, ones that went wrong, and those that were turned away.
    pub failed_rate: Option<f64>,
    /// All methods together.
    pub latency: Quantiles,
    /// Rate and latency of each method.
    pub methods: HashMap<String, (f64, Quantiles)>,
    /// Rate and share of time spent in functions, of each slot.
    pub slots: HashMap<String, (f64, f64)>,
}

/// Half of the calls took less than the first, 95 and 99 of 100 less than the others; in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quantiles {
    pub p50: Option<f64>,
    pub p95: Option<f64>,
    pub p99: Option<f64>,
}

impl Since {
    /// Compares two looks; of different brokers nothing can be said.
    pub fn between(before: &Look, now: &Look) -> Self {
        let seconds = now.at.duration_since(before.at).as_secs_f64();
        if before.status.epoch != now.status.epoch || seconds <= 0.0 {
            return Since::default();
        }
        let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let older: HashMap<&str, &Method> = before
            .methods
            .iter()
            .map(|method| (method.name.as_str(), method))
            .collect();
        let mut all = Buckets::default();
        let mut methods = HashMap::new();
        for method in &now.methods {
            let old = older.get(method.name.as_str());
            let buckets = Buckets::between(old.map(|old| &old.latency), &method.latency);
            let rate = per_second(method.calls, old.map_or(0, |old| old.calls));
            methods.insert(method.name.clone(), (rate, buckets.quantiles()));
            all.add(&buckets);
        }
        let old_slots: HashMap<&str, &Slot> = before
            .workers
            .iter()
            .flat_map(|worker| &worker.slot_states)
            .map(|slot| (slot.name.as_str(), slot))
            .collect();
        let mut slots = HashMap::new();
        for slot in now.workers.iter().flat_map(|worker| &worker.slot_states) {
            let Some(old) = old_slots.get(slot.name.as_str()) else {
                continue;
            };
            let rate = per_second(slot.calls, old.calls);
            // A call that runs on tells its time at its end.
            let runs_on = slot.call.is_some() && slot.call == old.call;
            let load = match runs_on {
                true => 1.0,
                false => ((slot.service_s - old.service_s) / seconds).clamp(0.0, 1.0),
            };
            slots.insert(slot.name.clone(), (rate, load));
        }
        Since {
            rate: Some(per_second(now.ended(), before.ended())),
            failed_rate: Some(per_second(now.unwell(), before.unwell())),
            latency: all.quantiles(),
            methods,
            slots,
        }
    }
}

/// Calls by the upper end of their bucket; the last has none.
#[derive(Default)]
struct Buckets {
    counts: Vec<(f64, u64)>,
}

impl Buckets {
    fn between(before: Option<&Latency>, now: &Latency) -> Self {
        let old = |at: usize| {
            let buckets = before.map_or(&[][..], |before| &before.buckets);
            buckets.get(at).map_or(0, |(_, count)| *count)
        };
        let mut counts = Vec::with_capacity(now.buckets.len() + 1);
        let mut below = 0;
        for (at, (end, up_to)) in now.buckets.iter().enumerate() {
            let up_to = up_to.saturating_sub(old(at));
            counts.push((*end, up_to.saturating_sub(below)));
            below = up_to;
        }
        let all = now
            .count
            .saturating_sub(before.map_or(0, |before| before.count));
        counts.push((f64::INFINITY, all.saturating_sub(below)));
        Buckets { counts }
    }

    fn add(&mut self, other: &Buckets) {
        if self.counts.is_empty() {
            self.counts.clone_from(&other.counts);
            return;
        }
        for ((_, count), (_, more)) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    fn quantiles(&self) -> Quantiles {
        Quantiles {
            p50: self.quantile(0.5),
            p95: self.quantile(0.95),
            p99: self.quantile(0.99),
        }
    }

    /// Within a bucket calls count as spread evenly.
    fn quantile(&self, share: f64) -> Option<f64> {
        let all: u64 = self.counts.iter().map(|(_, count)| count).sum();
        let mut wanted = all as f64 * share;
        let mut lower = 0.0;
        for (upper, count) in &self.counts {
            if *count > 0 && *count as f64 >= wanted {
                let is_last = upper.is_infinite();
                return Some(match is_last {
                    true => lower,
                    false => lower + (upper - lower) * wanted / *count as f64,
                });
            }
            wanted -= *count as f64;
            lower = *upper;
        }
        None
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A cluster of two slots; `n` calls of `m` have ended, each after 1 ms.
    pub fn look(n: u64, at: Instant) -> Look {
        let slot = |number: u32, call: Option<&str>| Slot {
            name: format!("w.{number}"),
            state: if call.is_some() { "busy" } else { "ready" }.into(),
            calls: n,
            failures: 1,
            service_s: n as f64 / 1e3,
            call: call.map(str::to_owned),
        };
        let running = Running {
            id: "c9".into(),
            method: Some("slow".into()),
            age_s: 12.0,
        };
        Look {
            at,
            taken_ms: 3_723_000 + 42_000,
            status: Status {
                name: "lab".into(),
                host: "atlas".into(),
                version: "0.1.0".into(),
                epoch: "e".into(),
                uptime_s: 90.0,
                draining: false,
                clients: 3,
                slots: [("total".into(), 2), ("busy".into(), 1)].into(),
                calls: [
                    ("succeeded".into(), n),
                    ("queued".into(), 5),
                    ("running".into(), 1),
                ]
                .into(),
            },
            workers: vec![Worker {
                name: "w".into(),
                slot_states: vec![slot(1, Some("c9")), slot(2, None)],
            }],
            methods: vec![Method {
                name: "m".into(),
                slots: 2,
                queued: 5,
                calls: n,
                failures: 1,
                latency: Latency {
                    buckets: vec![(0.5e-3, 0), (1e-3, n), (2e-3, n)],
                    count: n,
                },
            }],
            failures: vec![Failed {
                id: "c4".into(),
                method: Some("m".into()),
                state: "failed".into(),
                slot: Some("w.1".into()),
                ended_ms: 3_723_000,
                error: json!({"code": -32000, "message": "ValueError: no\u{1b}[2J"}),
            }],
            running: [("c9".to_owned(), running)].into(),
        }
    }

    #[test]
    fn two_looks_make_rates_loads_and_percentiles() {
        let start = Instant::now();
        let since = Since::between(
            &look(100, start),
            &look(300, start + Duration::from_secs(2)),
        );
        assert_eq!(since.rate, Some(100.0));
        let (rate, quantiles) = since.methods["m"];
        assert_eq!((rate, quantiles.p50), (100.0, Some(0.75e-3)));
        assert_eq!(quantiles, since.latency);
        assert_eq!(since.slots["w.1"].1, 1.0);
        assert!((since.slots["w.2"].1 - 0.1).abs() < 1e-9);
        let nothing = Since::between(
            &look(300, start),
            &look(300, start + Duration::from_secs(1)),
        );
        assert_eq!(nothing.latency, Quantiles::default());
    }
}
