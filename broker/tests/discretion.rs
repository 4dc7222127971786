//! What the broker must not say, and what others must not make it say.

mod common;

use common::keys::{KEYED, Keyed, role_file};
use common::{Broker, Client, FakeWorker, wait_for};
use muster_proto::socket::{Context, Frame, Kind, Profile, Socket};
use serde_json::{Value, json};
use std::fs;

/// A broker that logs everything it ever logs.
fn talkative(args: &[&str]) -> Broker {
    Broker::start_by(
        ["env", "MUSTER_LOG=trace"].map(str::to_owned).to_vec(),
        args,
    )
}

#[test]
fn routing_ids_are_neither_shown_nor_logged() {
    let broker = talkative(&[]);
    let context = Context::new(1).unwrap();
    let watcher = Socket::open(&context, Kind::Sub, &Profile::EventsLink).unwrap();
    watcher.subscribe(b"").unwrap();
    watcher.connect(&broker.endpoint("events")).unwrap();
    let worker = FakeWorker::join(&context, &broker, "w", 1, &["echo"]);
    // Whoever sees it could be answered in its place once it has gone.
    const ID: &str = "an-id-that-nobody-else-may-see";
    let client = context_socket(&context, ID);
    client.connect(&broker.endpoint("frontend")).unwrap();
    let client = Client { socket: client };
    client.send(
        r#"{"jsonrpc": "2.0", "method": "echo", "params": [], "id": 1, "meta": {"key": "k"}}"#,
    );
    let given = worker.call(0);
    let other = broker.client(&context);
    let mut said = String::new();
    for (method, params) in [
        ("broker.status", json!([])),
        ("broker.calls", json!({})),
        ("broker.workers", json!({"slots": true})),
        ("broker.explain", json!({"id": "c1"})),
        ("broker.trace", json!({"id": "c1"})),
        ("broker.stats", json!([])),
        ("broker.methods", json!([])),
    ] {
        said += &other.call(method, params).to_string();
    }
    assert!(said.contains("echo"), "{said}");
    worker.reply(0, given.dispatch, "1");
    client.receive();
    drop(client);
    wait_for("the client to be gone", || {
        let status = other.result("broker.status", json!([]));
        (status["clients"] == 1).then_some(())
    });
    let mut frames = Vec::new();
    while watcher.recv_into(&mut frames).unwrap() {
        said.extend(frames.iter().map(|frame| String::from_utf8_lossy(frame)));
    }
    said += &broker.log();
    let hex: String = ID.bytes().map(|byte| format!("{byte:02x}")).collect();
    let numbers = format!("{:?}", ID.as_bytes());
    for form in [
        ID,
        &hex,
        &hex.to_uppercase(),
        numbers.trim_matches(['[', ']']),
    ] {
        assert!(!said.contains(form), "{form} in {said}");
    }
}

/// A DEALER with a routing id of its own choice.
fn context_socket(context: &Context, id: &str) -> Socket {
    let socket = Socket::open(context, Kind::Dealer, &Profile::ClientLink).unwrap();
    socket.set_routing_id(id.as_bytes()).unwrap();
    socket
}

#[test]
fn secrets_and_bodies_are_not_logged() {
    let broker = talkative(KEYED);
    let context = Context::new(1).unwrap();
    let local = broker.client(&context);
    let made = local.result("broker.new_key", json!({"role": "client", "name": "anna"}));
    let anna = serde_json::from_value(made["connection"].clone()).unwrap();
    let worker = FakeWorker::join(&context, &broker, "w", 1, &["echo"]);
    let client = Keyed::connect(&context, &anna);
    client.send("echo", json!(["a parameter that is nobody's business"]));
    let given = worker.call(0);
    worker.reply_error(
        0,
        given.dispatch,
        r#"{"code": -32000, "message": "a reason of its own"}"#,
    );
    client.receive(common::PATIENCE).unwrap();
    local.result("broker.revoke_key", json!({"name": "anna"}));
    assert_eq!(
        client.code("echo", json!(["a parameter after the end"])),
        -32006
    );
    let server = broker.folder.path().join("s/muster/default/server.json");
    let server: Value = serde_json::from_slice(&fs::read(server).unwrap()).unwrap();
    let roles = ["client", "worker", "admin"].map(|role| role_file(&broker, role));
    let mut secrets: Vec<String> = roles
        .into_iter()
        .chain([anna])
        .map(|file| file.curve.unwrap().secret_key)
        .collect();
    secrets.push(server["secret_key"].as_str().unwrap().to_owned());
    secrets.extend(
        [
            "token-of-w",
            "nobody's business",
            "after the end",
            "a reason of its own",
        ]
        .map(str::to_owned),
    );
    let log = broker.log();
    assert!(log.contains("DEBUG"), "it is talkative: {log}");
    for secret in secrets {
        assert!(!log.contains(&secret), "{secret} in {log}");
    }
}

#[test]
fn names_forge_no_line_of_the_log() {
    let broker = talkative(&[]);
    let context = Context::new(1).unwrap();
    let forged = "w\n[2026-01-01T00:00:00Z ERROR muster_broker] forged\r\x1b[2J\u{202e}";
    let worker = FakeWorker::join(&context, &broker, forged, 1, &["m\nforged", "n"]);
    let client = broker.client(&context);
    for method in ["m\nforged", "unknown\nforged", "broker.\nforged"] {
        client.send(json!({"jsonrpc": "2.0", "method": method, "id": "\nforged", "meta": {"key": format!("{method}\nforged")}}).to_string());
    }
    worker.reply_error(
        0,
        worker.call(0).dispatch,
        r#"{"code": 1, "message": "\nforged"}"#,
    );
    (0..3).for_each(|_| drop(client.receive()));
    client.call("broker.drain", json!({"worker": "x\nforged"}));
    drop(worker);
    wait_for("its end in the log", || {
        broker.log().contains("gone").then_some(())
    });
    let log = broker.log();
    assert!(
        log.contains(r"w\n[2026-01-01T00:00:00Z ERROR muster_broker] forged\r\u{1b}[2J"),
        "{log}"
    );
    for line in log.lines() {
        let has_time = line.starts_with('[') && line.contains("Z ");
        assert!(
            has_time && !line.contains("ERROR muster_broker] forged") || line.contains(r"w\n["),
            "{line:?}"
        );
        assert!(
            !line.starts_with("forged") && !line.contains(['\x1b', '\r', '\u{202e}']),
            "{line:?}"
        );
    }
}

#[test]
fn rubbish_from_workers_is_logged_a_few_times_a_second() {
    let broker = Broker::start(&[]);
    let context = Context::new(1).unwrap();
    let peer = Socket::open(&context, Kind::Dealer, &Profile::ControlLink).unwrap();
    peer.connect(&broker.endpoint("workers")).unwrap();
    let start = std::time::Instant::now();
    for _ in 0..5_000 {
        common::send(&peer, vec![Frame::from("rubbish")]);
    }
    // Each of these is refused in words.
    for _ in 0..100 {
        common::send(
            &peer,
            vec![
                Frame::from(&muster_proto::worker::Command::Register.frame()),
                Frame::from("{}"),
            ],
        );
    }
    let worker = FakeWorker::join(&context, &broker, "w", 1, &["m"]);
    drop(worker);
    let seconds = start.elapsed().as_secs() as usize + 2;
    let lines = broker.log().matches("unreadable").count();
    assert!(
        (1..=5 * seconds).contains(&lines),
        "{lines} lines in {seconds} s"
    );
    wait_for("the count of the others", || {
        common::send(&peer, vec![Frame::from("rubbish")]);
        broker
            .log()
            .contains("more such lines were left out")
            .then_some(())
    });
}
