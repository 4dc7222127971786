//! Stock REP servers behind managed slots: `muster-worker --rep`.

mod common;

use common::{Broker, NewCall, PATIENCE, Program, call};
use muster_proto::code::Code;
use muster_proto::socket::{Context, Frame, Kind, Profile, SendOutcome, Socket};
use muster_proto::worker::{Command, flag};
use serde_json::{Value, json};

/// A stock REP server of this process.
struct Server {
    rep: Socket,
    endpoint: String,
}

impl Server {
    fn start() -> Self {
        Self::start_at(&Context::new(1).unwrap(), "tcp://127.0.0.1:*")
    }

    fn start_at(context: &Context, endpoint: &str) -> Self {
        let rep = Socket::open(context, Kind::Rep, &Profile::DataLink).unwrap();
        rep.bind(endpoint).unwrap();
        let endpoint = rep.last_endpoint().unwrap();
        Server { rep, endpoint }
    }

    fn request(&self) -> Vec<Frame> {
        let mut frames = Vec::new();
        assert!(self.rep.recv_timeout(&mut frames, PATIENCE).unwrap());
        frames
    }

    fn answer(&self, frames: &[&str]) {
        let frames = frames.iter().map(|&text| Frame::from(text));
        assert_eq!(self.rep.send(frames).unwrap(), SendOutcome::Sent);
    }
}

fn raw(body: &str) -> NewCall<'_> {
    NewCall {
        flags: flag::RAW,
        ..call("", body)
    }
}

#[test]
fn raw_bodies_pass_byte_for_byte() {
    let mut broker = Broker::start();
    let server = Server::start();
    let _program = Program::join(&broker, &["--rep", &server.endpoint]);
    let registration = broker.await_slots(1);
    assert!(registration.raw && registration.methods.is_empty());
    assert_eq!(registration.slots, 1);
    let parts = vec![b"".to_vec(), b"\0more".to_vec()];
    let new = NewCall {
        attachments: parts.clone(),
        ..raw("Hello")
    };
    broker.send_calls(1, &[new]);
    let request = server.request();
    assert!(
        request
            .iter()
            .map(|frame| &frame[..])
            .eq([&b"Hello"[..], b"", b"\0more"])
    );
    server.answer(&["World", "", "!"]);
    let answer = broker.reply();
    assert_eq!((&answer.body[..], answer.is_error), (&b"World"[..], false));
    assert_eq!(answer.attachments, [b"".to_vec(), b"!".to_vec()]);
    // Too large for its record.
    broker.send_calls(1, &[raw("more")]);
    server.request();
    let large = "x".repeat(1 << 20);
    server.answer(&[&large]);
    assert_eq!(broker.reply().body, large.as_bytes());
}

#[test]
fn json_rpc_methods_are_called_as_a_strict_server_expects() {
    let mut broker = Broker::start();
    let server = Server::start();
    let flag = format!("{},methods=double,fail", server.endpoint);
    let _program = Program::join(&broker, &["--rep", &flag]);
    let registration = broker.await_slots(1);
    let names: Vec<&str> = registration
        .methods
        .iter()
        .map(|m| m.name.as_str())
        .collect();
    assert_eq!((names, registration.raw), (vec!["double", "fail"], false));

    let mut exchange = |method: &str, params: &str, answer: &dyn Fn(&Value) -> String| {
        broker.send_calls(1, &[call(method, params)]);
        let request: Value = serde_json::from_slice(&server.request()[0]).unwrap();
        server.answer(&[&answer(&request["id"])]);
        (request, broker.reply())
    };
    let (request, reply) = exchange("double", "[21]", &|id| {
        json!({"jsonrpc": "2.0", "result": 42, "id": id}).to_string()
    });
    assert_eq!(
        request,
        json!({"jsonrpc": "2.0", "method": "double", "params": [21], "id": request["id"]})
    );
    assert_eq!(reply.ok(), 42);
    let (request, reply) = exchange("fail", "", &|id| {
        let error = json!({"code": 7, "message": "no", "data": [1]});
        json!({"jsonrpc": "2.0", "error": error, "id": id}).to_string()
    });
    assert!(request.get("params").is_none());
    assert_eq!(
        reply.error(),
        json!({"code": 7, "message": "no", "data": [1]})
    );
    let (_, reply) = exchange("double", "[1]", &|_| "World".into());
    assert_eq!(reply.error()["code"], Code::BadReply.number());
}

#[test]
fn a_server_that_goes_loses_its_call_and_its_return_is_told() {
    let mut broker = Broker::start();
    let folder = tempfile::tempdir().unwrap();
    let endpoint = format!("ipc://{}", folder.path().join("rep").display());
    let mut program = Program::join(&broker, &["--rep", &endpoint]);
    // Without its server the slot offers nothing.
    broker.until("a registration", |broker| broker.registration.is_some());
    let context = Context::new(1).unwrap();
    let server = Server::start_at(&context, &endpoint);
    broker.await_slots(1);
    broker.send_calls(1, &[raw("Hello")]);
    server.request();
    drop(server);
    let lost = broker.lost();
    assert_eq!((lost.slot, lost.on_purpose), (1, false));
    program.await_line("is gone");
    let server = Server::start_at(&context, &endpoint);
    broker.message(Command::Ready);
    broker.send_calls(1, &[raw("again")]);
    assert_eq!(server.request()[0][..], *b"again");
    server.answer(&["World"]);
    assert_eq!(broker.reply().body, b"World");
}

#[test]
fn each_server_has_a_slot_and_no_more_can_be_had() {
    let mut broker = Broker::start();
    let servers = [Server::start(), Server::start()];
    let [one, two] = &servers;
    let mut program = Program::join(&broker, &["--rep", &one.endpoint, "--rep", &two.endpoint]);
    broker.await_slots(2);
    for (server, slot) in servers.iter().zip(1..) {
        broker.send_calls(slot, &[raw("Hello")]);
        server.request();
        server.answer(&["World"]);
        assert_eq!(broker.reply().slot, slot);
    }
    broker.command(Command::Resize, vec![Frame::from("5")]);
    broker.command(Command::Resize, vec![Frame::from("1")]);
    program.await_line("1 slots from now on");
    assert!(!program.log.iter().any(|line| line.contains("5 slots")));
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused() {
    for flags in [
        &["--rep", "nowhere"][..],
        &["--rep", "tcp://127.0.0.1:1", "--python", "operator"],
    ] {
        let mut program = Program::start(flags);
        assert_eq!(program.wait().code(), Some(2));
    }
}
