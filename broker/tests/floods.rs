//! Clients that send more than there is room for, or do not read: the caps, their names, and the
//! memory that comes back.

mod common;

use common::honest::HonestWorker;
use common::{Broker, Client, FakeWorker, wait_for};
use muster_proto::socket::{Context, Frame};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const CALL: &str = r#"{"jsonrpc":"2.0","method":"m","id":1}"#;

/// What the broker may keep of a flood once it is over.
const KEPT_KIB_MAX: u64 = 32 << 10;

fn calls(asker: &Client) -> Value {
    asker.result("broker.status", json!([]))["calls"].clone()
}

#[test]
fn the_memory_of_a_vanished_flood_is_given_back() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let _holder = FakeWorker::join(&context, &broker, "w", 1, &["m"]);
    let asker = broker.client(&context);
    let idle_kib = broker.rss_kib();
    let flood = std::env::var("FLOOD_CALLS").map_or(300_000, |n| n.parse().unwrap());
    let start = Instant::now();
    let client = broker.client(&context);
    for _ in 0..flood {
        client.send(CALL);
    }
    wait_for("the calls to be queued", || {
        (calls(&asker)["admitted"] == flood).then_some(())
    });
    let full_kib = broker.rss_kib();
    println!(
        "{flood} calls in {:?}: {} bytes each",
        start.elapsed(),
        (full_kib - idle_kib) * 1_024 / flood
    );
    drop(client);
    wait_for("the calls to vanish", || {
        (calls(&asker)["queued"] == 0).then_some(())
    });
    let gone = Instant::now();
    wait_for("the memory to come back", || {
        let kib = broker.rss_kib();
        (kib < idle_kib + KEPT_KIB_MAX).then(|| println!("{kib} KiB after {:?}", gone.elapsed()))
    });
}
