//! What becomes of calls when workers, clients and the broker itself go away.

mod common;

use common::{Broker, CALL, FakeWorker, PATIENCE, json_of, wait_for};
use muster_proto::id::{CallId, DispatchId};
use muster_proto::socket::Context;
use muster_proto::worker::{Command, Recalled, SlotCall, SlotLost};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[test]
fn a_call_whose_slot_is_gone_runs_again_elsewhere_and_is_answered_once() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let mut first = FakeWorker::join(&context, &broker, "first", 1, &["m"]);
    let client = broker.client(&context);
    client.send(CALL);
    let given = first.call(0);
    let second = FakeWorker::join(&context, &broker, "second", 1, &["m"]);
    first.slots.clear();
    let again = second.call(0);
    assert_eq!(again.dispatch.call, given.dispatch.call);
    assert_eq!((given.dispatch.attempt, again.dispatch.attempt), (1, 2));
    // The first comes back and answers what it no longer holds; so does a forger.
    first.join_slot(1);
    first.reply(0, given.dispatch, "\"late\"");
    first.reply(
        0,
        DispatchId {
            call: CallId(999),
            ..given.dispatch
        },
        "\"forged\"",
    );
    let asker = broker.client(&context);
    wait_for("the late reply to be fenced", || {
        (asker.result("broker.status", json!([]))["calls"]["fenced"] == 2).then_some(())
    });
    second.reply(0, again.dispatch, "\"right\"");
    assert_eq!(json_of(&client.receive())["result"], "right");
}

#[test]
fn a_call_that_is_lost_every_time_ends_with_its_attempts() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&["--attempts", "2"]);
    let mut worker = FakeWorker::join(&context, &broker, "w", 1, &["m"]);
    let client = broker.client(&context);
    client.send(CALL);
    for attempt in 1..=2 {
        assert_eq!(worker.call(0).dispatch.attempt, attempt);
        let lost = SlotLost {
            slot: 1,
            pid: 77,
            signal: Some(9),
            stderr_tail: "the end".into(),
            ..SlotLost::default()
        };
        let body = serde_json::to_vec(&lost).unwrap();
        common::send(
            &worker.slots[0],
            vec![(&Command::Lost.frame()).into(), body.into()],
        );
        if attempt == 1 {
            worker.slots.clear();
            worker.join_slot(1);
        }
    }
    let error = &json_of(&client.receive())["error"];
    assert_eq!(error["code"], -32002);
    let attempts = error["data"]["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2);
    assert_eq!(attempts[1]["signal"], 9);
    assert_eq!(attempts[1]["stderr"], "the end");
    assert_eq!(attempts[1]["worker"], "w");
}

#[test]
fn deadlines_pass_while_queued_and_while_running() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let worker = FakeWorker::join(&context, &broker, "w", 1, &["m"]);
    let client = broker.client(&context);
    let call = |id: u32| {
        format!(r#"{{"jsonrpc":"2.0","method":"m","id":{id},"meta":{{"timeout_ms":150}}}}"#)
    };
    client.send(call(1));
    let given = worker.call(0);
    assert!((1..=150).contains(&given.remaining_ms));
    client.send(call(2));
    let mut states: Vec<(Value, Value)> = (0..2)
        .map(|_| {
            let reply = json_of(&client.receive());
            assert_eq!(reply["error"]["code"], -32001);
            (reply["id"].clone(), reply["error"]["data"]["state"].clone())
        })
        .collect();
    states.sort_by_key(|(id, _)| id.as_u64());
    assert_eq!(
        states,
        [(json!(1), json!("running")), (json!(2), json!("queued"))]
    );
    let frames = worker.expect(&worker.control, Command::Cancel);
    let cancelled: Vec<SlotCall> = SlotCall::unpack(&frames[1]).map(Result::unwrap).collect();
    assert_eq!(cancelled[0].dispatch, given.dispatch);
    // The slot is free once it says so, whatever it says.
    worker.reply(0, given.dispatch, "0");
    client.send(CALL);
    let next = worker.call(0);
    worker.reply(0, next.dispatch, "\"next\"");
    assert_eq!(json_of(&client.receive())["result"], "next");
}

#[test]
fn a_gone_clients_calls_are_dropped_and_its_running_ones_cancelled() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let worker = FakeWorker::join(&context, &broker, "w", 1, &["m"]);
    let client = broker.client(&context);
    client.send(CALL);
    worker.call(0);
    client.send(CALL);
    drop(client);
    worker.expect(&worker.control, Command::Cancel);
    let asker = broker.client(&context);
    wait_for("both calls to be cancelled", || {
        let calls = &asker.result("broker.status", json!([]))["calls"];
        (calls["cancelled"] == 2 && calls["queued"] == 0).then_some(())
    });
}

#[test]
fn a_keyed_call_is_found_again_by_a_new_connection_and_so_is_its_answer() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let worker = FakeWorker::join(&context, &broker, "w", 1, &["m"]);
    let call =
        |id: u32| format!(r#"{{"jsonrpc":"2.0","method":"m","id":{id},"meta":{{"key":"k1"}}}}"#);
    let client = broker.client(&context);
    client.send(call(1));
    let given = worker.call(0);
    drop(client);
    let client = broker.client(&context);
    client.send(call(2));
    let asker = broker.client(&context);
    wait_for("the call to be found again", || {
        (asker.result("broker.status", json!([]))["calls"]["reattached"] == 1).then_some(())
    });
    worker.reply(0, given.dispatch, "\"once\"");
    assert_eq!(
        json_of(&client.receive()),
        json!({"jsonrpc":"2.0","result":"once","id":2})
    );
    client.send(call(3));
    assert_eq!(
        json_of(&client.receive()),
        json!({"jsonrpc":"2.0","result":"once","id":3})
    );
    assert!(!worker.has_call(0));
}

#[test]
fn a_silent_worker_is_lost_and_told_to_introduce_itself_when_it_speaks() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let silent = FakeWorker::join(&context, &broker, "silent", 1, &["m"]);
    let client = broker.client(&context);
    client.send(CALL);
    silent.call(0);
    let other = FakeWorker::join(&context, &broker, "other", 1, &["m"]);
    let start = Instant::now();
    let given = loop {
        other.beat();
        if other.has_call(0) {
            break other.call(0);
        }
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(100));
    };
    other.reply(0, given.dispatch, "1");
    assert_eq!(json_of(&client.receive())["result"], 1);
    silent.beat();
    silent.expect(&silent.control, Command::Who);
    silent.register();
}

#[test]
fn a_restarted_broker_gets_its_workers_back_and_fences_old_replies() {
    let context = Context::new(1).unwrap();
    let mut broker = Broker::start(&[]);
    let mut worker = FakeWorker::join(&context, &broker, "w", 1, &["m"]);
    let client = broker.client(&context);
    client.send(CALL);
    let old = worker.call(0);
    broker.kill_and_restart();
    worker.beat();
    worker.expect(&worker.control, Command::Who);
    worker.register();
    worker.reply(0, old.dispatch, "\"old\"");
    worker.expect(&worker.slots[0], Command::Who);
    worker.slots.clear();
    worker.join_slot(1);
    worker.reply(0, old.dispatch, "\"old\"");
    let client = broker.client(&context);
    client.send(CALL);
    let new = worker.call(0);
    assert_ne!(new.dispatch.epoch, old.dispatch.epoch);
    worker.reply(0, new.dispatch, "\"new\"");
    assert_eq!(json_of(&client.receive())["result"], "new");
    assert_eq!(
        client.result("broker.status", json!([]))["calls"]["fenced"],
        1
    );
}

#[test]
fn calls_wait_for_a_method_that_was_known_and_a_first_worker_but_not_for_a_stranger() {
    let context = Context::new(1).unwrap();
    let mut broker = Broker::start(&["--settle", "60"]);
    let client = broker.client(&context);
    client.send(CALL);
    let worker = FakeWorker::join(&context, &broker, "w", 1, &["m"]);
    let given = worker.call(0);
    worker.reply(0, given.dispatch, "1");
    assert_eq!(json_of(&client.receive())["result"], 1);
    assert_eq!(client.call("nope", json!([]))["error"]["code"], -32601);
    drop(worker);
    client.send(CALL);
    let worker = FakeWorker::join(&context, &broker, "w2", 1, &["m"]);
    let given = worker.call(0);
    worker.reply(0, given.dispatch, "2");
    assert_eq!(json_of(&client.receive())["result"], 2);
    broker.kill_and_restart();
    let client = broker.client(&context);
    client.send(CALL);
    let _other = FakeWorker::join(&context, &broker, "o", 1, &["other"]);
    assert_eq!(client.call("nope", json!([]))["error"]["code"], -32601);
    let worker = FakeWorker::join(&context, &broker, "w3", 1, &["m"]);
    let given = worker.call(0);
    worker.reply(0, given.dispatch, "3");
    assert_eq!(json_of(&client.receive())["result"], 3);
}

#[test]
fn a_second_broker_is_refused_and_the_first_lives() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let mut second = common::spawn(broker.folder.path(), &[]);
    let status = second.wait().unwrap();
    assert_eq!(status.code(), Some(1));
    let client = broker.client(&context);
    client.result("broker.status", json!([]));
}

#[test]
fn a_signal_drains_and_leaves_nothing_behind() {
    let context = Context::new(1).unwrap();
    let mut broker = Broker::start(&[]);
    let worker = FakeWorker::join(&context, &broker, "w", 1, &["m"]);
    let client = broker.client(&context);
    client.send(CALL);
    let given = worker.call(0);
    client.send(CALL);
    let asker = broker.client(&context);
    wait_for("the second call to wait", || {
        (asker.result("broker.status", json!([]))["calls"]["queued"] == 1).then_some(())
    });
    let pid = rustix::process::Pid::from_raw(broker.child.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(json_of(&client.receive())["error"]["code"], -32007);
    assert_eq!(asker.ask(CALL)["error"]["code"], -32007);
    worker.reply(0, given.dispatch, "\"finished\"");
    assert_eq!(json_of(&client.receive())["result"], "finished");
    let status = wait_for("the broker to leave", || broker.child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    let mut left: Vec<_> = std::fs::read_dir(broker.path("."))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["lock", "methods.json"]);
}

#[test]
fn parked_calls_are_recalled_from_a_slot_that_overruns() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let worker = FakeWorker::join(&context, &broker, "w", 1, &["m"]);
    let client = broker.client(&context);
    // Teach the broker that the method is short, so that calls are parked.
    for _ in 0..3 {
        client.send(CALL);
        let given = worker.call(0);
        worker.reply(0, given.dispatch, "0");
        client.receive();
    }
    // In one message, so that the first can't have overrun before the second is there.
    client.send(format!("[{CALL},{CALL}]"));
    let given = worker.calls(0);
    let [running, parked] = &given[..] else {
        panic!("{given:?}")
    };
    let frames = worker.expect(&worker.control, Command::Recall);
    let recalled: Vec<SlotCall> = SlotCall::unpack(&frames[1]).map(Result::unwrap).collect();
    assert_eq!(recalled[0].dispatch, parked.dispatch);
    assert_eq!(recalled[0].seq, parked.seq);
    let other = FakeWorker::join(&context, &broker, "other", 1, &["m"]);
    let mut answer = Vec::new();
    Recalled {
        call: recalled[0],
        given_back: true,
    }
    .pack(&mut answer);
    worker.tell(Command::Recalled, &answer);
    let again = other.call(0);
    assert_eq!(again.dispatch.call, parked.dispatch.call);
    other.reply(0, again.dispatch, "\"moved\"");
    worker.reply(0, running.dispatch, "\"slow\"");
    let answers = json_of(&client.receive());
    assert_eq!(
        (&answers[0]["result"], &answers[1]["result"]),
        (&json!("slow"), &json!("moved"))
    );
}

#[test]
fn a_worker_that_talks_nonsense_is_refused_in_words_or_ignored() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let mut worker = FakeWorker::join(&context, &broker, "w", 1, &["m"]);
    worker.registration.methods = (0..100_000)
        .map(|n| common::method(&format!("m{n}")))
        .collect();
    worker.tell(
        Command::Changed,
        &serde_json::to_vec(&worker.registration).unwrap(),
    );
    let frames = worker.expect(&worker.control, Command::Refused);
    assert!(
        json_of(&frames[1])["message"]
            .as_str()
            .unwrap()
            .contains("10000")
    );
    worker.registration.methods.clear();
    worker.registration.protocol = (2, 3);
    worker.tell(
        Command::Register,
        &serde_json::to_vec(&worker.registration).unwrap(),
    );
    let frames = worker.expect(&worker.control, Command::Refused);
    assert!(
        json_of(&frames[1])["message"]
            .as_str()
            .unwrap()
            .contains("versions 2 to 3")
    );
    let client = broker.client(&context);
    client.send(CALL);
    let given = worker.call(0);
    worker.reply(0, given.dispatch, "{not json");
    assert_eq!(json_of(&client.receive())["error"]["code"], -32008);
}
