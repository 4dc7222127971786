//! Clients that send more than there is room for, or do not read: the caps, their names, and the
//! memory that comes back.

mod common;

use common::honest::HonestWorker;
use common::{Broker, CALL, Client, FakeWorker, PATIENCE, call_counts, wait_for};
use muster_proto::socket::{Context, Frame, Kind, Profile, SendOutcome, Socket};
use muster_test_support::MemoryGroup;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What the broker may keep of a flood once it is over.
const KEPT_KIB_MAX: u64 = 32 << 10;

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
        (call_counts(&asker)["admitted"] == flood).then_some(())
    });
    let full_kib = broker.rss_kib();
    let each = (full_kib - idle_kib) * 1_024 / flood;
    println!("{flood} calls of {each} bytes each");
    assert!(each <= 400, "{each} bytes for a waiting call");
    drop(client);
    wait_for("the calls to vanish", || {
        (call_counts(&asker)["queued"] == 0).then_some(())
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
    assert_eq!(call_counts(&asker)["queued"], CAP);
    assert_eq!(call_counts(&asker)["shed"], flood - CAP - 1);
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
        (call_counts(&asker)["succeeded"] == BURST).then_some(())
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
    assert_eq!(call_counts(&asker)["replies_dropped"], 0);
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
        if !is_sent || call_counts(&asker)["queued"].as_u64() > Some(100) {
            std::thread::sleep(Duration::from_millis(5));
        }
        highest_kib = highest_kib.max(broker.rss_kib());
        if broker.log().contains("does not read its replies") {
            break call_counts(&asker)["replies_dropped"].as_u64().unwrap();
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

#[test]
fn in_little_memory_calls_are_refused_before_the_kernel_ends_the_broker() {
    const MIB: u64 = 1 << 20;
    let Some(group) = MemoryGroup::new(256 * MIB) else {
        return;
    };
    let context = Context::new(1).unwrap();
    let broker = Broker::start_by(group.starter(), &[]);
    let _holder = HonestWorker::join(&context, &broker, "holder", &["m"], |_| None);
    let _server = HonestWorker::echo(&context, &broker, "server", &["n"]);
    let asker = broker.client(&context);
    // Twice the group's memory, first in large calls, then in as many small ones as it takes.
    for (limit, bytes, calls_max) in [
        ("queued_bytes", 64 << 10, 512 * MIB / (64 << 10)),
        ("queued_calls", 1, 1_000_000),
    ] {
        let client = broker.client(&context);
        let pad = "x".repeat(bytes);
        let call = format!(r#"{{"jsonrpc":"2.0","method":"m","params":["{pad}"],"id":1}}"#);
        let mut refused = 0;
        for sent in 1..=calls_max {
            client.send(&call);
            if sent % 100 == 0 {
                assert_eq!(asker.result("n", json!([sent])), json!([sent]));
                while client.socket.events().unwrap().readable {
                    let reply: Value = serde_json::from_slice(&client.receive()).unwrap();
                    assert_eq!(reply["error"]["code"], -32003, "{reply}");
                    assert_eq!(reply["error"]["data"]["limit"], limit, "{reply}");
                    refused += 1;
                }
            }
            if refused > 1_000 {
                break;
            }
        }
        assert!(refused > 1_000, "{limit}: {refused} refused");
        println!("{limit}: at most {:?} bytes", group.peak_bytes());
    }
    assert_eq!(group.kills(), 0);
    assert!(group.peak_bytes().is_none_or(|bytes| bytes < 256 * MIB));
    assert_eq!(asker.result("n", json!(["alive"])), json!(["alive"]));
}

#[test]
fn a_subscriber_that_does_not_read_sees_the_gap_and_costs_the_broker_nothing() {
    // More than its socket, the broker's and the system's buffers hold between them.
    const CALLS: usize = 20_000;
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let _server = HonestWorker::echo(&context, &broker, "server", &["n"]);
    let asker = broker.client(&context);
    assert_eq!(asker.result("n", json!([0])), json!([0]));
    let slow = Socket::open(&context, Kind::Sub, &Profile::EventsLink).unwrap();
    slow.set_queue_limits(16, 0).unwrap();
    slow.connect(&broker.endpoint("events")).unwrap();
    slow.subscribe(b"").unwrap();
    let event = |wait| {
        let mut frames = Vec::new();
        let is_there = slow.recv_timeout(&mut frames, wait).unwrap();
        is_there.then(|| serde_json::from_slice::<Value>(&frames[1]).unwrap())
    };
    // Until the broker knows that somebody watches it tells nothing.
    let first = wait_for("the first event", || {
        asker.result("n", json!([0]));
        event(Duration::ZERO)
    });
    let idle_kib = broker.rss_kib();
    let mut slowest = Duration::ZERO;
    for n in 0..CALLS {
        let start = Instant::now();
        assert_eq!(asker.result("n", json!([n])), json!([n]));
        slowest = slowest.max(start.elapsed());
    }
    println!("the slowest call: {slowest:?}");
    assert!(slowest < Duration::from_secs(5), "the broker waited for it");
    let kib = broker.rss_kib();
    assert!(
        kib < idle_kib + KEPT_KIB_MAX,
        "{idle_kib} before, now {kib}"
    );
    // Now it reads. What it missed shows in the numbers, and only there: they never go back.
    let mut last = first["seq"].as_u64().unwrap();
    let (mut got, mut missed) = (0, 0);
    let mut read = |event: Value| {
        let seq = event["seq"].as_u64().unwrap();
        assert!(seq > last, "{seq} after {last}");
        (got, missed) = (got + 1, missed + seq - last - 1);
        last = seq;
    };
    while let Some(event) = event(Duration::from_millis(500)) {
        read(event);
    }
    asker.result("n", json!([0]));
    read(event(PATIENCE).expect("it is told of what happens now"));
    println!("{got} events came, {missed} did not");
    // Three for each call: admitted, dispatched, answered.
    assert!(missed > 0 && got + missed >= 3 * CALLS as u64);
}
