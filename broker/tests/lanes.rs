//! Stock REP workers at the real broker: who gets a call, and what becomes of it.

mod common;

use common::{Broker, Client, PATIENCE, wait_for};
use muster_proto::socket::{Context, Frame, Kind, Profile, SendOutcome, Socket};
use muster_test_support::Role;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::env;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

const ENDPOINT: &str = "MUSTER_TEST_ENDPOINT";
const NAP_MS: &str = "MUSTER_TEST_NAP_MS";

/// A stock REP worker in a process of its own. It dials `endpoint`, naps so long over each request,
/// and says that it `took one`.
fn start_worker(endpoint: &str, nap: Duration) -> Role {
    let nap_ms = nap.as_millis().to_string();
    Role::start("rep", &[(ENDPOINT, endpoint), (NAP_MS, &nap_ms)])
}

/// Answers each request with its own process number and the request's frames.
#[test]
#[ignore = "a role that other tests start"]
fn rep() {
    let nap = Duration::from_millis(env::var(NAP_MS).unwrap().parse().unwrap());
    let context = Context::new(1).unwrap();
    let rep = Socket::open(&context, Kind::Rep, &Profile::DataLink).unwrap();
    rep.connect(&env::var(ENDPOINT).unwrap()).unwrap();
    let mut frames = Vec::new();
    loop {
        if !rep.recv_timeout(&mut frames, PATIENCE).unwrap() {
            continue;
        }
        if !nap.is_zero() {
            println!("took one");
            std::io::stdout().flush().unwrap();
            std::thread::sleep(nap);
        }
        let mut reply = vec![Frame::from(std::process::id().to_string())];
        reply.append(&mut frames);
        assert_eq!(rep.send_frames(&mut reply).unwrap(), SendOutcome::Sent);
    }
}

fn broker() -> Broker {
    Broker::start(&["--backend", "tcp://127.0.0.1:0"])
}

/// Where stock workers dial over TCP.
fn backend(broker: &Broker) -> String {
    wait_for("the backend's address", || {
        let text = std::fs::read_to_string(broker.folder.path().join("log")).ok()?;
        let (_, rest) = text.split_once("stock workers at ")?;
        Some(rest.lines().next()?.to_owned())
    })
}

fn wait_for_lanes(client: &Client, count: usize) {
    wait_for("the lanes", || {
        (client.result("broker.status", json!([]))["workers"]["lanes"] == count).then_some(())
    });
}

/// A raw request, to be answered by whom it may.
fn ask(client: &Client) -> String {
    client.send("Hello");
    let reply = client.receive_frames();
    assert_eq!(reply[2], *b"Hello".as_slice());
    String::from_utf8(reply[1].to_vec()).unwrap()
}

#[test]
fn bodies_come_back_byte_for_byte() {
    let context = Context::new(1).unwrap();
    let broker = broker();
    let client = broker.client(&context);
    let worker = start_worker(&broker.endpoint("backend"), Duration::ZERO);
    wait_for_lanes(&client, 1);
    assert_eq!(ask(&client), worker.pid().to_string());
    let parts: [&[u8]; 4] = [b"", b"\0\xff", b"", &[7; 100_000]];
    let envelope = std::iter::once(Frame::empty());
    client.send_frames(envelope.chain(parts.map(Frame::from)).collect());
    let reply = client.receive_frames();
    assert_eq!(reply.len(), parts.len() + 2);
    assert!(reply[2..].iter().map(|frame| &frame[..]).eq(parts));
}

#[test]
fn nobody_waits_behind_a_slow_worker_while_another_is_idle() {
    const NAP: Duration = Duration::from_secs(5);
    let context = Context::new(1).unwrap();
    let broker = broker();
    let endpoint = broker.endpoint("backend");
    let slow = start_worker(&endpoint, NAP);
    let _quick = [(); 3].map(|()| start_worker(&endpoint, Duration::ZERO));
    wait_for_lanes(&broker.client(&context), 4);
    let left = Arc::new(AtomicUsize::new(400));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let client = broker.client(&context);
            let (slow, left) = (slow.pid().to_string(), Arc::clone(&left));
            std::thread::spawn(move || {
                let take = |left: usize| left.checked_sub(1);
                while left.fetch_update(Relaxed, Relaxed, take).is_ok() {
                    let start = Instant::now();
                    if ask(&client) != slow {
                        let waited = start.elapsed();
                        assert!(waited < NAP / 2, "{waited:?} behind the slow one");
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
}

#[test]
fn a_killed_workers_request_is_answered_by_another_once() {
    let context = Context::new(1).unwrap();
    let broker = broker();
    let client = broker.client(&context);
    let mut holder = start_worker(&broker.endpoint("backend"), Duration::from_secs(60));
    wait_for_lanes(&client, 1);
    let asker = broker.client(&context);
    asker.send("Hello");
    holder.line("took one");
    let other = start_worker(&broker.endpoint("backend"), Duration::ZERO);
    wait_for_lanes(&client, 2);
    holder.signal(Signal::KILL);
    assert_eq!(
        asker.receive_frames()[1],
        *other.pid().to_string().as_bytes()
    );
    wait_for_lanes(&client, 1);
    // Nothing else is there for it: the next answer is the next request's.
    assert_eq!(ask(&asker), other.pid().to_string());
}

#[test]
fn a_frozen_workers_request_moves_on_and_it_serves_again_when_it_thaws() {
    let context = Context::new(1).unwrap();
    let broker = broker();
    let client = broker.client(&context);
    let endpoint = broker.endpoint("backend");
    let mut frozen = start_worker(&endpoint, Duration::from_millis(200));
    wait_for_lanes(&client, 1);
    let asker = broker.client(&context);
    asker.send("Hello");
    frozen.line("took one");
    frozen.signal(Signal::STOP);
    let start = Instant::now();
    let other = start_worker(&endpoint, Duration::from_millis(1));
    assert_eq!(
        asker.receive_frames()[1],
        *other.pid().to_string().as_bytes()
    );
    assert!(
        start.elapsed() < Duration::from_secs(6),
        "{:?}",
        start.elapsed()
    );
    frozen.signal(Signal::CONT);
    wait_for_lanes(&client, 2);
    let mut served = BTreeSet::new();
    let clients = [(); 4].map(|()| broker.client(&context));
    wait_for("an answer of each", || {
        for client in &clients {
            client.send("Hello");
        }
        for client in &clients {
            served.insert(String::from_utf8(client.receive_frames()[1].to_vec()).unwrap());
        }
        (served.len() == 2).then_some(())
    });
}

#[test]
fn no_edge_is_missed_one_call_at_a_time_or_many() {
    let context = Context::new(1).unwrap();
    let broker = broker();
    let endpoint = broker.endpoint("backend");
    let _workers = [(); 3].map(|()| start_worker(&endpoint, Duration::ZERO));
    let client = broker.client(&context);
    wait_for_lanes(&client, 3);
    // A missed edge would wait for some other event, or for ever.
    let mut longest = Duration::ZERO;
    for round in 0..3000 {
        let start = Instant::now();
        // Bursts of all sizes, so that sends, receives and edges meet in every order.
        let burst = 1 + round * round % 37;
        for _ in 0..burst {
            client.send("Hello");
        }
        for _ in 0..burst {
            client.receive_frames();
        }
        longest = longest.max(start.elapsed());
    }
    assert!(longest < Duration::from_secs(3), "{longest:?}");
}

#[test]
fn lanes_are_shown_with_their_address_and_go_with_their_peer() {
    let context = Context::new(1).unwrap();
    let broker = broker();
    let client = broker.client(&context);
    let endpoint = backend(&broker);
    let worker = start_worker(&endpoint, Duration::ZERO);
    wait_for_lanes(&client, 1);
    for _ in 0..3 {
        ask(&client);
    }
    let workers = client.result("broker.workers", json!([]));
    let lane = &workers[0];
    assert_eq!(
        (&lane["kind"], &lane["state"]),
        (&json!("lane"), &json!("ready")),
        "{lane}"
    );
    assert_eq!(
        (&lane["slots"], &lane["calls"], &lane["in_flight"]),
        (&json!(1), &json!(3), &json!(0))
    );
    drop(worker);
    wait_for_lanes(&client, 0);
    assert_eq!(
        client.result("broker.workers", json!([])),
        Value::Array(Vec::new())
    );
}

#[test]
fn a_server_that_listens_is_dialled() {
    let context = Context::new(1).unwrap();
    let server = Socket::open(&context, Kind::Rep, &Profile::DataLink).unwrap();
    server.bind("tcp://127.0.0.1:*").unwrap();
    let broker = Broker::start(&["--worker", &server.last_endpoint().unwrap()]);
    let client = broker.client(&context);
    wait_for_lanes(&client, 1);
    client.send("Hello");
    let mut frames = Vec::new();
    assert!(server.recv_timeout(&mut frames, PATIENCE).unwrap());
    assert_eq!(server.send_frames(&mut frames).unwrap(), SendOutcome::Sent);
    assert_eq!(client.receive(), b"Hello");
}

/// A lane that is a DEALER, and so may send what it likes.
fn rogue(context: &Context, endpoint: &str) -> Socket {
    let rogue = Socket::open(context, Kind::Dealer, &Profile::DataLink).unwrap();
    rogue.connect(endpoint).unwrap();
    rogue
}

#[test]
fn three_forged_or_unreadable_answers_close_a_lane_and_the_call_moves_on() {
    let context = Context::new(1).unwrap();
    let broker = broker();
    let client = broker.client(&context);
    let endpoint = broker.endpoint("backend");
    let rogue = rogue(&context, &endpoint);
    wait_for_lanes(&client, 1);
    let asker = broker.client(&context);
    asker.send("Hello");
    let mut request = Vec::new();
    assert!(rogue.recv_timeout(&mut request, PATIENCE).unwrap());
    let worker = start_worker(&endpoint, Duration::ZERO);
    wait_for_lanes(&client, 2);
    let mut forged = request[0].to_vec();
    // The last bytes are the attempt.
    *forged.last_mut().unwrap() += 1;
    let send = |frames: Vec<Frame>| {
        assert_eq!(rogue.send(frames).unwrap(), SendOutcome::Sent);
    };
    send(vec![Frame::from("no fence")]);
    send(vec![
        Frame::from(forged),
        Frame::empty(),
        Frame::from("forged"),
    ]);
    send(vec![Frame::empty()]);
    assert_eq!(
        asker.receive_frames()[1],
        *worker.pid().to_string().as_bytes()
    );
    let log = broker.folder.path().join("log");
    wait_for("the reason in the log", || {
        let text = std::fs::read_to_string(&log).ok()?;
        text.contains("it sent what is no answer").then_some(())
    });
}
