//! Calls through a real broker: every client envelope, batches, notifications, and what a wrong
//! message is answered with.

mod common;

use common::{Broker, FakeWorker, json_of, method};
use muster_proto::socket::{Context, Frame};
use muster_proto::worker::flag;
use serde_json::{Value, json};

fn call_text(method: &str, id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":[1],"id":{id}}}"#)
}

#[test]
fn a_call_reaches_a_slot_and_its_answer_the_client_byte_for_byte() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let worker = FakeWorker::join(&context, &broker, "w", 1, &["echo"]);
    let client = broker.client(&context);
    for id in ["1", "\"a\\u0062\"", "null", "-1.50e2"] {
        client.send(call_text("echo", id));
        let given = worker.call(0);
        assert_eq!(
            (given.method.as_str(), given.params.as_str()),
            ("echo", "[1]")
        );
        worker.reply(0, given.dispatch, "{ \"x\" : 1e400 }");
        let reply = String::from_utf8(client.receive()).unwrap();
        assert_eq!(
            reply,
            format!(r#"{{"jsonrpc":"2.0","result":{{ "x" : 1e400 }},"id":{id}}}"#)
        );
    }
}

#[test]
fn every_envelope_comes_back_as_it_went() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let worker = FakeWorker::join(&context, &broker, "w", 1, &["echo"]);
    let client = broker.client(&context);
    let body = call_text("echo", "1");
    let shapes: [&[&str]; 5] = [
        &[""],
        &["reqi", ""],
        &["{req", ""],
        &["p1", "p2", "p3", "p4", ""],
        &[],
    ];
    for shape in shapes {
        let mut frames: Vec<Frame> = shape.iter().map(|part| Frame::from(*part)).collect();
        frames.push(Frame::from(body.as_str()));
        client.send_frames(frames);
        let given = worker.call(0);
        worker.reply(0, given.dispatch, "7");
        let frames = client.receive_frames();
        let path: Vec<&[u8]> = frames[..frames.len() - 1].iter().map(|f| &f[..]).collect();
        let sent: Vec<&[u8]> = shape.iter().map(|part| part.as_bytes()).collect();
        assert_eq!(path, sent);
    }
}

#[test]
fn attachments_pass_both_ways() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let worker = FakeWorker::join(&context, &broker, "w", 1, &["echo"]);
    let client = broker.client(&context);
    let large = vec![7u8; 3 << 20];
    client.send_frames(vec![
        Frame::empty(),
        Frame::from(call_text("echo", "1")),
        Frame::from(large.clone()),
        Frame::from("second"),
    ]);
    let given = worker.call(0);
    assert_eq!(given.flags & flag::FRAMES, flag::FRAMES);
    assert_eq!(given.attachments, [large.clone(), b"second".to_vec()]);
    worker.reply_with(0, given.dispatch, 0, br#"{"$frame":0}"#, &[&large]);
    let frames = client.receive_frames();
    assert_eq!(frames[2][..], large[..]);
}

#[test]
fn the_examples_of_the_json_rpc_specification_come_out_as_printed() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&["--settle", "0"]);
    let methods = [
        "subtract",
        "update",
        "sum",
        "notify_hello",
        "get_data",
        "notify_sum",
    ];
    let worker = FakeWorker::join(&context, &broker, "w", 1, &methods);
    let client = broker.client(&context);
    let serve = |count: usize| {
        let mut served = 0;
        while served < count {
            for given in worker.calls(0) {
                let params: Value = serde_json::from_str(&given.params).unwrap_or_default();
                let result = match given.method.as_str() {
                    "subtract" => {
                        let at = |n: usize, name: &str| {
                            params
                                .get(n)
                                .or(params.get(name))
                                .unwrap()
                                .as_i64()
                                .unwrap()
                        };
                        json!(at(0, "minuend") - at(1, "subtrahend"))
                    }
                    "sum" => json!(
                        params
                            .as_array()
                            .unwrap()
                            .iter()
                            .flat_map(Value::as_i64)
                            .sum::<i64>()
                    ),
                    "get_data" => json!(["hello", 5]),
                    _ => Value::Null,
                };
                worker.reply(0, given.dispatch, &result.to_string());
                served += 1;
            }
        }
    };
    // Request, calls that reach the worker, answer; "": the empty frame that REQ must receive.
    let examples = [
        (
            r#"{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}"#,
            1,
            r#"{"jsonrpc": "2.0", "result": 19, "id": 1}"#,
        ),
        (
            r#"{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}"#,
            1,
            r#"{"jsonrpc": "2.0", "result": -19, "id": 2}"#,
        ),
        (
            r#"{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}"#,
            1,
            r#"{"jsonrpc": "2.0", "result": 19, "id": 3}"#,
        ),
        (
            r#"{"jsonrpc": "2.0", "method": "subtract", "params": {"minuend": 42, "subtrahend": 23}, "id": 4}"#,
            1,
            r#"{"jsonrpc": "2.0", "result": 19, "id": 4}"#,
        ),
        (
            r#"{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}"#,
            1,
            "",
        ),
        (r#"{"jsonrpc": "2.0", "method": "foobar"}"#, 0, ""),
        (
            r#"{"jsonrpc": "2.0", "method": "foobar", "id": "1"}"#,
            0,
            r#"{"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "1"}"#,
        ),
        (
            r#"{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]"#,
            0,
            r#"{"jsonrpc": "2.0", "error": {"code": -32700, "message": "Parse error"}, "id": null}"#,
        ),
        (
            r#"{"jsonrpc": "2.0", "method": 1, "params": "bar"}"#,
            0,
            r#"{"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null}"#,
        ),
        (
            r#"[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},{"jsonrpc": "2.0", "method"]"#,
            0,
            r#"{"jsonrpc": "2.0", "error": {"code": -32700, "message": "Parse error"}, "id": null}"#,
        ),
        (
            "[]",
            0,
            r#"{"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null}"#,
        ),
        (
            "[1]",
            0,
            r#"[{"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null}]"#,
        ),
        (
            "[1,2,3]",
            0,
            r#"[{"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null},{"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null},{"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null}]"#,
        ),
        (
            r#"[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},{"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},{"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},{"foo": "boo"},{"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},{"jsonrpc": "2.0", "method": "get_data", "id": "9"}]"#,
            4,
            r#"[{"jsonrpc": "2.0", "result": 7, "id": "1"},{"jsonrpc": "2.0", "result": 19, "id": "2"},{"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null},{"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "5"},{"jsonrpc": "2.0", "result": ["hello", 5], "id": "9"}]"#,
        ),
        (
            r#"[{"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},{"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}]"#,
            2,
            "",
        ),
    ];
    for (request, calls, expected) in examples {
        client.send(request);
        serve(calls);
        let reply = String::from_utf8(client.receive()).unwrap();
        if expected.is_empty() {
            assert_eq!(reply, "", "{request}");
            continue;
        }
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(read(&reply), read(expected), "{request}");
    }
}

#[test]
fn bad_input_gets_its_code_and_the_next_call_works() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&["--settle", "0"]);
    let worker = FakeWorker::join(&context, &broker, "w", 1, &["echo"]);
    let client = broker.client(&context);
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let large = format!(
        r#"{{"jsonrpc":"2.0","method":"echo","params":["{}"],"id":1}}"#,
        "x".repeat(100 << 20)
    );
    let name = call_text(&"n".repeat(10_000), "1");
    let many = format!("[{}]", vec![call_text("echo", "1"); 1_001].join(","));
    let cases = [
        (deep.as_str(), -32005),
        (large.as_str(), -32005),
        (name.as_str(), -32005),
        (many.as_str(), -32005),
        ("[]", -32600),
        (r#"{"jsonrpc":"2.0","method":"echo","id":{}}"#, -32600),
        (r#"{"jsonrpc":"2.0","method":"echo","id":true}"#, -32600),
        (
            r#"{"jsonrpc":"2.0","method":"echo","params":1,"id":1}"#,
            -32600,
        ),
        (
            r#"{"jsonrpc":"2.0","method":"echo","id":1,"meta":{"tmeout_ms":1}}"#,
            -32600,
        ),
        (
            r#"{"jsonrpc":"2.0","method":"echo","id":1,"meta":{"map":true},"params":[]}"#,
            -32600,
        ),
        (r#"{"op":"add"}"#, -32600),
        ("{", -32700),
    ];
    for (body, code) in cases {
        let reply = client.ask(body);
        assert_eq!(reply["error"]["code"], code, "{body:.80}");
        client.send(call_text("echo", "1"));
        let given = worker.call(0);
        worker.reply(0, given.dispatch, "1");
        assert!(client.receive().starts_with(b"{\"jsonrpc\""));
    }
    // The most frames that fit, the routing id and the delimiter among them, and one more.
    for (attachments, code) in [(61, None), (62, Some(-32005)), (1_000, Some(-32005))] {
        let mut frames = vec![Frame::empty(), Frame::from(call_text("echo", "1"))];
        frames.resize_with(2 + attachments, || Frame::from("x"));
        client.send_frames(frames);
        if code.is_none() {
            let given = worker.call(0);
            worker.reply(0, given.dispatch, "1");
        }
        let reply = json_of(&client.receive());
        assert_eq!(reply["error"]["code"].as_i64(), code, "{attachments}");
    }
    drop(large);
    let rss_kib = common::wait_for("the broker's memory to come back", || {
        let kib = broker.rss_kib();
        (kib < 64 << 10).then_some(kib)
    });
    assert!(rss_kib > 0);
}

#[test]
fn a_flood_of_attachments_leaves_no_memory_behind() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let worker = FakeWorker::join(&context, &broker, "w", 1, &["blob"]);
    let idle_kib = broker.rss_kib();
    let attachment = Frame::from(vec![7; 1 << 20]);
    let client = broker.client(&context);
    let text = r#"{"jsonrpc":"2.0","method":"blob","params":[{"$frame":0}],"id":1}"#;
    for _ in 0..200 {
        client.send_frames(vec![Frame::empty(), text.into(), attachment.share()]);
    }
    common::wait_for("the flood to arrive", || {
        (broker.rss_kib() > idle_kib + (150 << 10)).then_some(())
    });
    // Its client gone, nobody waits for any of it.
    drop(client);
    drop(worker);
    common::wait_for("the memory to come back", || {
        (broker.rss_kib() <= idle_kib + (32 << 10)).then_some(())
    });
}

#[test]
fn a_batch_is_answered_in_order_whatever_order_its_items_end_in() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let worker = FakeWorker::join(&context, &broker, "w", 2, &["a", "b"]);
    let client = broker.client(&context);
    client.send(format!("[{},{}]", call_text("a", "1"), call_text("b", "2")));
    let (first, second) = (worker.call(0), worker.call(1));
    worker.reply(1, second.dispatch, "\"late one first\"");
    worker.reply_error(0, first.dispatch, r#"{"code":-32000,"message":"no"}"#);
    let reply: Value = serde_json::from_slice(&client.receive()).unwrap();
    assert_eq!(reply[0]["id"], 1);
    assert_eq!(reply[0]["error"]["message"], "no");
    assert_eq!(
        reply[1],
        json!({"jsonrpc": "2.0", "result": "late one first", "id": 2})
    );
}

#[test]
fn introspection_describes_what_is_on_offer() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let mut is_even = method("is_even");
    is_even.doc = "Return True if n is even.".into();
    is_even.params = Some(vec![muster_proto::worker::Param {
        name: "n".into(),
        optional: false,
    }]);
    let _worker = FakeWorker::join_with(&context, &broker, "w", 2, vec![is_even]);
    let client = broker.client(&context);
    let names = client.result("system.listMethods", json!([]));
    assert!(names.as_array().unwrap().contains(&json!("is_even")));
    assert!(
        names
            .as_array()
            .unwrap()
            .contains(&json!("system.listMethods"))
    );
    assert_eq!(
        client.result("system.methodSignature", json!(["is_even"])),
        json!(["n"])
    );
    let help = client.result("system.methodHelp", json!({"name": "is_even"}));
    assert_eq!(help, "Return True if n is even.");
    assert_eq!(
        client.call("system.methodHelp", json!(["nope"]))["error"]["code"],
        -32601
    );
    let workers = client.result("broker.workers", json!([]));
    assert_eq!(workers[0]["name"], "w");
    assert_eq!(workers[0]["slots"], 2);
    assert_eq!(workers[0]["slot_states"][1]["state"], "ready");
    let status = client.result("broker.status", json!([]));
    assert_eq!(status["slots"]["ready"], 2);
}

#[test]
fn a_multicall_answers_results_and_faults() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&["--settle", "0"]);
    let worker = FakeWorker::join(&context, &broker, "w", 1, &["echo"]);
    let client = broker.client(&context);
    let calls = json!([[{"methodName": "echo", "params": [5]}, {"methodName": "nope"}]]);
    client.send(
        json!({"jsonrpc": "2.0", "method": "system.multicall", "params": calls, "id": 9})
            .to_string(),
    );
    let given = worker.call(0);
    assert_eq!(given.params, "[5]");
    worker.reply(0, given.dispatch, "5");
    let reply: Value = serde_json::from_slice(&client.receive()).unwrap();
    let fault = json!({"faultCode": -32601, "faultString": "Method not found"});
    assert_eq!(
        reply,
        json!({"jsonrpc": "2.0", "result": [[5], fault], "id": 9})
    );
}
