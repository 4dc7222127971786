//! A gateway in front of a cluster that is made up, so that it can have any size and state.
#![allow(dead_code, missing_docs)]

use muster_gateway::{Config, Done, Failure, Pool, Request, Server, Stop, Ticket};
use muster_proto::rpc::{Body, CallView, RpcError, error_reply, read, result_reply};
use muster_proto::socket::Frame;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A broker of a few lines. `hold` is never answered; other methods echo their parameters.
#[derive(Default)]
pub struct FakeBroker {
    pub workers: usize,
    pub slots: usize,
    pub is_away: AtomicBool,
    /// Snapshots that were asked for.
    pub polls: AtomicU64,
    /// Keys of calls that were cancelled.
    pub cancelled: Arc<Mutex<Vec<String>>>,
    pub held: Mutex<Vec<Done>>,
    pub bodies: Mutex<Vec<String>>,
}

impl Pool for FakeBroker {
    fn submit(&self, request: Request, done: Done) -> Result<Ticket, Failure> {
        let text = String::from_utf8(request.body.clone()).unwrap();
        self.bodies.lock().unwrap().push(text);
        match read(&request.body) {
            Body::Call(call) if call.method == "hold" => self.held.lock().unwrap().push(done),
            Body::Call(call) => done(Ok(self.answer(&call).unwrap_or_default().into())),
            Body::Batch(items) => {
                let answers = items.iter().filter_map(|item| match item {
                    Ok(call) => self.answer(call),
                    Err(refused) => Some(error_reply(refused.id, &refused.error)),
                });
                let answers: Vec<Vec<u8>> = answers.collect();
                let body = match answers.is_empty() {
                    true => Vec::new(),
                    false => [&b"["[..], &answers.join(&b','), b"]"].concat(),
                };
                done(Ok(Frame::from(body)));
            }
            body => panic!("the gateway let this through: {body:?}"),
        }
        let cancelled = Arc::clone(&self.cancelled);
        Ok(Box::new(move || {
            cancelled.lock().unwrap().extend(request.key);
        }))
    }

    fn is_connected(&self) -> bool {
        !self.is_away.load(Ordering::Relaxed)
    }
}

const STATES: [&str; 12] = [
    "busy", "ready", "busy", "busy", "ready", "busy", "busy", "starting", "busy", "draining",
    "busy", "backoff",
];

impl FakeBroker {
    fn answer(&self, call: &CallView<'_>) -> Option<Vec<u8>> {
        let id = call.id?;
        let result = match &*call.method {
            "broker.status" => {
                self.polls.fetch_add(1, Ordering::Relaxed);
                self.status()
            }
            "broker.workers" => self.list_workers(),
            "broker.methods" => methods(self.polls.load(Ordering::Relaxed)),
            "broker.calls" => match call.params {
                Some(params) if params.contains("failed") => failed(),
                _ => self.running(),
            },
            "vanish" | "return" => {
                let is_away = call.method == "vanish";
                self.is_away.store(is_away, Ordering::Relaxed);
                json!(true)
            }
            "rpc.discover" => json!({"openrpc": "1.3.2"}),
            "nothing" => {
                let error = RpcError::new(muster_proto::code::Code::MethodNotFound);
                return Some(error_reply(Some(id), &error));
            }
            _ => return Some(result_reply(id, call.params.unwrap_or("[]").as_bytes())),
        };
        Some(result_reply(id, result.to_string().as_bytes()))
    }

    fn status(&self) -> Value {
        let total = self.workers * self.slots;
        let polls = self.polls.load(Ordering::Relaxed);
        json!({
            "name": "crowd", "version": "0.1.0", "host": "rack-7", "pid": 1, "uptime_s": 93_784.0,
            "epoch": "e", "draining": false, "clients": 12, "methods": 24,
            "workers": {"managed": self.workers, "lanes": 0},
            "slots": {"total": total, "ready": total / 4, "busy": total / 2, "starting": 0, "draining": 0, "backoff": 0},
            "calls": {
                "queued": 321, "queued_bytes": 65_536, "running": total / 2, "admitted": 41_000 * polls,
                "succeeded": sum_over(polls, load) as u64, "failed": 3 * polls, "expired": 0, "cancelled": 0,
                "lost": 1, "shed": 0, "not_found": 0, "drained": 0, "retried": 4, "recalled": 0, "fenced": 0,
                "late": 0, "bad_replies": 0, "reattached": 0,
            },
        })
    }

    fn list_workers(&self) -> Value {
        let polls = self.polls.load(Ordering::Relaxed) as usize;
        let worker = |w: usize| {
            let slot = |s: usize| {
                let number = w * self.slots + s;
                // Some change from one second to the next.
                let turn = if number.is_multiple_of(5) { polls } else { 0 };
                let state = STATES[(number * 7 + number / 12 + turn) % STATES.len()];
                json!({
                    "name": format!("node-{w:03}.{}", s + 1), "state": state, "pid": 1000 + number,
                    "in_flight": 1, "calls": 9_000 + polls * 20, "failures": 2,
                    "service_s": 3.0 + 0.05 * polls as f64,
                    "call": (state == "busy").then(|| format!("c{number}")),
                })
            };
            json!({
                "name": format!("node-{w:03}"), "kind": "managed", "host": format!("rack-{}", w / 40), "pid": 400 + w,
                "address": "10.0.0.1", "state": "ready", "slots": self.slots, "in_flight": 2, "calls": 9, "failures": 0,
                "methods": (0..24).map(|m| format!("method_{m}")).collect::<Vec<_>>(),
                "slot_states": (0..self.slots).map(slot).collect::<Vec<_>>(),
            })
        };
        (0..self.workers).map(worker).collect()
    }

    fn running(&self) -> Value {
        let total = self.workers * self.slots;
        (0..total)
            .map(|n| json!({"id": format!("c{n}"), "method": format!("method_{}", n % 24), "age_s": 0.4}))
            .collect()
    }
}

/// Calls answered between two polls: some come and go.
fn load(poll: f64) -> f64 {
    40_000.0 + 9_000.0 * (poll / 6.0).sin() + 2_500.0 * (poll * 1.7).sin()
}

fn sum_over(polls: u64, of: impl Fn(f64) -> f64) -> f64 {
    (0..polls).map(|poll| of(poll as f64)).sum()
}

/// What the broker tells of how long the calls of method `m` took: some are slow by turns.
fn latency(m: usize, polls: u64) -> Value {
    let mean_s = |poll: f64| 120e-6 * (m + 1) as f64 * (1.5 + (poll / 9.0).cos());
    let up_to = |bound_s: f64| {
        sum_over(polls, |poll| {
            1_700.0 * (1.0 - (-bound_s / mean_s(poll)).exp())
        })
    };
    let bounds = (0..21).map(|n| 64e-6 * f64::from(1 << n));
    let buckets: Vec<(f64, u64)> = bounds
        .map(|bound_s| (bound_s, up_to(bound_s) as u64))
        .collect();
    json!({"buckets": buckets, "sum_s": sum_over(polls, |poll| 1_700.0 * mean_s(poll)), "count": 1_700 * polls})
}

fn methods(polls: u64) -> Value {
    (0..24)
        .map(|m| {
            json!({
                "name": format!("method_{m}"), "params": [{"name": "x", "optional": false}, {"name": "precision", "optional": true}],
                "doc": format!("Work of kind {m}.\n\nTakes a value and how well it is to be done."), "once": false,
                "chunks": true, "workers": 500, "slots": 2000, "queued": (m * 37) % 90, "service_us": 120.0 * (m + 1) as f64,
                "latency": latency(m, polls),
            })
        })
        .collect()
}

fn failed() -> Value {
    json!([{
        "id": "c7", "method": "method_3", "slot": "node-003.2", "ended_ms": 1_795_000_000_000_u64,
        "error": {"code": -32000, "message": "ValueError: no", "data": {
            "type": "ValueError", "message": "no", "traceback": "Traceback (most recent call last):\n  …\nValueError: no\n",
        }},
    }])
}

/// A gateway on a port of its own; ends when it is dropped.
pub struct Gateway {
    pub broker: Arc<FakeBroker>,
    pub address: SocketAddr,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Gateway {
    pub fn start(broker: FakeBroker, config: Config) -> Self {
        let broker = Arc::new(broker);
        let config = Config {
            http: "127.0.0.1:0".into(),
            ..config
        };
        let server = Server::bind(config).unwrap();
        let address = server.address();
        let stop = Stop::default();
        let thread = {
            let (broker, stop) = (Arc::clone(&broker), stop.clone());
            std::thread::spawn(move || server.run(broker, stop).unwrap())
        };
        Gateway {
            broker,
            address,
            stop,
            thread: Some(thread),
        }
    }

    /// As the first signal does.
    pub fn ask_to_leave(&self) {
        self.stop.ask();
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.ask();
        self.stop.ask();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
