//! The library as other programs embed it: typed closures on thread slots.

mod common;

use common::{Broker, call, chunk};
use muster_proto::code::Code;
use muster_proto::socket::Frame;
use muster_proto::worker::{Command, StreamItem, StreamKind, flag};
use muster_worker::{Attachment, CallContext, CallError, Json, Serving, Worker};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Ends a worker when the test does.
struct Stopped(Option<Serving>);

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some(serving) = self.0.take() {
            serving.stopper().stop();
            let _ = serving.wait();
        }
    }
}

fn start(broker: &Broker, worker: Worker) -> Stopped {
    Stopped(Some(worker.name("w").start(broker.connection()).unwrap()))
}

fn arithmetic() -> Worker {
    Worker::new()
        .slots(1)
        .function("multiply", |x: i64, y: i64| x * y)
        .params(["x", "y"])
        .doc("Return x * y.")
        .function("greet", |name: Option<String>| {
            format!("Hi {}", name.unwrap_or_default())
        })
        .function("pay", |n: u32| n)
        .once()
}

/// The same with a function `block`, which returns when it is told to go.
fn arithmetic_and_block() -> (Worker, Sender<()>) {
    let (go, wait) = channel();
    let wait = Mutex::new(wait);
    let worker = arithmetic().function("block", move || {
        wait.lock().unwrap().recv_timeout(common::PATIENCE).is_ok()
    });
    (worker, go)
}

#[test]
fn functions_are_registered_with_parameters_and_docs_and_answer() {
    let mut broker = Broker::start();
    let _worker = start(&broker, arithmetic());
    let registration = broker.await_slots(1).clone();
    assert_eq!((registration.name.as_str(), registration.slots), ("w", 1));
    let methods = serde_json::to_value(&registration.methods).unwrap();
    assert_eq!(
        methods[0],
        json!({"name": "multiply", "params": [{"name": "x"}, {"name": "y"}],
            "doc": "Return x * y.", "chunks": true})
    );
    assert_eq!(
        methods[1]["params"],
        json!([{"name": "arg1", "optional": true}])
    );
    assert_eq!(methods[2]["once"], true);
    assert_eq!(broker.ok("multiply", "[5,3]"), 15);
    assert_eq!(broker.ok("multiply", r#"{"y":3,"x":5}"#), 15);
    assert_eq!(broker.ok("greet", ""), "Hi ");
    assert_eq!(broker.run(1, chunk("multiply", "[]")).items, 0);
}

#[test]
fn wrong_parameters_panics_and_unknown_methods_are_errors_of_their_own() {
    let mut broker = Broker::start();
    let worker = Worker::new()
        .slots(1)
        .function("divide", |x: i64, y: i64| x / y)
        .params(["x", "y"])
        .function("parse", |text: String| text.parse::<i64>())
        .function("refuse", |_: i64| {
            Err::<(), _>(CallError::InvalidParams("too small".into()))
        });
    let _worker = start(&broker, worker);
    broker.await_slots(1);
    let error = broker.error("divide", "[1]");
    assert_eq!(
        (&error["code"], &error["message"]),
        (
            &json!(-32602),
            &json!("Invalid params: parameter 2 (y): missing")
        )
    );
    let error = broker.error("divide", "[1,0]");
    assert_eq!(error["code"], Code::CallFailed.number());
    assert_eq!(error["data"]["type"], "panic");
    assert_eq!(error["data"]["worker"], "w");
    assert_eq!(error["data"]["pid"], std::process::id());
    assert_eq!(
        broker.error("parse", r#"["x"]"#)["data"]["type"],
        "ParseIntError"
    );
    assert_eq!(broker.error("refuse", "[1]")["code"], -32602);
    assert_eq!(broker.error("nope", "[]")["code"], -32601);
    assert_eq!(broker.ok("divide", "[6,3]"), 2, "the slot goes on");
}

#[test]
fn a_message_of_calls_is_answered_by_one_message_of_replies() {
    let mut broker = Broker::start();
    let _worker = start(&broker, arithmetic());
    broker.await_slots(1);
    // Once its service time is known to be short, replies wait for each other.
    broker.ok("multiply", "[1,1]");
    let params: Vec<String> = (0..100).map(|n| format!("[{n},2]")).collect();
    let calls: Vec<_> = params
        .iter()
        .map(|params| call("multiply", params))
        .collect();
    let numbers = broker.send_calls(1, &calls);
    let answers: Vec<_> = numbers.iter().map(|_| broker.reply()).collect();
    for (n, (answer, number)) in answers.iter().zip(numbers).enumerate() {
        assert_eq!((answer.call, answer.ok()), (number, json!(2 * n)));
        assert_eq!(answer.message, answers[0].message);
    }
}

#[test]
fn replies_go_out_before_a_call_that_may_take_long() {
    let mut broker = Broker::start();
    let (worker, go) = arithmetic_and_block();
    let _worker = start(&broker, worker);
    broker.await_slots(1);
    broker.ok("multiply", "[1,1]");
    broker.send_calls(1, &[call("multiply", "[2,2]"), call("block", "")]);
    assert_eq!(broker.reply().ok(), 4, "while the other call still runs");
    assert!(!broker.has_reply());
    go.send(()).unwrap();
    assert_eq!(broker.reply().ok(), true);
}

#[test]
fn large_results_and_parameters_travel_in_frames_of_their_own() {
    let mut broker = Broker::start();
    let worker = Worker::new()
        .slots(1)
        .function("length", |text: String| text.len())
        .function("fill", |n: usize| "x".repeat(n));
    let _worker = start(&broker, worker);
    broker.await_slots(1);
    let params = format!("[\"{}\"]", "y".repeat(100_000));
    let answer = broker.run(
        1,
        common::NewCall {
            own_frame: true,
            ..call("length", &params)
        },
    );
    assert_eq!(answer.ok(), 100_000);
    let answer = broker.run(1, call("fill", "[100000]"));
    assert!(answer.is_whole);
    let reply = answer.ok();
    assert_eq!(
        (&reply["jsonrpc"], &reply["id"]),
        (&json!("2.0"), &json!("id"))
    );
    assert_eq!(reply["result"].as_str().unwrap().len(), 100_000);
    let error = broker.run(1, call("fill", "[20000000]")).error();
    assert_eq!(error["code"], Code::TooLarge.number());
}

#[test]
fn attachments_go_both_ways_and_a_missing_one_is_named() {
    let mut broker = Broker::start();
    let worker = Worker::new()
        .slots(1)
        .function_with_context("reverse", |call: &CallContext<'_>, bytes: Attachment| {
            let mut reversed = call.bytes(&bytes)?.into_owned();
            reversed.reverse();
            call.attach(reversed)
        })
        .function("keys", |value: serde_json::Value| {
            Json(value.as_object().map(serde_json::Map::len))
        });
    let _worker = start(&broker, worker);
    broker.await_slots(1);
    let framed = common::NewCall {
        attachments: vec![b"abc".to_vec(), b"def".to_vec()],
        flags: flag::FRAMES,
        ..call("reverse", r#"[{"$frame":1}]"#)
    };
    let answer = broker.run(1, framed.clone());
    assert_eq!(answer.ok(), json!({"$frame": 0}));
    assert_eq!(answer.attachments, [b"fed"]);
    let answer = broker.run(1, common::NewCall { flags: 0, ..framed });
    assert_eq!(
        (answer.ok(), answer.attachments.len()),
        (json!({"$base64": "ZmVk"}), 0)
    );
    let error = broker.error("keys", r#"[{"a":{"$frame":2}}]"#);
    assert_eq!(error["code"], -32602);
    assert!(
        error["message"].as_str().unwrap().contains("attachment 2"),
        "{error}"
    );
}

#[test]
fn a_recall_gives_back_what_has_not_started_and_nothing_else() {
    let mut broker = Broker::start();
    let (worker, go) = arithmetic_and_block();
    let _worker = start(&broker, worker);
    broker.await_slots(1);
    broker.ok("multiply", "[1,1]");
    let calls = [
        call("multiply", "[1,2]"),
        call("block", ""),
        call("multiply", "[3,3]"),
        call("multiply", "[4,4]"),
    ];
    let numbers = broker.send_calls(1, &calls);
    assert_eq!(broker.reply().ok(), 2);
    // Number 1 was the first call; these are 2 to 5.
    for seq in 2..=4 {
        let name = broker.slot_call(1, seq, numbers[seq as usize - 2]);
        broker.command(Command::Recall, vec![name]);
    }
    // The call that runs started before or after: only it may be either.
    assert!(!broker.recalled()[0].given_back);
    let running = broker.recalled()[0];
    let parked = broker.recalled()[0];
    assert!(parked.given_back && parked.call.seq == 4);
    if !running.given_back {
        go.send(()).unwrap();
        assert_eq!(broker.reply().ok(), true);
    }
    assert_eq!(broker.reply().ok(), 16, "what was not recalled runs");
    assert_eq!(broker.ok("multiply", "[5,5]"), 25);
}

#[test]
fn a_cancel_sets_the_flag_of_the_running_call_and_prevents_the_parked_one() {
    let mut broker = Broker::start();
    let started = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&started);
    let worker = arithmetic().function_with_context(
        "hang",
        move |call: &CallContext<'_>| -> Result<(), CallError> {
            flag.store(true, Ordering::SeqCst);
            while !call.sleep(Duration::from_secs(1)) {}
            Err(CallError::Cancelled)
        },
    );
    let _worker = start(&broker, worker);
    broker.await_slots(1);
    let numbers = broker.send_calls(1, &[call("hang", ""), call("multiply", "[1,1]")]);
    common::until("the call runs", || started.load(Ordering::SeqCst));
    let parked = broker.slot_call(1, 2, numbers[1]);
    broker.command(Command::Cancel, vec![parked]);
    let running = broker.slot_call(1, 1, numbers[0]);
    broker.command(Command::Cancel, vec![running]);
    assert_eq!(broker.reply().error()["code"], Code::Cancelled.number());
    assert_eq!(broker.reply().error()["code"], Code::Cancelled.number());
    assert_eq!(
        broker.ok("multiply", "[2,3]"),
        6,
        "the next call starts with a clear flag"
    );
}

#[test]
fn progress_is_streamed_to_a_caller_that_asked() {
    let mut broker = Broker::start();
    let worker = Worker::new()
        .slots(1)
        .function_with_context("work", |call: &CallContext<'_>| {
            call.progress(1, 2);
            call.progress(2, 2);
        });
    let _worker = start(&broker, worker);
    broker.await_slots(1);
    broker.run(1, call("work", "")).ok();
    broker
        .run(
            1,
            common::NewCall {
                flags: flag::STREAM,
                ..call("work", "")
            },
        )
        .ok();
    for seq in 1..=2 {
        let message = broker.message(Command::Stream);
        let item = StreamItem::unpack(&message.frames[0]).unwrap();
        assert_eq!(
            (item.seq, item.kind, item.dispatch.call.0),
            (seq, StreamKind::Progress, 2)
        );
        let value: serde_json::Value = serde_json::from_slice(item.value).unwrap();
        assert_eq!(value, json!({"done": seq, "total": 2}));
    }
}

#[test]
fn a_chunk_answers_item_by_item() {
    let mut broker = Broker::start();
    let worker = Worker::new().slots(1).function("invert", |n: i64| 100 / n);
    let _worker = start(&broker, worker);
    broker.await_slots(1);
    let answer = broker.run(1, chunk("invert", r#"[5,0,"x",20]"#));
    assert_eq!(answer.items, 4);
    let out = answer.ok();
    assert_eq!(
        (&out[0], &out[3]),
        (&json!({"result": 20}), &json!({"result": 5}))
    );
    assert_eq!(out[1]["error"]["code"], -32000);
    assert_eq!(out[2]["error"]["code"], -32602);
}

#[test]
fn a_broker_that_forgot_the_worker_gets_it_back() {
    let mut broker = Broker::start();
    let _worker = start(&broker, arithmetic().slots(2));
    broker.await_slots(2);
    broker.forget_worker();
    broker.await_slots(2);
    assert_eq!(broker.welcomes, 2);
    assert_eq!(broker.ok("multiply", "[2,3]"), 6);
}

#[test]
fn a_slot_that_is_not_known_any_more_joins_anew() {
    let mut broker = Broker::start();
    let _worker = start(&broker, arithmetic());
    broker.await_slots(1);
    broker.command_slot(1, Command::Who);
    broker.forget_slots();
    broker.await_slots(1);
    assert_eq!(
        (broker.welcomes, broker.ok("multiply", "[2,3]")),
        (1, 6.into())
    );
}

#[test]
fn a_restarted_broker_gets_the_worker_and_its_slots_back() {
    let mut broker = Broker::start();
    let worker = arithmetic().slots(2).name("w");
    let address = muster_worker::BrokerAddress::Cluster {
        name: "default".into(),
        runtime_dir: Some(broker.runtime_dir().to_owned()),
    };
    let _worker = Stopped(Some(worker.start(address).unwrap()));
    let token = broker.await_slots(2).token.clone();
    let mut broker = Broker::start_in(broker.end(), 2);
    assert_eq!(broker.await_slots(2).token, token);
    assert_eq!(broker.ok("multiply", "[2,3]"), 6);
    assert_eq!(broker.run(2, call("multiply", "[2,4]")).ok(), 8);
}

#[test]
fn a_resize_adds_slots_and_takes_them_away() {
    let mut broker = Broker::start();
    let _worker = start(&broker, arithmetic());
    broker.await_slots(1);
    broker.command(Command::Resize, vec![Frame::from("3")]);
    let changed = broker.message(Command::Changed);
    assert_eq!(
        changed.json::<muster_proto::worker::Registration>().slots,
        3
    );
    broker.await_slots(3);
    assert_eq!(broker.run(3, call("multiply", "[2,4]")).ok(), 8);
    broker.command(Command::Resize, vec![Frame::from("1")]);
    let changed = broker.message(Command::Changed);
    assert_eq!(
        changed.json::<muster_proto::worker::Registration>().slots,
        1
    );
    assert_eq!(broker.ok("multiply", "[2,3]"), 6);
}

#[test]
fn a_drain_finishes_what_runs_and_says_goodbye() {
    let mut broker = Broker::start();
    let (worker, go) = arithmetic_and_block();
    let serving = worker.start(broker.connection()).unwrap();
    broker.await_slots(1);
    broker.send_calls(1, &[call("block", ""), call("multiply", "[2,3]")]);
    serving.stopper().drain();
    broker.message(Command::Draining);
    go.send(()).unwrap();
    assert_eq!(broker.reply().ok(), true);
    assert_eq!(
        broker.reply().ok(),
        6,
        "what the slot holds is finished, too"
    );
    broker.message(Command::Goodbye);
    serving.wait().unwrap();
}

/// `cargo test` builds the examples beside the tests.
#[test]
fn the_example_serves() {
    let mut broker = Broker::start();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_muster-worker"));
    let example = program.with_file_name("examples").join("custom_worker");
    // Where a user's own cluster is looked for.
    let home = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(broker.runtime_dir(), home.path().join("muster")).unwrap();
    let mut command = std::process::Command::new(&example);
    command.env("XDG_RUNTIME_DIR", home.path());
    let _example = Killed(command.spawn().expect("cargo test has built the example"));
    assert_eq!(broker.await_slots(2).methods.len(), 5);
    assert_eq!(
        broker.ok("distance", r#"[{"x":0,"y":0},{"x":3,"y":4}]"#),
        5.0
    );
    assert_eq!(broker.ok("collatz", "[10]"), 19);
    assert_eq!(
        broker.ok("reverse", r#"[{"$base64":"YWJj"}]"#),
        json!({"$base64": "Y2Jh"})
    );
}

struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
