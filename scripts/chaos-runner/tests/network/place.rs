//! A real broker with TCP doors, and workers and clients that reach it through proxies.

use muster_client::{Client, Target};
use muster_proto::connection::Connection;
use muster_proto::socket::{Context, Frame, Kind, Profile, SendOutcome, Socket};
use muster_worker::{BrokerAddress, Stopper, Worker};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longer than anything here takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `check` gives something.
pub fn wait_for<T>(what: &str, check: impl FnMut() -> Option<T>) -> T {
    muster_test_support::wait_for(what, PATIENCE, check)
}

pub fn program(name: &str) -> PathBuf {
    muster_test_support::program(env!("CARGO_BIN_EXE_muster-chaos"), name)
}

/// The broker. Ends with the test, however the test ends.
pub struct Place {
    child: Child,
    folder: tempfile::TempDir,
    tcp: Value,
}

impl Place {
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("mn").tempdir().unwrap();
        let child = Command::new(program("muster-broker"))
            .args(["--listen", "tcp://127.0.0.1:0", "--runtime-dir"])
            .arg(folder.path())
            .env_remove("MUSTER_CLUSTER")
            .env("XDG_STATE_HOME", folder.path().join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut place = Place {
            child,
            folder,
            tcp: Value::Null,
        };
        let client = wait_for("the broker", || Client::connect(&place.target()).ok());
        let status: Value = client.call("broker.status", &()).unwrap().json().unwrap();
        place.tcp = status["tcp_endpoints"].clone();
        place
    }

    fn connection(&self) -> Connection {
        Connection::read(&self.folder.path().join("default/cluster.json")).unwrap()
    }

    fn target(&self) -> Target {
        Target {
            connection: Some(self.folder.path().join("default/cluster.json")),
            ..Target::default()
        }
    }

    /// A door's TCP address.
    pub fn door(&self, name: &str) -> String {
        self.tcp[name].as_str().unwrap().to_owned()
    }

    /// A client on this machine, beside every proxy.
    pub fn client(&self) -> Client {
        Client::connect(&self.target()).unwrap()
    }

    pub fn status(&self) -> Value {
        self.client()
            .call("broker.status", &())
            .unwrap()
            .json()
            .unwrap()
    }

    /// How often something happened to calls.
    pub fn count(&self, what: &str) -> u64 {
        self.status()["calls"][what].as_u64().unwrap()
    }

    /// A managed worker of one slot that reaches the broker over `workers`.
    pub fn worker(&self, name: &str, workers: &str) -> Hosted {
        let connection = Connection {
            workers: workers.to_owned(),
            ..self.connection()
        };
        let serving = Worker::new()
            .name(name)
            .slots(1)
            .function("echo", |value: Value| value)
            .function("large", |bytes: usize| "x".repeat(bytes))
            .function("sleep", |ms: u64| {
                std::thread::sleep(Duration::from_millis(ms));
                ms
            })
            .start(BrokerAddress::Connection(Box::new(connection)))
            .unwrap();
        Hosted {
            stopper: serving.stopper(),
        }
    }

    pub fn await_slots(&self, count: u64) {
        wait_for("the slots", || {
            (self.status()["slots"]["ready"].as_u64() == Some(count)).then_some(())
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            eprintln!("the broker's log:\n{log}");
        }
    }
}

/// A worker in this process, told to end when it is dropped.
pub struct Hosted {
    stopper: Stopper,
}

impl Drop for Hosted {
    fn drop(&mut self) {
        self.stopper.stop();
    }
}

/// A stock REP worker in this process: echoes its first parameter, or makes a large answer of as
/// many bytes as `"large"` asks for.
pub fn rep(endpoint: &str) -> JoinHandle<()> {
    let socket = Socket::open(&Context::new(1).unwrap(), Kind::Rep, &Profile::DataLink).unwrap();
    socket.connect(endpoint).unwrap();
    std::thread::spawn(move || {
        let mut frames = Vec::new();
        while socket.recv_timeout(&mut frames, PATIENCE).unwrap() {
            let request: Value = serde_json::from_slice(&frames[0]).unwrap();
            let result = match request["method"].as_str() {
                Some("rep_large") => {
                    let bytes = request["params"][0].as_u64().unwrap() as usize;
                    Value::String("x".repeat(bytes))
                }
                _ => request["params"][0].clone(),
            };
            let reply =
                serde_json::json!({"jsonrpc": "2.0", "result": result, "id": request["id"]});
            frames.clear();
            frames.push(Frame::from(reply.to_string()));
            let _ = socket.send_frames(&mut frames).unwrap();
        }
    })
}

/// A bare DEALER that sees every message that comes.
pub struct Dealer(Socket);

impl Dealer {
    pub fn connect(endpoint: &str) -> Self {
        let context = Context::new(1).unwrap();
        let socket = Socket::open(&context, Kind::Dealer, &Profile::ClientLink).unwrap();
        socket.connect(endpoint).unwrap();
        Dealer(socket)
    }

    pub fn send(&self, body: &Value) {
        let mut frames = vec![Frame::empty(), Frame::from(body.to_string())];
        let sent = self.0.send_timeout(&mut frames, PATIENCE).unwrap();
        assert_eq!(sent, SendOutcome::Sent);
    }

    /// The next message, if one comes in time.
    pub fn receive(&self, patience: Duration) -> Option<Value> {
        let mut frames = Vec::new();
        let came = self.0.recv_timeout(&mut frames, patience).unwrap();
        came.then(|| serde_json::from_slice(&frames[1]).unwrap())
    }
}
