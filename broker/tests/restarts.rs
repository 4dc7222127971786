//! The broker is killed, again and again, with workers and clients that live on.

mod common;

use common::honest::HonestWorker;
use common::{Broker, wait_for};
use muster_proto::runtime::BROKER_FILES;
use muster_proto::socket::Context;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const WORKERS: u64 = 4;

#[test]
fn a_killed_broker_gets_everybody_back_and_resent_calls_are_answered_once() {
    let context = Context::new(1).unwrap();
    let mut broker = Broker::start(&[]);
    let workers: Vec<HonestWorker> = (0..WORKERS)
        .map(|n| HonestWorker::echo(&context, &broker, &format!("w{n}"), &["m"]))
        .collect();
    // One connection outlives all brokers, as libraries keep theirs.
    let client = broker.client(&context);
    let rounds = std::env::var("KILLS").map_or(10, |n| n.parse().unwrap());
    let mut slowest = Duration::ZERO;
    for round in 1..=rounds {
        let call = json!({"jsonrpc": "2.0", "method": "m", "params": [round], "id": round,
            "meta": {"key": format!("k{round}")}})
        .to_string();
        // On its way when the broker dies, or waiting in it, or answered: then it is asked again.
        client.send(&call);
        broker.kill_and_restart();
        let start = Instant::now();
        client.send(&call);
        let asker = broker.client(&context);
        wait_for("all workers to be back", || {
            let status = asker.result("broker.status", json!([]));
            (status["slots"]["ready"] == WORKERS).then_some(())
        });
        slowest = slowest.max(start.elapsed());
        // The first copy may have been answered by either broker, or lost; the second is not.
        let reply = wait_for("an answer", || {
            let reply: Value = serde_json::from_slice(&client.receive()).unwrap();
            (reply["id"] == round).then_some(reply)
        });
        assert_eq!(reply["result"], json!([round]));
        assert_eq!(asker.result("broker.status", json!([]))["calls"]["lost"], 0);
    }
    println!("all back after {slowest:?} at most");
    for worker in &workers {
        assert!(worker.returns.load(Ordering::Relaxed) >= rounds);
    }
    let mut left: Vec<String> = std::fs::read_dir(broker.path("."))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !BROKER_FILES.contains(&name.as_str()))
        .collect();
    left.sort();
    assert_eq!(left, ["lock", "methods.json"]);
}
