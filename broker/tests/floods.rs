//! Clients that send more than there is room for, or do not read: the caps, their names, and the
//! memory that comes back.

mod common;

use common::honest::HonestWorker;
use common::{Broker, Client, FakeWorker, PATIENCE, wait_for};
use muster_proto::socket::{Context, Frame, Kind, Profile, SendOutcome, Socket};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const CALL: &str = r#"{"jsonrpc":"2.0","method":"m","id":1}"#;

/// What the broker may keep of a flood once it is over.
const KEPT_KIB_MAX: u64 = 32 << 10;

fn calls(asker: &Client) -> Value {
    asker.result("broker.status", json!([]))["calls"].clone()
}

/// How many calls a flood has; by hand it may be a million.
fn flood_calls(usual: u64) -> u64 {
    std::env::var("FLOOD_CALLS").map_or(usual, |n| n.parse().unwrap())
}

fn wait_for_memory(broker: &Broker, idle_kib: u64) {
    let gone = Instant::now();
    wait_for("the memory to come back", || {
        let kib = broker.rss_kib();
        (kib < idle_kib + KEPT_KIB_MAX).then(|| println!("{kib} KiB after {:?}", gone.elapsed()))
    });
}

#[test]
fn the_memory_of_a_vanished_flood_is_given_back() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let _holder = FakeWorker::join(&context, &broker, "w", 1, &["m"]);
    let asker = broker.client(&context);
    let idle_kib = broker.rss_kib();
    let flood = flood_calls(300_000);
    let client = broker.client(&context);
    for _ in 0..flood {
        client.send(CALL);
    }
    wait_for("the calls to be queued", || {
        (calls(&asker)["admitted"] == flood).then_some(())
    });
    let full_kib = broker.rss_kib();
    let each = (full_kib - idle_kib) * 1_024 / flood;
    println!("{flood} calls of {each} bytes each");
    assert!(each <= 400, "{each} bytes for a waiting call");
    drop(client);
    wait_for("the calls to vanish", || {
        (calls(&asker)["queued"] == 0).then_some(())
    });
    wait_for_memory(&broker, idle_kib);
}

#[test]
fn a_flood_beyond_the_cap_is_refused_by_name_and_others_are_served() {
    const CAP: u64 = 10_000;
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&["--queued-calls-max", "10000"]);
    let _holder = HonestWorker::join(&context, &broker, "holder", &["m"], |_| None);
    let _server = HonestWorker::echo(&context, &broker, "server", &["n"]);
    let asker = broker.client(&context);
    let idle_kib = broker.rss_kib();
    let flood = flood_calls(200_000);
    let client = broker.client(&context);
    let mut slowest = Duration::ZERO;
    let mut refused = 0;
    for sent in 1..=flood {
        client.send(CALL);
        if sent % 1_000 == 0 {
            let start = Instant::now();
            assert_eq!(asker.result("n", json!([sent])), json!([sent]));
            slowest = slowest.max(start.elapsed());
            // One that is held by the slot, and the cap.
            while sent - refused > 1 + CAP {
                let reply: Value = serde_json::from_slice(&client.receive()).unwrap();
                let error = &reply["error"];
                assert_eq!(error["code"], -32003, "{reply}");
                assert_eq!(error["data"]["limit"], "queued_calls", "{reply}");
                assert_eq!(error["data"]["max"], CAP, "{reply}");
                refused += 1;
            }
        }
    }
    println!("the slowest call of another client: {slowest:?}");
    assert_eq!(calls(&asker)["queued"], CAP);
    assert_eq!(calls(&asker)["shed"], flood - CAP - 1);
    let kib = broker.rss_kib();
    assert!(
        kib < idle_kib + KEPT_KIB_MAX,
        "{idle_kib} before, now {kib}"
    );
    drop(client);
    wait_for_memory(&broker, idle_kib);
}

/// A client whose connection takes little before it blocks.
fn narrow_client(context: &Context, broker: &Broker) -> Client {
    let socket = Socket::open(context, Kind::Dealer, &Profile::ClientLink).unwrap();
    socket.set_queue_limits(16, 0).unwrap();
    socket.connect(&broker.endpoint("frontend")).unwrap();
    Client { socket }
}

#[test]
fn a_client_that_reads_late_loses_nothing_of_a_burst() {
    const BURST: usize = 20_000;
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let _server = HonestWorker::echo(&context, &broker, "server", &["m"]);
    let asker = broker.client(&context);
    let client = narrow_client(&context, &broker);
    for id in 0..BURST {
        client.send(format!(
            r#"{{"jsonrpc":"2.0","method":"m","params":[{id}],"id":{id}}}"#
        ));
    }
    wait_for("all to be answered", || {
        (calls(&asker)["succeeded"] == BURST).then_some(())
    });
    let mut is_answered = vec![false; BURST];
    for _ in 0..BURST {
        let reply: Value = serde_json::from_slice(&client.receive()).unwrap();
        let id = reply["id"].as_u64().unwrap() as usize;
        assert_eq!(reply["result"], json!([id]));
        assert!(
            !std::mem::replace(&mut is_answered[id], true),
            "{id}: twice"
        );
    }
    assert_eq!(calls(&asker)["replies_dropped"], 0);
}

#[test]
fn a_client_that_never_reads_costs_a_bounded_amount_and_is_given_up() {
    // Replies of 64 KiB: the outbox of 256 MiB holds some 4,000 of them.
    const BYTES: usize = 64 << 10;
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let _server = HonestWorker::join(&context, &broker, "server", &["m"], |_| {
        Some(format!("\"{}\"", "x".repeat(BYTES)))
    });
    let asker = broker.client(&context);
    let idle_kib = broker.rss_kib();
    let client = narrow_client(&context, &broker);
    let start = Instant::now();
    let mut highest_kib = 0;
    // It goes on until the broker has had enough: ten seconds without a reply being taken.
    let dropped = loop {
        let mut frames = vec![Frame::empty(), Frame::from(CALL)];
        let sent = client
            .socket
            .send_timeout(&mut frames, Duration::from_millis(1));
        let is_sent = sent.unwrap() == SendOutcome::Sent;
        if !is_sent || calls(&asker)["queued"].as_u64() > Some(100) {
            std::thread::sleep(Duration::from_millis(5));
        }
        highest_kib = highest_kib.max(broker.rss_kib());
        if broker.log().contains("does not read its replies") {
            break calls(&asker)["replies_dropped"].as_u64().unwrap();
        }
        assert!(start.elapsed() < 4 * PATIENCE, "it is still kept");
    };
    println!("{dropped} replies dropped, at most {highest_kib} KiB");
    assert!(dropped > 0);
    let outbox_kib = (muster_proto::limits::OUTBOX_BYTES_MAX >> 10) as u64;
    assert!(
        highest_kib < idle_kib + outbox_kib * 5 / 4,
        "{highest_kib} KiB"
    );
    wait_for_memory(&broker, idle_kib);
}
