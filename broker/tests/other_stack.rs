//! Peers of another ZMTP implementation, the pure-Rust crate `zeromq`: a REP that dials in and a REQ
//! that asks, over TCP. It speaks ZMTP 3.0.

mod common;

use common::{Broker, PATIENCE, wait_for};
use muster_proto::socket::Context;
use muster_test_support::Role;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::env;
use std::io::Write;
use std::time::Duration;
use zeromq::{RepSocket, ReqSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

const ENDPOINT: &str = "MUSTER_TEST_ENDPOINT";
const HOLD_MS: &str = "MUSTER_TEST_HOLD_MS";

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

/// Answers a JSON-RPC call with its own process number, anything else with that and the request.
/// A body or method `hold` is held for the given time.
#[test]
#[ignore = "a role that other tests start"]
fn rep() {
    runtime().block_on(async {
        let mut rep = RepSocket::new();
        rep.connect(&env::var(ENDPOINT).unwrap()).await.unwrap();
        let hold = Duration::from_millis(env::var(HOLD_MS).unwrap().parse().unwrap());
        loop {
            let request = rep.recv().await.unwrap().into_vec();
            let call: Option<Value> = serde_json::from_slice(&request[0]).ok();
            let is_held = match &call {
                Some(call) => call["method"] == "hold",
                None => request[0][..] == *b"hold",
            };
            if is_held {
                println!("took it");
                std::io::stdout().flush().unwrap();
                std::thread::sleep(hold);
            }
            let reply = match call {
                Some(call) => {
                    let reply =
                        json!({"jsonrpc": "2.0", "result": std::process::id(), "id": call["id"]});
                    ZmqMessage::from(reply.to_string())
                }
                None => {
                    let mut reply = ZmqMessage::from(std::process::id().to_string());
                    for frame in request {
                        reply.push_back(frame);
                    }
                    reply
                }
            };
            rep.send(reply).await.unwrap();
        }
    });
}

/// A REP of that stack in a process of its own, which says that it `took it` when it is to hold
/// a request.
fn start_worker(endpoint: &str, hold: Duration) -> Role {
    let hold_ms = hold.as_millis().to_string();
    Role::start("rep", &[(ENDPOINT, endpoint), (HOLD_MS, &hold_ms)])
}

struct Pool {
    broker: Broker,
    context: Context,
}

impl Pool {
    fn start() -> Self {
        let broker = Broker::start(&["--listen", "tcp://127.0.0.1:0"]);
        let context = Context::new(1).unwrap();
        Pool { broker, context }
    }

    fn status(&self) -> Value {
        let client = self.broker.client(&self.context);
        client.result("broker.status", json!([]))
    }

    fn address(&self, door: &str) -> String {
        let status = self.status();
        status["tcp_endpoints"][door].as_str().unwrap().to_owned()
    }

    fn wait_for_lanes(&self, count: usize) {
        wait_for("the lanes", || {
            (self.status()["workers"]["lanes"] == count).then_some(())
        });
    }

    /// Asks by a REQ of that stack, whose answers are this many.
    fn ask(&self, requests: Vec<ZmqMessage>) -> Vec<Vec<Vec<u8>>> {
        let endpoint = self.address("frontend");
        runtime().block_on(async {
            let mut req = ReqSocket::new();
            req.connect(&endpoint).await.unwrap();
            let mut replies = Vec::new();
            for request in requests {
                req.send(request).await.unwrap();
                let reply = tokio::time::timeout(PATIENCE, req.recv()).await;
                let reply = reply.expect("a reply in time").unwrap();
                replies.push(
                    reply
                        .into_vec()
                        .iter()
                        .map(|frame| frame.to_vec())
                        .collect(),
                );
            }
            replies
        })
    }
}

fn call(method: &str) -> ZmqMessage {
    let call = json!({"jsonrpc": "2.0", "method": method, "params": [], "id": "x"});
    ZmqMessage::from(call.to_string())
}

fn result_of(reply: &[Vec<u8>]) -> Value {
    assert_eq!(reply.len(), 1);
    let reply: Value = serde_json::from_slice(&reply[0]).unwrap();
    assert_eq!(reply["id"], "x", "{reply}");
    reply["result"].clone()
}

#[test]
fn its_peers_meet_with_raw_bodies_and_with_calls() {
    let pool = Pool::start();
    let worker = start_worker(&pool.address("backend"), Duration::ZERO);
    pool.wait_for_lanes(1);
    let pid = worker.pid().to_string().into_bytes();
    let mut parts = ZmqMessage::from("Hello");
    parts.push_back(Vec::new().into());
    parts.push_back(vec![7; 100_000].into());
    let replies = pool.ask(vec![ZmqMessage::from("Hello"), parts, call("pid")]);
    assert_eq!(replies[0], [pid.clone(), b"Hello".to_vec()]);
    let expected = [pid, b"Hello".to_vec(), Vec::new(), vec![7; 100_000]];
    assert_eq!(replies[1], expected);
    assert_eq!(result_of(&replies[2]), worker.pid());
}

#[test]
fn a_killed_one_is_gone_and_its_call_is_anothers() {
    for request in [call("hold"), ZmqMessage::from("hold")] {
        let pool = Pool::start();
        let backend = pool.address("backend");
        // Until it is killed.
        let mut holder = start_worker(&backend, Duration::from_hours(1));
        pool.wait_for_lanes(1);
        std::thread::scope(|scope| {
            let asker = scope.spawn(|| pool.ask(vec![request]));
            holder.line("took it");
            let other = start_worker(&backend, Duration::ZERO);
            pool.wait_for_lanes(2);
            holder.signal(Signal::KILL);
            let reply = asker.join().unwrap().remove(0);
            match reply.len() {
                1 => assert_eq!(result_of(&reply), other.pid()),
                _ => assert_eq!(reply[0], other.pid().to_string().as_bytes()),
            }
            pool.wait_for_lanes(1);
        });
        assert_eq!(pool.status()["calls"]["retried"], 1);
    }
}

/// ZMTP 3.0 has no PING, and the kernel of a frozen process acknowledges what it gets: such a
/// worker is slow, and not gone.
#[test]
fn a_frozen_one_answers_when_it_thaws() {
    let pool = Pool::start();
    // Long enough to be frozen in.
    let hold = Duration::from_millis(500);
    let mut worker = start_worker(&pool.address("backend"), hold);
    pool.wait_for_lanes(1);
    std::thread::scope(|scope| {
        let asker = scope.spawn(|| pool.ask(vec![call("hold"), call("pid")]));
        worker.line("took it");
        worker.signal(Signal::STOP);
        // Longer than a silent peer of ZMTP 3.1 is waited for: the time itself is what is tested.
        std::thread::sleep(Duration::from_secs(5));
        assert_eq!(pool.status()["workers"]["lanes"], 1);
        worker.signal(Signal::CONT);
        for reply in asker.join().unwrap() {
            assert_eq!(result_of(&reply), worker.pid());
        }
    });
    let calls = &pool.status()["calls"];
    assert_eq!(
        (&calls["retried"], &calls["fenced"]),
        (&json!(0), &json!(0))
    );
}
