//! Peers with keys, at the TCP doors of a broker that asks for them.

use super::{Broker, PATIENCE, wait_for};
use muster_proto::connection::{Connection, Curve};
use muster_proto::socket::{
    Context, Frame, Interest, Kind, LinkEvent, Monitor, PollItem, Profile, SendOutcome, Socket,
    Watch, poll,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub const KEYED: &[&str] = &["--listen", "tcp://127.0.0.1:0", "--curve"];
pub const DOORS: [&str; 4] = ["frontend", "workers", "backend", "events"];

/// The connection file that the broker wrote for this role.
pub fn role_file(broker: &Broker, role: &str) -> Connection {
    let path = format!("s/muster/default/{role}.json");
    let path = broker.folder.path().join(path);
    wait_for("the role's file", || Connection::read(&path).ok())
}

pub fn endpoint<'a>(file: &'a Connection, door: &str) -> &'a str {
    match door {
        "frontend" => &file.frontend,
        "workers" => &file.workers,
        "backend" => &file.backend,
        "events" => &file.events,
        _ => unreachable!("there are four doors"),
    }
}

pub fn use_key(socket: &Socket, curve: &Curve) {
    socket
        .set_curve_client(&curve.server_key, &curve.public_key, &curve.secret_key)
        .unwrap();
}

/// A socket for the door that shows this key, and in front of it its monitor.
pub fn knock(file: &Connection, door: &str, curve: &Curve) -> (Monitor, Socket) {
    let (kind, profile) = match door {
        "frontend" => (Kind::Dealer, Profile::ClientLink),
        "workers" => (Kind::Dealer, Profile::ControlLink),
        "backend" => (Kind::Rep, Profile::ClientLink),
        _ => (Kind::Sub, Profile::EventsLink),
    };
    // A context of its own, which ends with the socket, whatever becomes of the link.
    let context = Context::new(1).unwrap();
    let socket = Socket::open(&context, kind, &profile).unwrap();
    use_key(&socket, curve);
    let monitor = socket.monitor(Watch::LinksAndRefusals).unwrap();
    socket.connect(endpoint(file, door)).unwrap();
    (monitor, socket)
}

pub fn next_event(monitor: &mut Monitor) -> LinkEvent {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(event) = monitor.next_event().unwrap() {
            return event;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "nothing happens to the link");
        let mut items = [PollItem::socket(monitor.socket(), Interest::Read)];
        poll(&mut items, Some(left)).unwrap();
    }
}

/// A client on the frontend with a key.
pub struct Keyed {
    pub socket: Socket,
}

impl Keyed {
    pub fn connect(context: &Context, file: &Connection) -> Self {
        let socket = Socket::open(context, Kind::Dealer, &Profile::ClientLink).unwrap();
        if let Some(curve) = &file.curve {
            use_key(&socket, curve);
        }
        socket.connect(&file.frontend).unwrap();
        Keyed { socket }
    }

    #[allow(clippy::needless_pass_by_value)] // Reads better at the many callers.
    pub fn send(&self, method: &str, params: Value) {
        let body = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1});
        let mut frames = vec![Frame::empty(), Frame::from(body.to_string())];
        let sent = self.socket.send_timeout(&mut frames, PATIENCE).unwrap();
        assert_eq!(sent, SendOutcome::Sent);
    }

    pub fn receive(&self, patience: Duration) -> Option<Value> {
        let mut frames = Vec::new();
        let has_come = self.socket.recv_timeout(&mut frames, patience).unwrap();
        has_come.then(|| serde_json::from_slice(&frames[1]).unwrap())
    }

    pub fn call(&self, method: &str, params: Value) -> Value {
        self.send(method, params);
        self.receive(PATIENCE).expect("a reply")
    }

    /// The error's code, or 0.
    pub fn code(&self, method: &str, params: Value) -> i64 {
        self.call(method, params)["error"]["code"]
            .as_i64()
            .unwrap_or(0)
    }
}
