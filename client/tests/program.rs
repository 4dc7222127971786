//! The `muster` program against a broker of a few lines.

mod fake;

use fake::{Doing, FakeBroker};
use muster_proto::code::Code;
use muster_proto::rpc::{CallView, RpcError};
use muster_test_support::end_of;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn answer(call: &CallView<'_>) -> Doing {
    let params: Value = serde_json::from_str(call.params.unwrap_or("null")).unwrap();
    match call.method.as_ref() {
        "echo" => Doing::Result(call.params.unwrap_or("null").to_owned()),
        "first" => Doing::Result(params[0].to_string()),
        "fail" => Doing::Error(RpcError::new(Code::CallFailed).message("ValueError: no").data(
            &json!({"type": "ValueError", "message": "no", "traceback": "Traceback\n  line 1"}),
        )),
        "missing" => Doing::Error(RpcError::new(Code::MethodNotFound)),
        "late" => Doing::Error(RpcError::new(Code::DeadlineExceeded)),
        "full" => Doing::Error(RpcError::overloaded("queued_calls", 1)),
        "odd" if params[0].as_i64().is_some_and(|n| n % 2 == 0) => {
            Doing::Error(RpcError::new(Code::CallFailed).message("even"))
        }
        "odd" => Doing::Result(params[0].to_string()),
        "broker.workers" => Doing::Result(
            json!([{"name": "a", "methods": ["first"]}, {"name": "b", "methods": []}]).to_string(),
        ),
        _ => Doing::Nothing,
    }
}

fn muster(base: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command
        .env_clear()
        .env("MUSTER_RUNTIME_DIR", base)
        .env("MUSTER_CLUSTER", "c")
        .env("HOME", base)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(base: &Path, args: &[&str]) -> Output {
    muster(base).args(args).output().unwrap()
}

fn run_with_input(base: &Path, args: &[&str], input: &str) -> Output {
    let mut child = muster(base)
        .args(args)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    output
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn call_prints_the_result_and_takes_json_strings_and_names() {
    let folder = tempfile::tempdir().unwrap();
    let _broker = FakeBroker::start(folder.path(), 1, answer);
    let base = folder.path();
    let cases: [(&[&str], &str); 9] = [
        (
            &["call", "echo", "5", "-3", "hello", "[1]"],
            "[5,-3,\"hello\",[1]]\n",
        ),
        (&["call", "echo", "--text", "5"], "[\"5\"]\n"),
        (
            &["call", "echo", "-p", "x=5", "-p", "y=a"],
            "{\"x\":5,\"y\":\"a\"}\n",
        ),
        (&["call", "first", "-r", "a\"b"], "a\"b\n"),
        (&["call", "first", "a"], "\"a\"\n"),
        (&["call", "first", "--json", "1"], "{\"result\":1}\n"),
        (&["call", "first", "--req", "2"], "2\n"),
        (&["call", "--raw", "Hello"], "World\n"),
        (&["call", "first", "--all", "3"], "[3]\n"),
    ];
    for (args, expected) in cases {
        let output = run(base, args);
        assert_eq!(stdout(&output), expected, "{args:?}: {}", stderr(&output));
        assert_eq!(output.status.code(), Some(0), "{args:?}");
    }
    let output = run(base, &["call", "note", "--no-wait"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
}

#[test]
fn a_failed_call_tells_why_and_exits_with_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let _broker = FakeBroker::start(folder.path(), 1, answer);
    let base = folder.path();
    let output = run(base, &["call", "fail"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    assert_eq!(
        stderr(&output),
        "muster: CallFailed: ValueError: no (-32000)\n  Traceback\n    line 1\n"
    );
    for (method, code) in [("late", 124), ("full", 75)] {
        assert_eq!(
            run(base, &["call", method]).status.code(),
            Some(code),
            "{method}"
        );
    }
    let output = run(base, &["call", "late", "--json"]);
    assert_eq!(output.status.code(), Some(124));
    assert!(stdout(&output).starts_with(r#"{"error":{"code":-32001,"#));
    assert_eq!(run(base, &["call"]).status.code(), Some(2));
    assert_eq!(run(base, &["scale", "many"]).status.code(), Some(2));
}

#[test]
fn a_wrong_turn_is_told_with_the_way_back() {
    let folder = tempfile::tempdir().unwrap();
    let _broker = FakeBroker::start(folder.path(), 1, answer);
    let base = folder.path();
    let (missing, directory) = ("/no/such/file", base.to_str().unwrap());
    let cases: [(&[&str], i32, &[&str]); 9] = [
        (&["call", "missing"], 1, &["muster methods"]),
        (
            &["call", "missing", "--to", "b"],
            1,
            &["worker b does not offer it"],
        ),
        (
            &["call", "missing", "--to", "z"],
            1,
            &["no worker is named z", "muster workers"],
        ),
        (
            &["call", "first", "[1, 2"],
            0,
            &["[1, 2 goes as a string", "--text"],
        ),
        (&["call", "first", "--text", "[1, 2"], 0, &[]),
        (
            &["call", "echo", "-p", "x=1", "-p", "x=2"],
            2,
            &["--param x is given twice"],
        ),
        (
            &["call", "first", "--timeout", "-1"],
            2,
            &["invalid value '-1' for '--timeout"],
        ),
        (&["map", "first", missing], 2, &[missing, "No such file"]),
        (&["map", "first", directory], 2, &["is a directory"]),
    ];
    for (args, code, parts) in cases {
        let output = run(base, args);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        for part in parts {
            assert!(text.contains(part), "{args:?}: {text}");
        }
        assert_eq!(text.is_empty(), parts.is_empty(), "{args:?}: {text}");
    }
}

#[test]
fn a_raw_body_that_nobody_takes_has_its_own_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let _broker = FakeBroker::start(folder.path(), 1, answer);
    for flags in [&["--req"][..], &[]] {
        let start = Instant::now();
        let mut args = vec!["call", "--raw", "Nobody", "--timeout", "200ms"];
        args.extend(flags);
        let output = run(folder.path(), &args);
        assert_eq!(output.status.code(), Some(124), "{}", stderr(&output));
        // A call's has two seconds more, for the broker's own answer.
        assert!(start.elapsed() < Duration::from_secs(2), "{flags:?}");
    }
}

#[test]
fn without_a_broker_every_command_says_what_to_run() {
    let folder = tempfile::tempdir().unwrap();
    let commands: [&[&str]; 6] = [
        &["call", "m"],
        &["map", "m"],
        &["status"],
        &["workers"],
        &["methods"],
        &["wait"],
    ];
    for args in commands {
        let output = run(folder.path(), args);
        assert_eq!(output.status.code(), Some(69), "{args:?}");
        let text = stderr(&output);
        assert!(text.contains("c/cluster.json"), "{text}");
        assert!(text.contains("muster up -n 4"), "{text}");
    }
    assert_eq!(run(folder.path(), &["ls"]).status.code(), Some(0));
}

#[test]
fn a_call_that_nobody_can_run_says_that_it_waits_and_is_cancelled_by_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let broker = FakeBroker::start(folder.path(), 1, answer);
    let mut child = muster(folder.path())
        .args(["call", "unknown"])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert_eq!(
        lines.next().unwrap().unwrap(),
        "muster: no worker offers unknown now; the call waits for one"
    );
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(end_of(&mut child).code(), Some(130));
    assert_eq!(broker.wait_seen(2)[1].method, "broker.cancel");
}

#[test]
fn map_answers_every_line_in_order_and_counts_failures() {
    let folder = tempfile::tempdir().unwrap();
    let _broker = FakeBroker::start(folder.path(), 1, answer);
    let base = folder.path();
    let output = run_with_input(base, &["map", "first"], "1\nabc\n[1,2]\n\n");
    assert_eq!(stdout(&output), "1\n\"abc\"\n[1,2]\n\"\"\n");
    assert_eq!(output.status.code(), Some(0));
    assert!(
        stderr(&output).starts_with("muster: done: 4 items in "),
        "{}",
        stderr(&output)
    );

    let output = run_with_input(base, &["map", "odd", "-q"], "1\n2\n3\n");
    assert_eq!(
        stdout(&output),
        "1\n{\"error\":{\"code\":-32000,\"message\":\"even\"}}\n3\n"
    );
    assert_eq!(
        (output.status.code(), stderr(&output).as_str()),
        (Some(1), "")
    );

    let output = run_with_input(base, &["map", "echo", "--spread", "-q"], "[1,2]\n3\n");
    assert_eq!(stdout(&output), "[1,2]\n[3]\n");
    let output = run_with_input(base, &["map", "first", "-0", "-r", "-q"], "a\nb\0c\0");
    assert_eq!(stdout(&output), "a\nb\nc\n");
    let file = base.join("input");
    std::fs::write(&file, "5\n6").unwrap();
    let output = run(
        base,
        &["map", "first", "--text", "-q", file.to_str().unwrap()],
    );
    assert_eq!(stdout(&output), "\"5\"\n\"6\"\n");
}

#[test]
fn map_answers_a_line_before_the_next_one_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let _broker = FakeBroker::start(folder.path(), 1, answer);
    let mut child = muster(folder.path())
        .args(["map", "first"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for n in 0..5 {
        writeln!(stdin, "{n}").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), n.to_string());
    }
    drop(stdin);
    assert!(lines.next().is_none());
    assert_eq!(end_of(&mut child).code(), Some(0));
}

#[test]
fn map_ends_quietly_when_nobody_reads_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let _broker = FakeBroker::start(folder.path(), 1, answer);
    let mut child = muster(folder.path())
        .args(["map", "first", "-q"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let feeder = std::thread::spawn(move || while stdin.write_all(b"1\n2\n3\n").is_ok() {});
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "1\n");
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), stderr(&output).as_str()),
        (Some(0), "")
    );
    feeder.join().unwrap();
}

#[test]
fn an_interrupted_map_cancels_and_exits_with_130() {
    let folder = tempfile::tempdir().unwrap();
    let broker = FakeBroker::start(folder.path(), 1, answer);
    let mut child = muster(folder.path())
        .args(["map", "unknown"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"1\n2\n").unwrap();
    broker.wait_seen(2);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(end_of(&mut child).code(), Some(130));
    let cancels = broker.wait_seen(4).split_off(2);
    assert!(cancels.iter().all(|call| call.method == "broker.cancel"));
}

#[test]
fn wait_ends_when_the_slots_are_there_or_the_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().to_path_buf();
    let early = muster(&base)
        .args(["wait", "--slots", "2", "--timeout", "20"])
        .spawn()
        .unwrap();
    let _broker = FakeBroker::start(&base, 1, answer);
    assert_eq!(early.wait_with_output().unwrap().status.code(), Some(0));
    let start = Instant::now();
    let output = run(&base, &["wait", "--slots", "3", "--timeout", "100ms"]);
    assert_eq!(output.status.code(), Some(124));
    assert!(start.elapsed() >= Duration::from_millis(100));
    assert!(stderr(&output).contains("2 of 3"), "{}", stderr(&output));
}

#[test]
fn methods_print_signature_and_help() {
    let folder = tempfile::tempdir().unwrap();
    let _broker = FakeBroker::start(folder.path(), 1, |call| match call.method.as_ref() {
        "broker.methods" => Doing::Result(
            json!([{
                "name": "is_even", "params": [{"name": "n"}], "doc": "Return True if n is even.",
                "once": false, "chunks": true, "workers": 1, "slots": 4, "service_us": null,
            }])
            .to_string(),
        ),
        _ => Doing::Nothing,
    });
    let output = run(folder.path(), &["methods", "--long"]);
    assert_eq!(
        stdout(&output),
        "Method -- is_even\n  Signature: ['n']\n  Help : Return True if n is even.\n"
    );
    assert_eq!(stdout(&run(folder.path(), &["methods"])), "is_even\n");
    let output = run(folder.path(), &["help", "is_even"]);
    assert!(stdout(&output).starts_with("is_even(n)\n  Return True if n is even.\n"));
    assert_eq!(run(folder.path(), &["help", "nope"]).status.code(), Some(1));
}
