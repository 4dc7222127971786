//! Slots as stock REP sockets behind a stock broker's DEALER, and commands as functions.

mod common;

use common::{Broker, Program, call, until};
use muster_proto::code::Code;
use muster_proto::socket::{Context, Frame, Kind, Profile, Socket};
use muster_proto::worker::Command;
use muster_test_support::is_alive;
use rustix::process::Signal;
use serde_json::{Value, json};

/// The backend of a stock ROUTER/DEALER broker.
struct Backend {
    socket: Socket,
    endpoint: String,
}

impl Backend {
    fn start() -> Self {
        let context = Context::new(1).unwrap();
        let socket = Socket::open(&context, Kind::Dealer, &Profile::Inproc).unwrap();
        socket.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = socket.last_endpoint().unwrap();
        Backend { socket, endpoint }
    }

    fn join(&self, flags: &[&str]) -> Program {
        Program::start(&[&["-n", "1", "--plain", &self.endpoint][..], flags].concat())
    }

    fn exchange(&self, frames: &[&[u8]]) -> Vec<Frame> {
        let mut message = vec![Frame::from("client"), Frame::empty()];
        message.extend(frames.iter().map(|&bytes| Frame::from(bytes)));
        common::send_all(&self.socket, message);
        let mut reply = Vec::new();
        assert!(
            self.socket
                .recv_timeout(&mut reply, common::PATIENCE)
                .unwrap()
        );
        assert_eq!((&reply[0][..], reply[1].len()), (&b"client"[..], 0));
        reply.split_off(2)
    }

    fn ask(&self, request: &str) -> Value {
        let reply = self.exchange(&[request.as_bytes()]);
        assert_eq!(reply.len(), 1);
        serde_json::from_slice(&reply[0]).unwrap()
    }
}

#[test]
fn json_rpc_is_answered_by_the_book() {
    let backend = Backend::start();
    let _program = backend.join(&[]);
    assert_eq!(
        backend.ask(r#"{"jsonrpc": "2.0", "method": "multiply", "params": [5, 3], "id": "a"}"#),
        json!({"jsonrpc": "2.0", "result": 15, "id": "a"})
    );
    let code = |request: &str| backend.ask(request)["error"]["code"].clone();
    assert_eq!(code(r#"{"jsonrpc":"2.0","method":"nope","id":1}"#), -32601);
    assert_eq!(
        code(r#"{"jsonrpc":"2.0","method":"multiply","params":[1],"id":1}"#),
        -32602
    );
    assert_eq!(code(r#"{"jsonrpc":"2.0","method":1}"#), -32600);
    assert_eq!(code(r#"{"jsonrpc": "2.0", "method": "#), -32700);
    assert_eq!(code("Hello"), -32700);
    assert_eq!(code("[]"), -32600);
    assert_eq!(
        code(r#"{"jsonrpc":"2.0","method":"fail","id":1}"#),
        Code::CallFailed.number()
    );
    // A REP must answer: a notification gets an empty frame.
    let reply = backend.exchange(&[br#"{"jsonrpc":"2.0","method":"hello"}"#]);
    assert_eq!((reply.len(), reply[0].len()), (1, 0));
    let reply = backend.exchange(&[br#"[{"jsonrpc":"2.0","method":"hello"}]"#]);
    assert_eq!((reply.len(), reply[0].len()), (1, 0));
    assert_eq!(
        backend.ask(
            r#"[{"jsonrpc":"2.0","method":"is_even","params":[2],"id":1}, 1,
                {"jsonrpc":"2.0","method":"hello"},
                {"jsonrpc":"2.0","method":"is_odd","params":{"n":2},"id":2}]"#
        ),
        json!([{"jsonrpc": "2.0", "result": true, "id": 1},
            {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null},
            {"jsonrpc": "2.0", "result": false, "id": 2}])
    );
    let chunk = r#"{"jsonrpc":"2.0","method":"is_even","params":[1,2],"id":1,"meta":{"map":true}}"#;
    assert_eq!(
        backend.ask(chunk)["result"],
        json!([{"result": false}, {"result": true}])
    );
    let echo = br#"{"jsonrpc":"2.0","method":"echo","params":[{"$frame":0}],"id":1}"#;
    let reply = backend.exchange(&[echo, b"attached"]);
    assert_eq!((reply.len(), &reply[1][..]), (2, &b"attached"[..]));
}

#[test]
fn python_functions_serve_a_stock_broker_and_their_child_is_replaced() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("m.py");
    let source = "import os\ndef pid(): return os.getpid()\ndef leave(): os._exit(3)\n\
                  def fail(): raise ValueError('no')\ndef square(x): return x * x\n";
    std::fs::write(&path, source).unwrap();
    let backend = Backend::start();
    let mut program = backend.join(&["--python", path.to_str().unwrap()]);
    let ask = |method: &str| {
        backend.ask(&format!(
            r#"{{"jsonrpc":"2.0","method":"{method}","id":1}}"#
        ))
    };
    let first = ask("pid")["result"].clone();
    assert_eq!(ask("fail")["error"]["data"]["type"], "ValueError");
    let lost = ask("leave")["error"].clone();
    assert_eq!(lost["code"], Code::WorkerLost.number());
    assert_eq!(lost["data"]["attempts"][0]["exit_code"], 3);
    assert_ne!(ask("pid")["result"], first);
    let map = r#"{"jsonrpc":"2.0","method":"square","params":[2,3],"id":1,"meta":{"map":true}}"#;
    assert_eq!(
        backend.ask(map)["result"],
        json!([{"result": 4}, {"result": 9}])
    );
    program.signal(Signal::TERM);
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn a_killed_plain_slot_is_replaced() {
    let backend = Backend::start();
    let program = backend.join(&["--name", "p"]);
    let request = r#"{"jsonrpc":"2.0","method":"pid","id":1}"#;
    let pid = backend.ask(request)["result"].as_u64().unwrap() as u32;
    common::kill(pid, Signal::KILL);
    until("the slot ends", || !is_alive(pid));
    let successor = || {
        common::children_of(program.pid())
            .into_iter()
            .find(|&other| other != pid)
    };
    until("its successor", || successor().is_some());
    assert_eq!(backend.ask(request)["result"], successor().unwrap());
}

#[test]
fn commands_are_functions() {
    let mut broker = Broker::start();
    let flags = [
        "-n",
        "1",
        "--command",
        "say=echo {}",
        "--command",
        "fail=sh -c 'echo no >&2; exit 3'",
    ];
    let _program = Program::join(&broker, &flags);
    let registration = broker.await_slots(1).clone();
    assert_eq!(registration.methods[0].doc, "Run the command: echo {}");
    assert!(!registration.methods[0].chunks);
    assert_eq!(broker.ok("say", r#"["a b", 5]"#), "a b 5");
    let error = broker.error("fail", "");
    assert_eq!(error["message"], "CommandFailed: exit code 3: no");
    assert_eq!(error["data"]["worker"], "w");
}

#[test]
fn a_cancelled_command_ends_and_so_does_one_of_a_killed_worker() {
    let mut broker = Broker::start();
    let program = Program::join(&broker, &["-n", "1", "--command", "wait=sleep 1000"]);
    broker.await_slots(1);
    let number = broker.send_calls(1, &[call("wait", "")])[0];
    until("the command runs", || {
        !common::children_of(program.pid()).is_empty()
    });
    let command = common::children_of(program.pid())[0];
    let name = broker.slot_call(1, 1, number);
    broker.command(Command::Cancel, vec![name]);
    assert_eq!(broker.reply().error()["code"], Code::Cancelled.number());
    until("the command ends", || !is_alive(command));
    broker.send_calls(1, &[call("wait", "")]);
    until("the command runs", || {
        !common::children_of(program.pid()).is_empty()
    });
    let command = common::children_of(program.pid())[0];
    common::kill(program.pid(), Signal::KILL);
    until("the command ends", || !is_alive(command));
}
