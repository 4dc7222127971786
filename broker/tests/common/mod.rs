//! Real brokers and peers for the tests: private directories, system-picked ports, bounded waits,
//! and nothing left running when a test panics.
#![allow(dead_code, missing_docs)]

pub mod honest;
pub mod keys;
pub mod shim;

use muster_proto::id::DispatchId;
use muster_proto::socket::{Context, Frame, Kind, Profile, SendOutcome, Socket};
use muster_proto::worker::{self, Bytes, Call, Command, Join, Method, Registration, Welcome, flag};
use muster_test_support::resident_kib;
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

/// Longer than anything a test waits for takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `check` gives something.
pub fn wait_for<T>(what: &str, check: impl FnMut() -> Option<T>) -> T {
    muster_test_support::wait_for(what, PATIENCE, check)
}

/// A broker process with a runtime directory of its own.
pub struct Broker {
    pub child: Child,
    pub folder: tempfile::TempDir,
    args: Vec<String>,
    /// What starts it, if it is not started by itself.
    starter: Vec<String>,
}

impl Broker {
    pub fn start(args: &[&str]) -> Self {
        Self::start_by(Vec::new(), args)
    }

    /// A broker started by a command that ends in the broker's, such as `env NAME=VALUE`.
    pub fn start_by(starter: Vec<String>, args: &[&str]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("mt")
            .tempdir_in("/tmp")
            .unwrap();
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let child = spawn_by(&starter, folder.path(), &args);
        let broker = Broker {
            child,
            folder,
            args,
            starter,
        };
        broker.wait_until_serving();
        broker
    }

    fn wait_until_serving(&self) {
        let pid = self.child.id();
        wait_for("the connection file", || {
            let text = std::fs::read(self.path("cluster.json")).ok()?;
            let file: Value = serde_json::from_slice(&text).ok()?;
            (file["pid"] == pid).then_some(())
        });
    }

    /// SIGKILL, and a new broker in the same place.
    pub fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn_by(&self.starter, self.folder.path(), &self.args);
        self.wait_until_serving();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("r/default").join(name)
    }

    pub fn endpoint(&self, name: &str) -> String {
        format!("ipc://{}", self.path(name).display())
    }

    pub fn connection(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.path("cluster.json")).unwrap()).unwrap()
    }

    pub fn client(&self, context: &Context) -> Client {
        Client::connect(context, &self.endpoint("frontend"))
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the broker's own end; gives its exit code.
    pub fn exit_code(&mut self) -> Option<i32> {
        let status = wait_for("the broker to leave", || self.child.try_wait().unwrap());
        status.code()
    }

    /// Memory that the broker has in use, in KiB.
    pub fn rss_kib(&self) -> u64 {
        resident_kib(self.child.id())
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

pub fn spawn(folder: &Path, args: &[String]) -> Child {
    spawn_by(&[], folder, args)
}

fn spawn_by(starter: &[String], folder: &Path, args: &[String]) -> Child {
    let broker = env!("CARGO_BIN_EXE_muster-broker");
    let mut words = starter.iter().map(String::as_str).chain([broker]);
    std::process::Command::new(words.next().expect("the broker's own"))
        .args(words)
        .args(["--runtime-dir"])
        .arg(folder.join("r"))
        .args(args)
        .env("XDG_STATE_HOME", folder.join("s"))
        .env_remove("MUSTER_CLUSTER")
        .stdout(Stdio::null())
        .stderr(
            std::fs::File::options()
                .create(true)
                .append(true)
                .open(folder.join("log"))
                .unwrap(),
        )
        .spawn()
        .unwrap()
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the broker's log:\n{}", self.log());
        }
    }
}

/// A DEALER that speaks as a REQ does.
pub struct Client {
    pub socket: Socket,
}

impl Client {
    pub fn connect(context: &Context, endpoint: &str) -> Self {
        let socket = Socket::open(context, Kind::Dealer, &Profile::ClientLink).unwrap();
        socket.connect(endpoint).unwrap();
        Client { socket }
    }

    pub fn send(&self, body: impl AsRef<[u8]>) {
        self.send_frames(vec![Frame::empty(), Frame::from(body.as_ref())]);
    }

    pub fn send_frames(&self, mut frames: Vec<Frame>) {
        let sent = self.socket.send_timeout(&mut frames, PATIENCE).unwrap();
        assert_eq!(sent, SendOutcome::Sent);
    }

    /// The next reply's body, below the delimiter.
    pub fn receive(&self) -> Vec<u8> {
        let frames = self.receive_frames();
        assert!(frames[0].is_empty(), "{frames:?}");
        frames[1].to_vec()
    }

    pub fn receive_frames(&self) -> Vec<Frame> {
        let mut frames = Vec::new();
        assert!(
            self.socket.recv_timeout(&mut frames, PATIENCE).unwrap(),
            "no reply"
        );
        frames
    }

    pub fn ask(&self, body: impl AsRef<[u8]>) -> Value {
        self.send(body);
        let reply = self.receive();
        serde_json::from_slice(&reply)
            .unwrap_or_else(|_| panic!("not JSON: {:?}", String::from_utf8_lossy(&reply)))
    }

    #[allow(clippy::needless_pass_by_value)] // Reads better at the many callers.
    pub fn call(&self, method: &str, params: Value) -> Value {
        self.ask(json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).to_string())
    }

    pub fn result(&self, method: &str, params: Value) -> Value {
        let reply = self.call(method, params);
        assert!(reply.get("error").is_none(), "{reply}");
        reply["result"].clone()
    }
}

/// A worker of the worker protocol in the test's own hands: nothing happens by itself.
pub struct FakeWorker {
    context: Context,
    endpoint: String,
    pub control: Socket,
    pub slots: Vec<Socket>,
    pub registration: Registration,
    /// The broker's run that it registered with first.
    pub epoch: String,
}

/// A call as the fake worker sees it.
#[derive(Clone, Debug)]
pub struct Given {
    pub dispatch: DispatchId,
    pub seq: u32,
    pub method: String,
    pub params: String,
    pub remaining_ms: u32,
    pub flags: u8,
    pub attachments: Vec<Vec<u8>>,
}

pub fn method(name: &str) -> Method {
    Method {
        name: name.into(),
        params: None,
        doc: String::new(),
        once: false,
        chunks: false,
        shared: false,
    }
}

impl FakeWorker {
    pub fn join(
        context: &Context,
        broker: &Broker,
        name: &str,
        slots: u32,
        methods: &[&str],
    ) -> Self {
        Self::join_with(
            context,
            broker,
            name,
            slots,
            methods.iter().map(|m| method(m)).collect(),
        )
    }

    pub fn join_with(
        context: &Context,
        broker: &Broker,
        name: &str,
        slots: u32,
        methods: Vec<Method>,
    ) -> Self {
        let endpoint = broker.endpoint("workers");
        let control = Socket::open(context, Kind::Dealer, &Profile::ControlLink).unwrap();
        control.connect(&endpoint).unwrap();
        let registration = Registration {
            protocol: (1, 1),
            token: format!("token-of-{name}"),
            name: name.into(),
            host: "test".into(),
            pid: std::process::id(),
            slots,
            version: "0".into(),
            methods,
            raw: false,
            allow_run: false,
            allow_apply: false,
        };
        let mut worker = FakeWorker {
            context: context.clone(),
            endpoint,
            control,
            slots: Vec::new(),
            registration,
            epoch: String::new(),
        };
        let welcome = worker.register();
        assert_eq!(welcome.name, name);
        worker.epoch = welcome.epoch;
        for number in 1..=slots {
            worker.join_slot(number);
        }
        worker
    }

    pub fn ask_to_register(&self) {
        self.tell(
            Command::Register,
            &serde_json::to_vec(&self.registration).unwrap(),
        );
    }

    pub fn register(&self) -> Welcome {
        self.ask_to_register();
        let frames = self.expect(&self.control, Command::Welcome);
        serde_json::from_slice(&frames[1]).unwrap()
    }

    pub fn tell(&self, command: Command, body: &[u8]) {
        send(
            &self.control,
            vec![Frame::from(&command.frame()), Frame::from(body)],
        );
    }

    pub fn join_slot(&mut self, number: u32) {
        let at = self.slots.len();
        self.slots.push(self.data_link());
        self.ask_to_join(at, number);
        self.expect(&self.slots[at], Command::Joined);
    }

    /// Gives a slot a new link, which has not joined.
    pub fn renew_slot(&mut self, at: usize) {
        self.slots[at] = self.data_link();
    }

    pub fn ask_to_join(&self, at: usize, number: u32) {
        let join = Join {
            token: self.registration.token.clone(),
            slot: number,
            pid: 0,
            nest: None,
        };
        let body = serde_json::to_vec(&join).unwrap();
        send(
            &self.slots[at],
            vec![Frame::from(&Command::Join.frame()), Frame::from(body)],
        );
    }

    fn data_link(&self) -> Socket {
        let socket = Socket::open(&self.context, Kind::Dealer, &Profile::DataLink).unwrap();
        socket.connect(&self.endpoint).unwrap();
        socket
    }

    /// The next message that is no heartbeat's echo, which must be this command. To a worker that
    /// introduces itself the broker may still say that it does not know it.
    pub fn expect(&self, socket: &Socket, command: Command) -> Vec<Frame> {
        loop {
            let mut frames = Vec::new();
            assert!(
                socket.recv_timeout(&mut frames, PATIENCE).unwrap(),
                "no {command:?}"
            );
            let found = Command::read(&frames[0]).unwrap();
            let is_answer = matches!(command, Command::Welcome | Command::Joined);
            if found != Command::Beat && !(found == Command::Who && is_answer) {
                assert_eq!(found, command);
                return frames;
            }
        }
    }

    pub fn beat(&self) {
        send(
            &self.control,
            vec![Frame::from(&Command::Heartbeat.frame())],
        );
    }

    /// The calls in the next message to a slot.
    pub fn calls(&self, slot: usize) -> Vec<Given> {
        Self::read_calls(&self.expect(&self.slots[slot], Command::Calls))
    }

    /// The calls in a message.
    pub fn read_calls(frames: &[Frame]) -> Vec<Given> {
        let mut rest = frames[2..].iter();
        let read = |call: Call<'_>, rest: &mut std::slice::Iter<'_, Frame>| {
            let params = match call.body {
                Bytes::Inline(bytes) => bytes.to_vec(),
                Bytes::OwnFrame { start, len } => {
                    rest.next().unwrap()[start as usize..(start + len) as usize].to_vec()
                }
            };
            Given {
                dispatch: call.dispatch,
                seq: call.seq,
                method: call.method.into(),
                params: String::from_utf8(params).unwrap(),
                remaining_ms: call.remaining_ms,
                flags: call.flags,
                attachments: rest
                    .take(call.attachments.into())
                    .map(|f| f.to_vec())
                    .collect(),
            }
        };
        Call::unpack(&frames[1])
            .map(|call| read(call.unwrap(), &mut rest))
            .collect()
    }

    /// The only call in the next message to a slot.
    pub fn call(&self, slot: usize) -> Given {
        let mut calls = self.calls(slot);
        assert_eq!(calls.len(), 1, "{calls:?}");
        calls.remove(0)
    }

    pub fn has_call(&self, slot: usize) -> bool {
        self.slots[slot].events().unwrap().readable
    }

    pub fn reply(&self, slot: usize, dispatch: DispatchId, result: &str) {
        self.reply_with(slot, dispatch, 0, result.as_bytes(), &[]);
    }

    pub fn reply_error(&self, slot: usize, dispatch: DispatchId, error: &str) {
        self.reply_with(slot, dispatch, flag::ERROR, error.as_bytes(), &[]);
    }

    pub fn reply_with(
        &self,
        slot: usize,
        dispatch: DispatchId,
        flags: u8,
        body: &[u8],
        attachments: &[&[u8]],
    ) {
        let mut packed = Vec::new();
        let reply = worker::Reply {
            dispatch,
            service_us: 100,
            items: 1,
            flags,
            attachments: attachments.len() as u8,
            body: Bytes::Inline(body),
        };
        reply.pack(&mut packed);
        let mut frames = vec![Frame::from(&Command::Replies.frame()), Frame::from(packed)];
        frames.extend(attachments.iter().map(|bytes| Frame::from(*bytes)));
        send(&self.slots[slot], frames);
    }
}

/// A call of the method `m`, without parameters.
pub const CALL: &str = r#"{"jsonrpc":"2.0","method":"m","id":1}"#;

pub fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// What the broker counts of calls.
pub fn call_counts(asker: &Client) -> Value {
    asker.result("broker.status", json!([]))["calls"].clone()
}

pub fn send(socket: &Socket, mut frames: Vec<Frame>) {
    assert_eq!(
        socket.send_timeout(&mut frames, PATIENCE).unwrap(),
        SendOutcome::Sent
    );
}
