//! Who is let in, as what, and for how long: real brokers with keys on their TCP doors.

mod common;

use common::{Broker, FakeWorker, PATIENCE, wait_for};
use muster_proto::connection::{Connection, Curve, Role};
use muster_proto::socket::{
    Context, Frame, Interest, Kind, LinkEvent, Monitor, PollItem, Profile, SendOutcome, Socket,
    Watch, curve_keypair, poll,
};
use muster_proto::worker::{Command, Registration};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, Instant};

const KEYED: &[&str] = &["--listen", "tcp://127.0.0.1:0", "--curve"];
const DOORS: [&str; 4] = ["frontend", "workers", "backend", "events"];

/// The connection file that the broker wrote for this role.
fn role_file(broker: &Broker, role: &str) -> Connection {
    let path = format!("s/muster/default/{role}.json");
    let path = broker.folder.path().join(path);
    wait_for("the role's file", || Connection::read(&path).ok())
}

fn endpoint<'a>(file: &'a Connection, door: &str) -> &'a str {
    match door {
        "frontend" => &file.frontend,
        "workers" => &file.workers,
        "backend" => &file.backend,
        "events" => &file.events,
        _ => unreachable!("there are four doors"),
    }
}

fn use_key(socket: &Socket, curve: &Curve) {
    socket
        .set_curve_client(&curve.server_key, &curve.public_key, &curve.secret_key)
        .unwrap();
}

/// A socket for the door that shows this key, and in front of it its monitor.
fn knock(file: &Connection, door: &str, curve: &Curve) -> (Monitor, Socket) {
    let (kind, profile) = match door {
        "frontend" => (Kind::Dealer, Profile::ClientLink),
        "workers" => (Kind::Dealer, Profile::ControlLink),
        "backend" => (Kind::Rep, Profile::ClientLink),
        _ => (Kind::Sub, Profile::EventsLink),
    };
    // A context of its own that never ends: a link that is still refused tells a monitor that is
    // being closed of it, and libzmq's thread then waits for a reader for ever.
    let context = Context::new(1).unwrap();
    std::mem::forget(context.clone());
    let socket = Socket::open(&context, kind, &profile).unwrap();
    use_key(&socket, curve);
    let monitor = socket.monitor(Watch::LinksAndRefusals).unwrap();
    socket.connect(endpoint(file, door)).unwrap();
    (monitor, socket)
}

fn next_event(monitor: &mut Monitor) -> LinkEvent {
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
struct Keyed {
    socket: Socket,
}

impl Keyed {
    fn connect(context: &Context, file: &Connection) -> Self {
        let socket = Socket::open(context, Kind::Dealer, &Profile::ClientLink).unwrap();
        if let Some(curve) = &file.curve {
            use_key(&socket, curve);
        }
        socket.connect(&file.frontend).unwrap();
        Keyed { socket }
    }

    #[allow(clippy::needless_pass_by_value)] // Reads better at the many callers.
    fn send(&self, method: &str, params: Value) {
        let body = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1});
        let mut frames = vec![Frame::empty(), Frame::from(body.to_string())];
        let sent = self.socket.send_timeout(&mut frames, PATIENCE).unwrap();
        assert_eq!(sent, SendOutcome::Sent);
    }

    fn receive(&self, patience: Duration) -> Option<Value> {
        let mut frames = Vec::new();
        let has_come = self.socket.recv_timeout(&mut frames, patience).unwrap();
        has_come.then(|| serde_json::from_slice(&frames[1]).unwrap())
    }

    fn call(&self, method: &str, params: Value) -> Value {
        self.send(method, params);
        self.receive(PATIENCE).expect("a reply")
    }

    /// The error's code, or 0.
    fn code(&self, method: &str, params: Value) -> i64 {
        self.call(method, params)["error"]["code"]
            .as_i64()
            .unwrap_or(0)
    }
}

const FORBIDDEN: i64 = -32006;

#[test]
fn each_key_opens_its_doors_and_no_other() {
    let broker = Broker::start(KEYED);
    let open = [
        ("client", [true, false, false, false]),
        ("worker", [true, true, true, false]),
        ("admin", [true, true, true, true]),
        ("stranger", [false; 4]),
    ];
    for (role, doors) in open {
        let file = role_file(&broker, if role == "stranger" { "client" } else { role });
        let mut curve = file.curve.clone().unwrap();
        if role == "stranger" {
            let pair = curve_keypair().unwrap();
            (curve.public_key, curve.secret_key) = (pair.public, pair.secret);
        }
        for (door, is_open) in DOORS.into_iter().zip(doors) {
            let (mut monitor, _socket) = knock(&file, door, &curve);
            let event = next_event(&mut monitor);
            let expected = if is_open {
                LinkEvent::Up
            } else {
                LinkEvent::KeyRefused(400)
            };
            assert_eq!(event, expected, "{role} at {door}");
        }
    }
}

/// Says something and waits for the other side to hang up. An answer that is more than the
/// greeting would be a message.
fn is_hung_up_on(address: &str, hello: &[u8]) -> bool {
    let mut stream = TcpStream::connect(address.trim_start_matches("tcp://")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(hello);
    let mut said = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => said.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{address} neither answers nor hangs up: {error}"),
        }
    }
    said.len() <= 64
}

#[test]
fn no_door_with_keys_goes_back_to_an_older_or_open_protocol() {
    let broker = Broker::start(KEYED);
    let file = role_file(&broker, "admin");
    let greeting = |major: u8, mechanism: &[u8]| {
        let mut bytes = vec![0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F, major, 0];
        bytes.extend_from_slice(mechanism);
        bytes.resize(64, 0);
        bytes
    };
    let ready = b"\x04\x1a\x05READY\x0bSocket-Type\0\0\0\x03REQ";
    let mut null = greeting(3, b"NULL");
    null.extend_from_slice(ready);
    let mut plain = greeting(3, b"PLAIN");
    plain.extend_from_slice(b"\x04\x10\x05HELLO\x04root\x04pass");
    // ZMTP 2: revision 1 and the socket type; then an empty id and a message.
    let mut second = vec![0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F, 1, 3];
    second.extend_from_slice(b"\0\0\x01\0\0\x02{}");
    // ZMTP 1: a length, no flags, an empty id; then a message.
    let first = b"\x01\0\x01\x01\x03\0{}".to_vec();
    for (what, hello) in [
        ("NULL", null),
        ("PLAIN", plain),
        ("2", second),
        ("1", first),
    ] {
        for door in DOORS {
            assert!(
                is_hung_up_on(endpoint(&file, door), &hello),
                "{what} at {door}"
            );
        }
    }
    let client = Keyed::connect(&Context::new(1).unwrap(), &file);
    // Nobody but this client, which is counted from its first call on.
    client.call("broker.status", json!([]));
    let status = client.call("broker.status", json!([]));
    assert_eq!(status["result"]["clients"], 1, "{status}");
}

#[test]
fn a_key_calls_what_its_globs_name_and_an_admins_alone_changes_the_cluster() {
    let broker = Broker::start(KEYED);
    let context = Context::new(1).unwrap();
    let _worker = FakeWorker::join(&context, &broker, "w", 1, &["math.add", "os.system"]);
    let admin = Keyed::connect(&context, &role_file(&broker, "admin"));
    let made = admin.call(
        "broker.new_key",
        json!({"role": "client", "name": "anna", "methods": ["math.*", "text.?"]}),
    );
    let anna: Connection = serde_json::from_value(made["result"]["connection"].clone()).unwrap();
    assert_eq!(anna.curve.as_ref().unwrap().role, Role::Client);
    let anna = Keyed::connect(&context, &anna);
    assert_eq!(anna.code("os.system", json!(["true"])), FORBIDDEN);
    // In a batch and a multicall, too.
    let multicall = json!([[{"methodName": "os.system", "params": ["true"]}]]);
    let fault = anna.call("system.multicall", multicall);
    assert_eq!(fault["result"][0]["faultCode"], FORBIDDEN, "{fault}");
    // Nor by a body that names no method.
    let mut frames = vec![Frame::empty(), Frame::from("rm -rf")];
    let sent = anna.socket.send_timeout(&mut frames, PATIENCE).unwrap();
    assert_eq!(sent, SendOutcome::Sent);
    let answer = anna.receive(PATIENCE).unwrap();
    assert_eq!(answer["error"]["code"], FORBIDDEN, "{answer}");
    anna.send("math.add", json!([1, 2]));
    wait_for("her call to run", || {
        let calls = admin.call("broker.calls", json!({"state": "running"}));
        (calls["result"][0]["method"] == "math.add").then_some(())
    });

    let client = Keyed::connect(&context, &role_file(&broker, "client"));
    let worker = Keyed::connect(&context, &role_file(&broker, "worker"));
    let requests = [
        ("broker.drain", json!({"worker": "w"})),
        ("broker.scale", json!({"worker": "w", "slots": 3})),
        ("broker.reload", json!({})),
        (
            "broker.add_worker",
            json!({"endpoint": "tcp://127.0.0.1:1"}),
        ),
        (
            "broker.remove_worker",
            json!({"endpoint": "tcp://127.0.0.1:1"}),
        ),
        ("broker.keys", json!({})),
        ("broker.new_key", json!({"role": "admin"})),
        ("broker.revoke_key", json!({"name": "admin"})),
    ];
    for (method, params) in requests {
        for peer in [&client, &worker, &anna] {
            assert_eq!(peer.code(method, params.clone()), FORBIDDEN, "{method}");
        }
    }
    // Another's call can neither be seen nor cancelled; an admin can do both.
    let calls = admin.call("broker.calls", json!({}));
    let id = calls["result"][0]["id"].clone();
    assert_eq!(client.call("broker.calls", json!({}))["result"], json!([]));
    assert_eq!(client.code("broker.cancel", json!({"id": id})), FORBIDDEN);
    assert_ne!(client.code("broker.explain", json!({"id": id})), 0);
    assert_eq!(admin.code("broker.cancel", json!({"id": id})), 0);
    assert_eq!(anna.receive(PATIENCE).unwrap()["error"]["code"], -32004);
}

/// A managed worker's registration over a keyed link.
fn register(socket: &Socket, name: &str) {
    let registration = Registration {
        protocol: (1, 1),
        token: format!("token-of-{name}"),
        name: name.into(),
        host: "test".into(),
        pid: std::process::id(),
        slots: 1,
        version: "0".into(),
        methods: Vec::new(),
        raw: false,
        allow_run: false,
        allow_apply: false,
    };
    let body = serde_json::to_vec(&registration).unwrap();
    let frames = vec![Frame::from(&Command::Register.frame()), Frame::from(body)];
    common::send(socket, frames);
}

#[test]
fn a_revoked_key_is_cut_off_at_every_door_within_a_second() {
    let broker = Broker::start(KEYED);
    let context = Context::new(1).unwrap();
    // Over the local door: this user is an admin, whatever becomes of the keys.
    let local = broker.client(&context);
    let issue = |role: &str, name: &str| -> Connection {
        let made = local.result("broker.new_key", json!({"role": role, "name": name}));
        serde_json::from_value(made["connection"].clone()).unwrap()
    };
    let (anna, work, root) = (
        issue("client", "anna"),
        issue("worker", "work"),
        issue("admin", "root"),
    );
    let other = issue("admin", "other");
    let curve = |file: &Connection| file.curve.clone().unwrap();

    let client = Keyed::connect(&context, &anna);
    assert_eq!(client.code("system.listMethods", json!([])), 0);
    let (_control, control) = knock(&work, "workers", &curve(&work));
    register(&control, "managed");
    let (_link, _rep) = knock(&work, "backend", &curve(&work));
    wait_for("both workers", || {
        let workers = local.result("broker.workers", json!({}));
        (workers.as_array().unwrap().len() == 2).then_some(())
    });
    let (mut link, theirs) = knock(&root, "events", &curve(&root));
    theirs.subscribe(b"").unwrap();
    let (_others, others) = knock(&other, "events", &curve(&other));
    others.subscribe(b"").unwrap();
    assert_eq!(next_event(&mut link), LinkEvent::Up);

    for name in ["anna", "work", "root"] {
        local.result("broker.revoke_key", json!({"name": name}));
    }
    let revoked = Instant::now();
    // Whatever a living link is answered, it is no result.
    for method in ["system.listMethods", "broker.status", "m"] {
        assert_eq!(client.code(method, json!([])), FORBIDDEN, "{method}");
    }
    for body in [
        "an opaque body",
        r#"[{"jsonrpc":"2.0","method":"broker.status","id":1}]"#,
    ] {
        let mut frames = vec![Frame::empty(), Frame::from(body)];
        let sent = client.socket.send_timeout(&mut frames, PATIENCE).unwrap();
        assert_eq!(sent, SendOutcome::Sent);
        let answer = client.receive(PATIENCE).unwrap().to_string();
        assert!(answer.contains("-32006"), "{answer}");
    }
    wait_for("both workers to be gone", || {
        let workers = local.result("broker.workers", json!({}));
        workers.as_array().unwrap().is_empty().then_some(())
    });
    assert_eq!(next_event(&mut link), LinkEvent::Down);
    // A loaded machine is forgiven much; no step above waits for a timer.
    assert!(revoked.elapsed() < PATIENCE / 2, "{:?}", revoked.elapsed());
    assert_eq!(next_event(&mut link), LinkEvent::KeyRefused(400));
    for (file, door) in [(&anna, "frontend"), (&work, "workers"), (&work, "backend")] {
        let (mut monitor, _socket) = knock(file, door, &curve(file));
        assert_eq!(
            next_event(&mut monitor),
            LinkEvent::KeyRefused(400),
            "{door}"
        );
    }
    // The other admin's subscription came back by itself.
    wait_for("an event", || {
        let _visitor = Keyed::connect(&context, &other);
        let _worker = FakeWorker::join(&context, &broker, "visitor", 1, &["m"]);
        let mut frames = Vec::new();
        let patience = Duration::from_millis(200);
        others
            .recv_timeout(&mut frames, patience)
            .unwrap()
            .then_some(())
    });
    let mut frames = Vec::new();
    assert!(
        !theirs
            .recv_timeout(&mut frames, Duration::from_millis(200))
            .unwrap()
    );
}

#[test]
fn two_keys_with_equal_ids_and_call_keys_do_not_meet() {
    let broker = Broker::start(KEYED);
    let context = Context::new(1).unwrap();
    let worker = FakeWorker::join(&context, &broker, "w", 2, &["echo"]);
    let local = broker.client(&context);
    let [a, b] = ["a", "b"].map(|name| {
        let made = local.result("broker.new_key", json!({"role": "client", "name": name}));
        let file: Connection = serde_json::from_value(made["connection"].clone()).unwrap();
        Keyed::connect(&context, &file)
    });
    let body = |mine: &str| {
        json!({"jsonrpc": "2.0", "method": "echo", "params": [mine], "id": 1,
               "meta": {"key": "same"}})
    };
    for (peer, mine) in [(&a, "a"), (&b, "b")] {
        let frames = [Frame::empty(), Frame::from(body(mine).to_string())];
        assert_eq!(peer.socket.send(frames).unwrap(), SendOutcome::Sent);
    }
    // Two calls, each with its own parameters: the second is not attached to the first.
    for slot in 0..2 {
        let given = worker.call(slot);
        worker.reply(slot, given.dispatch, &given.params);
    }
    assert_eq!(a.receive(PATIENCE).unwrap()["result"], json!(["a"]));
    assert_eq!(b.receive(PATIENCE).unwrap()["result"], json!(["b"]));
    // Nor can one cancel the other's by its key.
    a.send("echo", json!(["again"]));
    assert_eq!(b.code("broker.cancel", json!({"key": "same"})), 0);
    let given = wait_for("the call", || {
        (0..2)
            .find(|slot| worker.has_call(*slot))
            .map(|slot| (slot, worker.call(slot)))
    });
    worker.reply(given.0, given.1.dispatch, "7");
    assert_eq!(a.receive(PATIENCE).unwrap()["result"], 7);
}

#[test]
fn refused_attempts_are_logged_with_their_address_a_few_a_second() {
    let broker = Broker::start(KEYED);
    let file = role_file(&broker, "client");
    let log = || fs::read_to_string(broker.folder.path().join("log")).unwrap();
    let mut curve = file.curve.clone().unwrap();
    let pair = curve_keypair().unwrap();
    (curve.public_key, curve.secret_key) = (pair.public, pair.secret);
    for door in DOORS {
        let (mut monitor, _socket) = knock(&file, door, &curve);
        assert_eq!(next_event(&mut monitor), LinkEvent::KeyRefused(400));
        // A lane's own link is the splice's: the log names the peer all the same.
        wait_for("the refusal in the log", || {
            let line = format!("{door}: peer at 127.0.0.1");
            log().contains(&line).then_some(())
        });
    }
    let start = Instant::now();
    for _ in 0..60 {
        let (mut monitor, _socket) = knock(&file, "frontend", &curve);
        assert_eq!(next_event(&mut monitor), LinkEvent::KeyRefused(400));
    }
    let seconds = start.elapsed().as_secs() as usize + 2;
    let lines = log().matches("refused: unknown or revoked key").count();
    assert!(lines <= 5 * seconds + 4, "{lines} lines in {seconds} s");
}

#[test]
fn the_cap_on_connections_refuses_newcomers_and_serves_the_others() {
    let broker = Broker::start(&[KEYED, &["--connections-max", "20"]].concat());
    let context = Context::new(1).unwrap();
    let file = role_file(&broker, "admin");
    let curve = file.curve.clone().unwrap();
    let mut links = Vec::new();
    let first_refused = (0..60).find(|_| {
        let (mut monitor, socket) = knock(&file, "frontend", &curve);
        let event = next_event(&mut monitor);
        links.push((socket, monitor));
        event == LinkEvent::KeyRefused(400)
    });
    assert!(
        first_refused.is_some_and(|n| (15..=25).contains(&n)),
        "{first_refused:?}"
    );
    let log = fs::read_to_string(broker.folder.path().join("log")).unwrap();
    assert!(log.contains("--connections-max"), "{log}");
    // This user's own door has no such limit, and what needs a file has one.
    let local = broker.client(&context);
    local.result("broker.new_key", json!({"role": "client", "name": "late"}));
    drop(links);
    wait_for("room again", || {
        let (mut monitor, _socket) = knock(&file, "frontend", &curve);
        (next_event(&mut monitor) == LinkEvent::Up).then_some(())
    });
}

#[test]
fn without_keys_a_tcp_door_lets_no_worker_run_clients_commands() {
    let broker = Broker::start(&["--listen", "tcp://127.0.0.1:0"]);
    let log = fs::read_to_string(broker.folder.path().join("log")).unwrap();
    assert!(log.contains("every user of this machine can call"), "{log}");
    let context = Context::new(1).unwrap();
    let control = Socket::open(&context, Kind::Dealer, &Profile::ControlLink).unwrap();
    control.connect(&broker.endpoint("workers")).unwrap();
    for (allow_run, allow_apply) in [(true, false), (false, true)] {
        let registration = json!({
            "protocol": [1, 1], "token": "t", "name": "w", "host": "h", "pid": 1, "slots": 1,
            "version": "0", "methods": [], "raw": false,
            "allow_run": allow_run, "allow_apply": allow_apply,
        });
        let frames = vec![
            Frame::from(&Command::Register.frame()),
            Frame::from(registration.to_string()),
        ];
        common::send(&control, frames);
        let mut frames = Vec::new();
        assert!(control.recv_timeout(&mut frames, PATIENCE).unwrap());
        assert_eq!(Command::read(&frames[0]), Ok(Command::Refused));
    }
}

#[test]
fn insecure_says_why_it_is_dangerous() {
    let broker = Broker::start(&["--listen", "tcp://0.0.0.0:0", "--insecure"]);
    let log = fs::read_to_string(broker.folder.path().join("log")).unwrap();
    assert!(
        log.contains("--insecure: whoever reaches this address"),
        "{log}"
    );
    // And without the flag the same address asks for keys.
    let broker = Broker::start(&["--listen", "tcp://0.0.0.0:0"]);
    assert!(role_file(&broker, "client").curve.is_some());
}

/// A broker that must not start here; gives its log.
fn refused_start(folder: &std::path::Path, args: &[&str]) -> String {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let mut child = common::spawn(folder, &args);
    let status = wait_for("the broker to give up", || child.try_wait().unwrap());
    assert!(!status.success());
    fs::read_to_string(folder.join("log")).unwrap()
}

#[test]
fn a_runtime_directory_that_somebody_prepared_is_refused() {
    let fresh = || {
        let folder = tempfile::Builder::new()
            .prefix("mt")
            .tempdir_in("/tmp")
            .unwrap();
        fs::create_dir(folder.path().join("r")).unwrap();
        folder
    };
    // A link to a directory of ours.
    let folder = fresh();
    let target = folder.path().join("target");
    fs::create_dir(&target).unwrap();
    symlink(&target, folder.path().join("r/default")).unwrap();
    let log = refused_start(folder.path(), &[]);
    assert!(log.contains("r/default"), "{log}");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    // One that others can enter.
    let folder = fresh();
    let open = folder.path().join("r/default");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let log = refused_start(folder.path(), &[]);
    assert!(log.contains("lets others in"), "{log}");
    // One of somebody else's: only root can make it.
    if fs::metadata(folder.path()).unwrap().uid() == 0 {
        let folder = fresh();
        let theirs = folder.path().join("r/default");
        fs::create_dir(&theirs).unwrap();
        fs::set_permissions(&theirs, fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(&theirs, Some(65_534), None).unwrap();
        let log = refused_start(folder.path(), &[]);
        assert!(log.contains("r/default"), "{log}");
    }
    // The keys' directory, too.
    let folder = fresh();
    let keys = folder.path().join("s/muster/default");
    fs::create_dir_all(&keys).unwrap();
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o755)).unwrap();
    let log = refused_start(folder.path(), KEYED);
    assert!(log.contains("holds keys"), "{log}");
}

#[test]
fn no_umask_opens_or_breaks_what_the_broker_writes() {
    for umask in ["000", "022", "077"] {
        let folder = tempfile::Builder::new()
            .prefix("mt")
            .tempdir_in("/tmp")
            .unwrap();
        let mut child = std::process::Command::new("sh")
            .arg("-c")
            .arg(format!("umask {umask}; exec \"$0\" \"$@\""))
            .arg(env!("CARGO_BIN_EXE_muster-broker"))
            .arg("--runtime-dir")
            .arg(folder.path().join("r"))
            .args(KEYED)
            .env("XDG_STATE_HOME", folder.path().join("s"))
            .env_remove("MUSTER_CLUSTER")
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let admin = folder.path().join("s/muster/default/admin.json");
        let began = Instant::now();
        while Connection::read(&admin).is_err() && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        let mode = |path: &str| {
            let found = fs::metadata(folder.path().join(path));
            found.map(|found| found.permissions().mode() & 0o777)
        };
        let modes = [
            ("r/default", 0o700),
            ("r/default/cluster.json", 0o600),
            ("s/muster/default", 0o700),
            ("s/muster/default/server.json", 0o600),
            ("s/muster/default/keys.json", 0o600),
            ("s/muster/default/client.json", 0o600),
            ("s/muster/default/worker.json", 0o600),
            ("s/muster/default/admin.json", 0o600),
        ]
        .map(|(path, wanted)| (path, mode(path).ok(), wanted));
        child.kill().unwrap();
        child.wait().unwrap();
        for (path, found, wanted) in modes {
            assert_eq!(found, Some(wanted), "{path} under umask {umask}");
        }
    }
}
