//! Python functions: what is offered, what travels, and what can go wrong.

mod common;

use common::{Broker, NewCall, Program, call, chunk};
use muster_proto::code::Code;
use muster_proto::worker::{Command, SlotReady, flag};
use muster_test_support::is_alive;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::path::PathBuf;

/// A folder with Python files.
struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Files(folder)
    }

    fn path(&self, name: &str) -> String {
        let path: PathBuf = self.0.path().join(name);
        path.to_str().unwrap().to_owned()
    }
}

/// A worker with one slot that offers the functions of one file.
fn host(source: &str) -> (Broker, Program, Files) {
    let files = Files::new(&[("methods.py", source)]);
    let mut broker = Broker::start();
    let program = Program::join(&broker, &["-n", "1", "--python", &files.path("methods.py")]);
    broker.await_slots(1);
    (broker, program, files)
}

/// Starts a worker that must not come up; its log.
fn refused(files: &Files, flags: &[&str]) -> String {
    let folder = files.0.path().to_str().unwrap();
    let all: Vec<&str> = [&["--runtime-dir", folder, "-n", "1"][..], flags].concat();
    let mut program = Program::start(&all);
    assert_eq!(program.wait().code(), Some(2), "{:?}", program.log);
    program.log.join("\n")
}

fn names(broker: &Broker) -> Vec<String> {
    let mut names: Vec<String> = broker
        .registration
        .as_ref()
        .unwrap()
        .methods
        .iter()
        .map(|method| method.name.clone())
        .collect();
    names.sort();
    names
}

const METHODS: &str = r#"
import math
from os.path import join
import functools

def is_even(n):
    """Return True if n is even."""
    return n % 2 == 0

def f(a, b=2, *args, c, **rest): pass

def _private(): pass

@functools.lru_cache(maxsize=None)
def cached(n):
    return n

class Calculator:
    """Not offered itself."""
    scale = 2

    def __init__(self):
        self.factor = 1

    @property
    def trap(self):
        raise RuntimeError("properties do not run")

    def multiply(self, x, y):
        "Return x * y."
        return x * y * self.factor

    @staticmethod
    def static(x): return x

    @classmethod
    def scaled(cls, x): return x * cls.scale

    def _hidden(self): pass

calculator = Calculator()
LIMIT = 5
"#;

#[test]
fn public_functions_and_methods_of_instances_are_offered_by_their_bare_names() {
    let (mut broker, _program, _files) = host(METHODS);
    assert_eq!(
        names(&broker),
        ["cached", "f", "is_even", "multiply", "scaled", "static"]
    );
    let methods = serde_json::to_value(&broker.registration.as_ref().unwrap().methods).unwrap();
    let find = |name: &str| {
        methods
            .as_array()
            .unwrap()
            .iter()
            .find(|m| m["name"] == name)
            .unwrap()
            .clone()
    };
    let is_even = find("is_even");
    assert_eq!(is_even["params"], json!([{"name": "n"}]));
    assert_eq!(is_even["doc"], "Return True if n is even.");
    assert_eq!(is_even["chunks"], true);
    assert_eq!(
        find("multiply")["params"],
        json!([{"name": "x"}, {"name": "y"}])
    );
    assert_eq!(
        find("f")["params"],
        json!([{"name": "a"}, {"name": "b", "optional": true}, {"name": "*args", "optional": true},
            {"name": "c"}, {"name": "**rest", "optional": true}])
    );
    assert_eq!(broker.ok("is_even", "[4]"), true);
    assert_eq!(broker.ok("multiply", "[5,3]"), 15);
    assert_eq!(broker.ok("multiply", r#"{"y":3,"x":5}"#), 15);
    assert_eq!(broker.ok("scaled", "[4]"), 8);
    assert_eq!(broker.ok("cached", "[4]"), 4);
}

#[test]
fn all_decides_when_there_is_one() {
    let source = "from math import sqrt\n__all__ = ['sqrt', 'g', 'Thing']\n\
                  def g(): return 1\ndef h(): return 2\nclass Thing: pass\n";
    let (mut broker, _program, _files) = host(source);
    assert_eq!(names(&broker), ["g", "sqrt"]);
    assert_eq!(broker.ok("sqrt", "[16]"), 4.0);
}

#[test]
fn a_module_of_the_library_is_named_and_a_prefix_put_in_front() {
    let mut broker = Broker::start();
    let flags = [
        "-n", "1", "--python", "operator", "--python", "binascii", "--prefix", "std.",
    ];
    let _program = Program::join(&broker, &flags);
    broker.await_slots(1);
    assert_eq!(broker.ok("std.add", "[2,2]"), 4);
    assert_eq!(
        broker.ok("std.crc32", r#"[{"$base64":"YWJj"}]"#),
        891_568_578
    );
    let registration = broker.registration.as_ref().unwrap();
    let add = registration
        .methods
        .iter()
        .find(|method| method.name == "std.add")
        .unwrap();
    assert_eq!(add.params.as_ref().unwrap().len(), 2);
    assert!(!add.doc.is_empty());
}

#[test]
fn two_functions_of_one_name_are_refused_and_one_function_twice_is_not() {
    let files = Files::new(&[
        ("a.py", "def add(x, y): return x + y\n"),
        ("b.py", "def add(x, y): return y + x\n"),
        ("c.py", "from a import add\n__all__ = ['add']\n"),
        (
            "d.py",
            "class C:\n def m(self): pass\none = C()\ntwo = C()\n",
        ),
        ("e.py", "LIMIT = 1\n"),
    ]);
    let log = refused(
        &files,
        &[
            "--python",
            &files.path("a.py"),
            "--python",
            &files.path("b.py"),
        ],
    );
    assert!(
        log.contains("method add is claimed by two functions"),
        "{log}"
    );
    assert!(
        log.contains("a.py: add") && log.contains("b.py: add"),
        "{log}"
    );
    let log = refused(&files, &["--python", &files.path("d.py")]);
    assert!(log.contains("one.m") && log.contains("two.m"), "{log}");
    let log = refused(&files, &["--python", &files.path("e.py")]);
    assert!(log.contains("offers no public function"), "{log}");
    let mut broker = Broker::start();
    let (a, c) = (files.path("a.py"), files.path("c.py"));
    let _program = Program::join(&broker, &["-n", "1", "--python", &a, "--python", &c]);
    broker.await_slots(1);
    assert_eq!(broker.ok("add", "[2,3]"), 5);
}

#[test]
fn a_file_that_does_not_load_ends_the_worker_with_file_line_and_message() {
    let files = Files::new(&[
        ("syntax.py", "def good(): pass\n\ndef broken(:\n    pass\n"),
        ("raises.py", "import os\n\nvalue = 1 / 0\n"),
        ("inner.py", "import syntax\n"),
        ("leaves.py", "import sys\nsys.exit(3)\n"),
        (
            "dies.py",
            "import os, sys\nsys.stderr.write('last words\\n')\nos._exit(7)\n",
        ),
    ]);
    let log = refused(&files, &["--python", &files.path("syntax.py")]);
    assert!(log.contains("syntax.py, line 3: SyntaxError: "), "{log}");
    let log = refused(&files, &["--python", &files.path("raises.py")]);
    assert!(
        log.contains("raises.py, line 3: ZeroDivisionError: division by zero"),
        "{log}"
    );
    assert!(
        log.contains("Traceback") && !log.contains("<muster host>"),
        "{log}"
    );
    let log = refused(&files, &["--python", &files.path("inner.py")]);
    assert!(log.contains("syntax.py, line 3: SyntaxError"), "{log}");
    let log = refused(&files, &["--python", &files.path("leaves.py")]);
    assert!(log.contains("leaves.py, line 2: SystemExit: 3"), "{log}");
    let log = refused(&files, &["--python", &files.path("dies.py")]);
    assert!(
        log.contains("exit code 7") && log.contains("last words"),
        "{log}"
    );
    let log = refused(&files, &["--python", "no_such_module_here"]);
    assert!(log.contains("ModuleNotFoundError"), "{log}");
}

#[test]
fn exceptions_come_back_with_type_message_and_traceback() {
    let source = r#"
import sys

class OwnError(Exception): pass
class Silent(Exception):
    def __str__(self): raise RuntimeError("no text")

def inner(n): return 1 / n
def fail(n): return inner(n)
def own(): raise OwnError("mine", 5)
def leave(): sys.exit(4)
def interrupt(): raise KeyboardInterrupt
def silent(): raise Silent
def deep(): return deep()
def chained():
    try:
        inner(0)
    except ZeroDivisionError as error:
        raise ValueError("wrong") from error
def one(n): return n
"#;
    let (mut broker, program, _files) = host(source);
    let error = broker.error("fail", "[0]");
    assert_eq!(error["code"], Code::CallFailed.number());
    assert_eq!(error["message"], "ZeroDivisionError: division by zero");
    let data = &error["data"];
    assert_eq!(
        (&data["type"], &data["worker"]),
        (&json!("ZeroDivisionError"), &json!("w"))
    );
    assert_eq!(data["pid"], broker.slot_pid(1));
    let traceback = data["traceback"].as_str().unwrap();
    assert!(
        traceback.contains("in inner") && traceback.contains("in fail"),
        "{traceback}"
    );
    assert!(!traceback.contains("<muster host>"), "{traceback}");
    assert_eq!(broker.error("own", "")["data"]["type"], "methods.OwnError");
    assert_eq!(broker.error("leave", "")["data"]["type"], "SystemExit");
    assert_eq!(
        broker.error("interrupt", "")["data"]["type"],
        "KeyboardInterrupt"
    );
    assert_eq!(broker.error("silent", "")["data"]["type"], "methods.Silent");
    assert_eq!(broker.error("deep", "")["data"]["type"], "RecursionError");
    let chained = broker.error("chained", "");
    assert!(
        chained["data"]["traceback"]
            .as_str()
            .unwrap()
            .contains("direct cause")
    );
    // Wrong arguments are what Python says of them.
    let error = broker.error("one", "[]");
    assert_eq!(
        (&error["code"], &error["data"]["type"]),
        (&json!(-32000), &json!("TypeError"))
    );
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("missing 1 required"),
        "{error}"
    );
    assert_eq!(
        broker.error("one", r#"{"m":1}"#)["data"]["type"],
        "TypeError"
    );
    assert_eq!(broker.ok("one", "[1]"), 1);
    assert!(is_alive(program.pid()));
}

#[test]
fn prints_and_writes_to_descriptors_go_to_the_log() {
    let source = r#"
import ctypes, os, subprocess, sys

print("while loading")

def talk():
    print("printed", flush=True)
    sys.stderr.write("to stderr\n")
    os.write(1, b"to descriptor 1\n")
    os.write(2, b"to descriptor 2\n")
    libc = ctypes.CDLL(None)
    libc.puts(b"from C")
    libc.fflush(None)
    subprocess.run(["echo", "from a child"])
    return [sys.stdin.read(), os.read(0, 10).decode()]
"#;
    let (mut broker, mut program, _files) = host(source);
    assert_eq!(broker.ok("talk", ""), json!(["", ""]));
    assert_eq!(broker.ok("talk", ""), json!(["", ""]));
    for text in [
        "while loading",
        "printed",
        "to stderr",
        "to descriptor 1",
        "to descriptor 2",
        "from C",
        "from a child",
    ] {
        assert!(program.await_line(text).contains("slot=w.1"));
    }
}

#[test]
fn values_survive_the_round_trip() {
    let source = "def same(x): return x\ndef kind(x): return type(x).__name__\n\
                  def surrogate(): return '\\ud800x'\ndef power(n): return 2 ** n\n";
    let (mut broker, _program, _files) = host(source);
    for value in [
        "null",
        "true",
        "false",
        "0",
        "-7",
        "1099511627776",
        "18446744073709551616",
        "-340282366920938463463374607431768211456",
        "1.5",
        "1e+300",
        "-0.0",
        r#""""#,
        r#""ü€😀\n""#,
        "[]",
        "{}",
        r#"{"a":[1,{"b":[null,[],""]}]}"#,
        r#"{"":1,"1":2}"#,
    ] {
        let answer = broker.run(1, call("same", &format!("[{value}]")));
        assert!(!answer.is_error);
        assert_eq!(String::from_utf8(answer.body).unwrap(), value);
    }
    let answer = broker.run(1, call("power", "[200]"));
    assert_eq!(
        String::from_utf8(answer.body).unwrap(),
        "1606938044258990275541962092341162602522202993782792835301376"
    );
    // A lone surrogate has no UTF-8 and stays an escape.
    let answer = broker.run(1, call("same", r#"["a\ud800"]"#));
    assert_eq!(String::from_utf8(answer.body).unwrap(), r#""a\ud800""#);
    assert_eq!(broker.run(1, call("surrogate", "")).body, br#""\ud800x""#);
    assert_eq!(broker.ok("kind", "[1.0]"), "float");
    assert_eq!(broker.ok("kind", "[1]"), "int");
}

#[test]
fn results_that_json_cannot_hold_name_their_type() {
    let source = r#"
class Thing: pass
def nan(): return float("nan")
def nested_inf(): return {"a": [float("inf")]}
def a_set(): return {1, 2}
def a_thing(): return [1, {"t": Thing()}]
def a_key(): return {(1, 2): 3}
def a_complex(): return 1j
def loop():
    x = []
    x.append(x)
    return x
def a_tuple(): return (1, (2,))
def int_keys(): return {1: "a"}
"#;
    let (mut broker, _program, _files) = host(source);
    for (method, word) in [
        ("nan", "float"),
        ("nested_inf", "float"),
        ("a_set", "set"),
        ("a_thing", "methods.Thing"),
        ("a_key", "tuple"),
        ("a_complex", "complex"),
        ("loop", "ircular"),
    ] {
        let error = broker.error(method, "");
        assert_eq!(error["code"], Code::CallFailed.number(), "{method}");
        assert_eq!(error["data"]["type"], "TypeError", "{method}");
        assert!(
            error["message"].as_str().unwrap().contains(word),
            "{method}: {error}"
        );
        // What failed to be encoded leaves nothing behind.
        assert_eq!(broker.ok("a_tuple", ""), json!([1, [2]]));
    }
    assert_eq!(broker.ok("int_keys", ""), json!({"1": "a"}));
}

#[test]
fn bytes_are_attachments_or_base64() {
    let source = r#"
def size(x): return [type(x).__name__, len(x)]
def both(x): return {"a": x[::-1], "b": [bytearray(b"b"), memoryview(b"c")]}
def shape(): return [{"$frame": 0}, {"$base64": "x", "y": 1}, b"z"]
def literal(x): return x
def many(n): return [b""] * n
"#;
    let (mut broker, _program, _files) = host(source);
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
    let framed = |method, params, attachments| NewCall {
        attachments,
        flags: flag::FRAMES,
        ..call(method, params)
    };
    let answer = broker.run(
        1,
        framed("size", r#"[{"$frame":1}]"#, vec![vec![], large.clone()]),
    );
    assert_eq!(answer.ok(), json!(["bytes", 3_000_000]));
    let answer = broker.run(1, framed("both", r#"[{"$frame":0}]"#, vec![large.clone()]));
    assert_eq!(
        answer.ok(),
        json!({"a": {"$frame": 0}, "b": [{"$frame": 1}, {"$frame": 2}]})
    );
    let reversed: Vec<u8> = large.iter().rev().copied().collect();
    assert_eq!(answer.attachments, [reversed, b"b".to_vec(), b"c".to_vec()]);
    assert_eq!(
        broker.ok("size", r#"[{"$base64":"AAEC"}]"#),
        json!(["bytes", 3])
    );
    let answer = broker.run(1, call("both", r#"[{"$base64":"YWI="}]"#));
    assert_eq!(answer.ok()["a"], json!({"$base64": "YmE="}));
    // Objects of the function's own that look like attachments are marked as none.
    let answer = broker.run(1, framed("shape", "", vec![]));
    let expected = json!([{"$literal": {"$frame": 0}}, {"$base64": "x", "y": 1}, {"$frame": 0}]);
    assert_eq!(
        (answer.ok(), answer.attachments),
        (expected, vec![b"z".to_vec()])
    );
    let literal = r#"[{"$literal":{"$frame":7}}]"#;
    assert_eq!(
        broker.ok("literal", literal),
        json!({"$literal": {"$frame": 7}})
    );
    for params in [
        r#"[{"$frame":1}]"#,
        r#"[[{"$frame":-1}]]"#,
        r#"[{"$frame":"x"}]"#,
    ] {
        let error = broker.run(1, framed("size", params, vec![vec![1]])).error();
        assert_eq!(error["code"], -32602, "{params}");
        assert!(
            error["message"].as_str().unwrap().contains("missing"),
            "{error}"
        );
    }
    assert_eq!(broker.error("size", r#"[{"$base64":"?"}]"#)["code"], -32602);
    let error = broker.run(1, framed("many", "[61]", vec![])).error();
    assert_eq!(error["data"]["type"], "TypeError");
}

#[test]
fn a_child_that_ends_is_told_with_its_reason_and_replaced() {
    let source = r#"
import os, signal, sys
def leave(code):
    sys.stderr.write("last words\n")
    sys.stderr.flush()
    os._exit(code)
def crash(): os.kill(os.getpid(), signal.SIGSEGV)
def pid(): return os.getpid()
def fork_and_return():
    if os.fork() == 0:
        return "copy"
    os.wait()
    return "original"
"#;
    let (mut broker, _program, _files) = host(source);
    let first = broker.slot_pid(1);
    assert_eq!(broker.ok("pid", ""), first);
    broker.send_calls(1, &[call("pid", ""), call("leave", "[3]"), call("pid", "")]);
    assert_eq!(
        broker.reply().ok(),
        first,
        "what was answered before is not lost"
    );
    let lost = broker.lost();
    assert_eq!(
        (lost.slot, lost.pid, lost.exit_code, lost.signal),
        (1, first, Some(3), None)
    );
    assert!(
        lost.stderr_tail.contains("last words") && lost.backoff_ms == 0,
        "{lost:?}"
    );
    let ready: SlotReady = broker.message(Command::Ready).json();
    assert_ne!(ready.pid, first);
    assert!(
        !broker.has_reply(),
        "what had not started is the broker's again"
    );
    assert_eq!(broker.ok("pid", ""), ready.pid);
    broker.send_calls(1, &[call("crash", "")]);
    let lost = broker.lost();
    assert_eq!((lost.exit_code, lost.signal), (None, Some(11)));
    broker.message(Command::Ready);
    // A copy that a function made of the process does not answer in its place.
    assert_eq!(broker.ok("fork_and_return", ""), "original");
    assert_eq!(broker.ok("fork_and_return", ""), "original");
}

#[test]
fn an_idle_child_that_is_killed_is_replaced_too() {
    let (mut broker, _program, _files) = host("def one(): return 1\n");
    let first = broker.slot_pid(1);
    common::kill(first, Signal::KILL);
    assert_eq!(broker.lost().pid, first);
    broker.message(Command::Ready);
    assert_eq!(broker.ok("one", ""), 1);
}

#[test]
fn a_cancelled_call_ends_with_its_child_and_the_next_one_works() {
    let (mut broker, _program, _files) = host("import time\ndef wait(s): time.sleep(s)\n");
    let pid = broker.slot_pid(1);
    let number = broker.send_calls(1, &[call("wait", "[1000]")])[0];
    let name = broker.slot_call(1, 1, number);
    // It may overtake the call: then the call is prevented instead.
    broker.ok_or_lost_after_cancel(name);
    assert_eq!(broker.ok("wait", "[0]"), Value::Null);
    let _ = pid;
}

impl Broker {
    fn ok_or_lost_after_cancel(&mut self, name: muster_proto::socket::Frame) {
        // The call has started when the child has been given it: a second call, parked behind it,
        // is recalled only then.
        self.command(Command::Cancel, vec![name]);
        let mut is_over = false;
        self.until("the end of the call", |broker| {
            if broker.has_reply() {
                let answer = broker.reply();
                assert_eq!(answer.error()["code"], Code::Cancelled.number());
                is_over = true;
            } else if broker.has_message(Command::Ready) {
                let lost = broker.lost();
                assert!(lost.on_purpose && lost.signal == Some(9) && lost.backoff_ms == 0);
                is_over = true;
            }
            is_over
        });
    }
}

#[test]
fn chunks_keep_order_and_failures_apart() {
    let source = r#"
def square(x): return x * x
def invert(n): return 100 / n
def text(x): return str(x)
def pair(x): return [x, {"x": x}]
def stop(x):
    if x == 2: raise StopIteration
    return x
def exits(x):
    if x == 2: raise SystemExit(1)
    return x
def odd(x): return x if x % 2 else {x}
def mixed(x): return [None, True, 1.5, "a,b}", 7, float("nan")][x]
"#;
    let (mut broker, _program, _files) = host(source);
    let items = |n: u32| {
        let numbers: Vec<String> = (0..n).map(|n| n.to_string()).collect();
        format!("[{}]", numbers.join(","))
    };
    let answer = broker.run(1, chunk("square", &items(10_000)));
    assert_eq!(answer.items, 10_000);
    let body = if answer.is_whole {
        answer.ok()["result"].clone()
    } else {
        answer.ok()
    };
    for (n, item) in body.as_array().unwrap().iter().enumerate() {
        assert_eq!(item, &json!({"result": n * n}));
    }
    let result = |value: Value| json!({ "result": value });
    let out = broker.run(1, chunk("invert", "[5,0,20]")).ok();
    assert_eq!(
        (&out[0], &out[2]),
        (&result(json!(20.0)), &result(json!(5.0)))
    );
    assert_eq!(out[1]["error"]["data"]["type"], "ZeroDivisionError");
    let out = broker.run(1, chunk("text", r#"[1,"a,b","ü"]"#)).ok();
    assert_eq!(
        out,
        json!([{"result": "1"}, {"result": "a,b"}, {"result": "ü"}])
    );
    let out = broker.run(1, chunk("pair", "[1,2]")).ok();
    assert_eq!(out[1], result(json!([2, {"x": 2}])));
    let out = broker.run(1, chunk("stop", "[1,2,3]")).ok();
    assert_eq!((&out[0], &out[2]), (&result(json!(1)), &result(json!(3))));
    assert!(
        out[1]["error"]["message"]
            .as_str()
            .unwrap()
            .contains("StopIteration"),
        "{out}"
    );
    let out = broker.run(1, chunk("exits", "[1,2,3]")).ok();
    assert_eq!(out[1]["error"]["data"]["type"], "SystemExit");
    assert_eq!(out[2], result(json!(3)));
    let out = broker.run(1, chunk("odd", "[1,2,3]")).ok();
    assert!(
        out[1]["error"]["message"].as_str().unwrap().contains("set"),
        "{out}"
    );
    assert_eq!((&out[0], &out[2]), (&result(json!(1)), &result(json!(3))));
    let out = broker.run(1, chunk("mixed", "[0,1,2,3,4]")).ok();
    assert_eq!(out[3], result(json!("a,b}")));
    assert_eq!(out[4], result(json!(7)));
    let out = broker.run(1, chunk("mixed", "[0,5]")).ok();
    assert_eq!(
        (&out[0], out[1]["error"]["code"].as_i64()),
        (&result(Value::Null), Some(-32000))
    );
}

#[test]
fn an_item_that_takes_too_long_fails_alone_or_takes_its_child() {
    let source = r#"
import collections, itertools, time
def slow(x):
    if x: time.sleep(1000)
    return x
def stubborn(x):
    try:
        time.sleep(1000)
    except Exception:
        return "swallowed"
def stuck(x):
    collections.deque(itertools.repeat(x), maxlen=0)
"#;
    let (mut broker, _program, _files) = host(source);
    let timed = |method, items| NewCall {
        timeout_ms: 50,
        ..chunk(method, items)
    };
    let out = broker.run(1, timed("slow", "[0,1,0]")).ok();
    assert_eq!(out[1]["error"]["code"], Code::DeadlineExceeded.number());
    assert_eq!(
        (&out[0], &out[2]),
        (&json!({"result": 0}), &json!({"result": 0}))
    );
    let out = broker.run(1, timed("stubborn", "[0]")).ok();
    assert_eq!(out[0]["error"]["code"], Code::DeadlineExceeded.number());
    // C code that does not come back to Python cannot be interrupted.
    let error = broker.run(1, timed("stuck", "[0]")).error();
    assert_eq!(error["code"], Code::DeadlineExceeded.number());
    assert!(broker.lost().on_purpose);
    broker.message(Command::Ready);
    assert_eq!(
        broker.run(1, timed("slow", "[0]")).ok(),
        json!([{"result": 0}])
    );
}

#[test]
fn short_calls_share_messages_and_keep_their_order() {
    let (mut broker, _program, _files) = host("def add(x, y): return x + y\n");
    broker.ok("add", "[1,1]");
    let params: Vec<String> = (0..500).map(|n| format!("[{n},1]")).collect();
    let calls: Vec<_> = params.iter().map(|params| call("add", params)).collect();
    let numbers = broker.send_calls(1, &calls);
    let mut messages = std::collections::BTreeSet::new();
    for (n, number) in numbers.into_iter().enumerate() {
        let answer = broker.reply();
        assert_eq!((answer.call, answer.ok()), (number, json!(n + 1)));
        messages.insert(answer.message);
    }
    assert!(messages.len() < 250, "{} messages", messages.len());
}

#[test]
fn a_recalled_call_does_not_run() {
    let source = "import time\nseen = []\ndef note(x):\n    seen.append(x)\n    time.sleep(0.05)\n\
                  def all_seen(): return seen\n";
    let (mut broker, _program, _files) = host(source);
    let calls = [
        call("note", "[1]"),
        call("note", "[2]"),
        call("note", "[3]"),
    ];
    let numbers = broker.send_calls(1, &calls);
    let name = broker.slot_call(1, 3, numbers[2]);
    broker.command(Command::Recall, vec![name]);
    assert!(broker.recalled()[0].given_back);
    broker.reply().ok();
    broker.reply().ok();
    assert_eq!(broker.ok("all_seen", ""), json!([1, 2]));
}

#[test]
fn files_see_their_folder_and_children_the_working_directory() {
    let files = Files::new(&[
        ("neighbour.py", "VALUE = 7\n"),
        (
            "json.py",
            "import os\nimport neighbour\n\
                     def value(): return neighbour.VALUE\ndef here(): return os.getcwd()\n",
        ),
    ]);
    let mut broker = Broker::start();
    let folder = files.0.path().canonicalize().unwrap();
    let folder = folder.to_str().unwrap();
    // A file may have the name of a module of the library.
    let _program = Program::join(
        &broker,
        &["-n", "1", "--chdir", folder, "--python", "json.py"],
    );
    broker.await_slots(1);
    assert_eq!(broker.ok("value", ""), 7);
    assert_eq!(broker.ok("here", ""), folder);
}

#[test]
fn every_slot_has_a_memory_of_its_own_and_shows_its_name() {
    let files = Files::new(&[(
        "m.py",
        "count = 0\ndef bump():\n    global count\n    count += 1\n    return count\n",
    )]);
    let mut broker = Broker::start();
    let _program = Program::join(
        &broker,
        &["-n", "2", "--python", &files.path("m.py"), "--once", "b*"],
    );
    assert!(broker.await_slots(2).methods[0].once);
    assert_eq!(broker.ok("bump", ""), 1);
    assert_eq!(broker.ok("bump", ""), 2);
    assert_eq!(broker.run(2, call("bump", "")).ok(), 1);
    for slot in 1..=2 {
        let pid = broker.slot_pid(slot);
        let argv = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        assert!(argv.ends_with(&format!("\0w.{slot}\0")), "{argv}");
    }
}

#[test]
fn children_end_with_a_killed_worker() {
    let source = "import time\ndef wait():\n    time.sleep(1000)\n";
    let (mut broker, program, _files) = host(source);
    let pid = broker.slot_pid(1);
    broker.send_calls(1, &[call("wait", "")]);
    common::kill(program.pid(), Signal::KILL);
    common::until("the child ends", || !is_alive(pid));
}
