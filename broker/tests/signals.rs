//! What signals, other brokers, limits, the clock and its own flaws do to a broker at work.

mod common;

use common::honest::HonestWorker;
use common::shim::Shim;
use common::{Broker, CALL, FakeWorker, call_counts, json_of, wait_for};
use muster_proto::socket::Context;
use rustix::process::Signal;
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

#[test]
fn a_frozen_broker_gives_nobody_up_when_it_wakes() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let workers: Vec<HonestWorker> = (0..3)
        .map(|n| HonestWorker::echo(&context, &broker, &format!("w{n}"), &["m"]))
        .collect();
    let client = broker.client(&context);
    assert_eq!(client.result("m", json!([1])), json!([1]));
    broker.signal(Signal::STOP);
    // Three times what a worker may be silent.
    let start = Instant::now();
    client.send(CALL);
    while start.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(100));
    }
    broker.signal(Signal::CONT);
    client.receive();
    for n in 0..100 {
        assert_eq!(client.result("m", json!([n])), json!([n]));
    }
    let status = client.result("broker.status", json!([]));
    assert_eq!(status["workers"]["managed"], 3);
    for worker in &workers {
        assert_eq!(worker.returns.load(Ordering::Relaxed), 0, "given up");
    }
    let calls = call_counts(&client);
    assert_eq!(
        (&calls["retried"], &calls["fenced"]),
        (&json!(0), &json!(0))
    );
    assert!(!broker.log().contains("silent for too long"));
}

#[test]
fn a_storm_of_interruptions_neither_loses_nor_repeats_a_call() {
    const CALLS: usize = 3_000;
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let _worker = HonestWorker::echo(&context, &broker, "w", &["m"]);
    let client = broker.client(&context);
    std::thread::scope(|scope| {
        let storm = scope.spawn(|| {
            // Stopped and continued, a wait ends with EINTR; a signal with a handler would do
            // the same, but those of the broker make it leave.
            for _ in 0..500 {
                broker.signal(Signal::STOP);
                broker.signal(Signal::CONT);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        for n in 0..CALLS {
            assert_eq!(client.result("m", json!([n])), json!([n]));
        }
        storm.join().unwrap();
    });
    let calls = call_counts(&client);
    assert_eq!(calls["succeeded"], CALLS);
    assert_eq!(
        (&calls["retried"], &calls["fenced"]),
        (&json!(0), &json!(0))
    );
}

#[test]
fn a_second_broker_is_refused_and_the_first_one_s_calls_go_on() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let worker = FakeWorker::join(&context, &broker, "w", 1, &["m"]);
    let client = broker.client(&context);
    client.send(CALL);
    let given = worker.call(0);
    let start = Instant::now();
    let mut second = common::spawn(broker.folder.path(), &[]);
    let status = wait_for("the second to give up", || second.try_wait().unwrap());
    println!("refused after {:?}", start.elapsed());
    assert_eq!(status.code(), Some(1));
    worker.reply(0, given.dispatch, "\"unharmed\"");
    assert_eq!(json_of(&client.receive())["result"], "unharmed");
    // Doors and connection file are still the first one's.
    assert_eq!(broker.connection()["pid"], broker.child.id());
    let late = broker.client(&context);
    late.send(CALL);
    let given = worker.call(0);
    worker.reply(0, given.dispatch, "2");
    assert_eq!(json_of(&late.receive())["result"], 2);
}

#[test]
fn a_second_signal_ends_a_drain_at_once() {
    let context = Context::new(1).unwrap();
    let mut broker = Broker::start(&["--grace", "600"]);
    let worker = FakeWorker::join(&context, &broker, "w", 1, &["m"]);
    let client = broker.client(&context);
    client.send(CALL);
    worker.call(0);
    broker.signal(Signal::TERM);
    wait_for("the drain", || {
        (client.ask(r#"{"jsonrpc":"2.0","method":"m","id":2}"#)["error"]["code"] == -32007)
            .then_some(())
    });
    assert!(
        broker.child.try_wait().unwrap().is_none(),
        "a call still runs"
    );
    let start = Instant::now();
    broker.signal(Signal::TERM);
    assert_eq!(broker.exit_code(), Some(0));
    println!("stopped after {:?}", start.elapsed());
    assert!(!broker.path("cluster.json").exists() && !broker.path("frontend").exists());
}

#[test]
fn a_drain_answers_what_its_grace_is_too_short_for() {
    let context = Context::new(1).unwrap();
    let mut broker = Broker::start(&["--grace", "0.3"]);
    let worker = FakeWorker::join(&context, &broker, "w", 1, &["m"]);
    let client = broker.client(&context);
    client.send(CALL);
    worker.call(0);
    broker.signal(Signal::INT);
    assert_eq!(json_of(&client.receive())["error"]["code"], -32007);
    assert_eq!(broker.exit_code(), Some(0));
}

#[test]
fn a_default_timeout_is_for_calls_that_ask_for_none() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&["--timeout", "100ms"]);
    let worker = FakeWorker::join(&context, &broker, "w", 1, &["m"]);
    let client = broker.client(&context);
    client.send(CALL);
    let given = worker.call(0);
    assert!((1..=100).contains(&given.remaining_ms));
    let error = &json_of(&client.receive())["error"];
    assert_eq!(
        (&error["code"], &error["data"]["state"]),
        (&json!(-32001), &json!("running"))
    );
    worker.reply(0, given.dispatch, "0");
    client.send(r#"{"jsonrpc":"2.0","method":"m","id":2,"meta":{"timeout_ms":0}}"#);
    let given = worker.call(0);
    assert_eq!(given.remaining_ms, 0, "no deadline");
    client.send(r#"{"jsonrpc":"2.0","method":"m","id":3}"#);
    let waiting = json_of(&client.receive());
    assert_eq!(
        (&waiting["id"], &waiting["error"]["data"]["state"]),
        (&json!(3), &json!("queued"))
    );
    worker.reply(0, given.dispatch, "\"no hurry\"");
    assert_eq!(json_of(&client.receive())["result"], "no hurry");
}

#[test]
fn out_of_descriptors_it_refuses_links_and_serves_those_it_has() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let _worker = HonestWorker::echo(&context, &broker, "w", &["m"]);
    let client = broker.client(&context);
    assert_eq!(client.result("m", json!([0])), json!([0]));
    let open = std::fs::read_dir(format!("/proc/{}/fd", broker.child.id()));
    let limit = Some(open.unwrap().count() as u64 + 8);
    let pid = Pid::from_raw(broker.child.id() as i32);
    let few = Rlimit {
        current: limit,
        maximum: Some(20_000),
    };
    let before = prlimit(pid, Resource::Nofile, few).unwrap();
    let flood: Vec<_> = (0..100)
        .filter_map(|_| std::os::unix::net::UnixStream::connect(broker.path("frontend")).ok())
        .collect();
    assert!(flood.len() > 8);
    for n in 0..200 {
        assert_eq!(client.result("m", json!([n])), json!([n]));
    }
    drop(flood);
    prlimit(pid, Resource::Nofile, before).unwrap();
    let late = broker.client(&context);
    assert_eq!(late.result("m", json!([7])), json!([7]));
}

/// Hours that the last line of the broker's log is away from now, by the clock that it believes.
fn log_is_off_hours(broker: &Broker) -> i64 {
    let log = broker.log();
    let line = log.lines().last().expect("it logs");
    // [2026-11-30T18:06:56Z INFO …
    let stamp = line.trim_start_matches('[').split(['Z', '.']).next();
    let command = std::process::Command::new("date")
        .args(["-u", "+%s", "-d", stamp.expect("a time")])
        .output()
        .unwrap();
    let text = String::from_utf8(command.stdout).unwrap();
    let seconds: i64 = text.trim().parse().expect("seconds");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    (seconds - now.unwrap().as_secs() as i64 + 1_800).div_euclid(3_600)
}

#[test]
fn a_clock_that_jumps_moves_no_deadline_and_no_heartbeat() {
    let shim = Shim::build();
    let context = Context::new(1).unwrap();
    let broker = shim.start_broker(&[]);
    let honest = HonestWorker::echo(&context, &broker, "honest", &["m"]);
    let client = broker.client(&context);
    for hours in [1, -1] {
        let silent = FakeWorker::join(&context, &broker, &format!("silent{hours}"), 1, &["slow"]);
        let start = Instant::now();
        client.send(r#"{"jsonrpc":"2.0","method":"slow","id":1,"meta":{"timeout_ms":1500}}"#);
        silent.call(0);
        shim.set_wall_off(hours * 3_600);
        // Whoever comes now is logged, with the time as the broker sees it.
        let _witness = FakeWorker::join(&context, &broker, &format!("witness{hours}"), 1, &["n"]);
        wait_for("the jump", || {
            (log_is_off_hours(&broker) == hours).then_some(())
        });
        let error = &json_of(&client.receive())["error"];
        let took = start.elapsed();
        assert_eq!(error["code"], -32001, "{error}");
        assert!(took >= Duration::from_millis(1_500), "early: {took:?}");
        assert!(took < Duration::from_millis(4_500), "late: {took:?}");
        // Three heartbeats missed, and not an hour of them.
        wait_for("the silent one to be given up", || {
            let workers = client.result("broker.workers", json!([]));
            let is_there = workers.to_string().contains(&format!("silent{hours}"));
            (!is_there).then_some(())
        });
        let took = start.elapsed();
        assert!(took >= Duration::from_secs(2), "given up after {took:?}");
        assert_eq!(client.result("m", json!([hours])), json!([hours]));
    }
    assert_eq!(honest.returns.load(Ordering::Relaxed), 0, "given up");
}

#[test]
fn a_panic_in_any_thread_ends_the_broker_and_its_successor_has_everybody_back() {
    for thread in ["muster-broker", "splice"] {
        let shim = Shim::build();
        let context = Context::new(1).unwrap();
        let mut broker = shim.start_broker(&[]);
        let honest = HonestWorker::echo(&context, &broker, "honest", &["m"]);
        let client = broker.client(&context);
        assert_eq!(client.result("m", json!([1])), json!([1]));
        let start = Instant::now();
        shim.break_thread(thread);
        // Both threads have something to do.
        client.send(CALL);
        let _stranger = std::os::unix::net::UnixStream::connect(broker.path("backend"));
        let status = wait_for("the broker to end", || broker.child.try_wait().unwrap());
        println!("{thread}: {status} after {:?}", start.elapsed());
        assert!(!status.success(), "{status}");
        let log = broker.log();
        assert!(log.contains("panicked at"), "{log}");
        assert!(start.elapsed() < Duration::from_secs(5), "half dead");

        shim.break_thread("\0");
        broker.kill_and_restart();
        wait_for("the worker to be back", || {
            (honest.returns.load(Ordering::Relaxed) == 1).then_some(())
        });
        let late = broker.client(&context);
        assert_eq!(late.result("m", json!([2])), json!([2]));
    }
}
