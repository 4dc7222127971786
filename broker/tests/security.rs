//! Who is let in, as what, and for how long: real brokers with keys on their TCP doors.

mod common;

use common::keys::{DOORS, KEYED, Keyed, endpoint, knock, next_event, role_file};
use common::{Broker, Client, FakeWorker, PATIENCE, wait_for};
use muster_proto::connection::{Connection, Role};
use muster_proto::socket::{
    Context, Frame, Kind, LinkEvent, Profile, SendOutcome, Socket, curve_keypair,
};
use muster_proto::worker::{Command, Registration};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, Instant};

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

/// A managed worker's registration.
fn registration(name: &str) -> Registration {
    Registration {
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
    }
}

/// A worker's key that is limited to these methods, as a connection file has it.
fn issue_worker_key(asker: &Client, name: &str, methods: &[&str]) -> Connection {
    let params = json!({"role": "worker", "name": name, "methods": methods});
    let made = asker.result("broker.new_key", params);
    serde_json::from_value(made["connection"].clone()).unwrap()
}

fn send_registration(socket: &Socket, registration: &Registration) {
    let body = serde_json::to_vec(registration).unwrap();
    let frames = vec![Frame::from(&Command::Register.frame()), Frame::from(body)];
    common::send(socket, frames);
}

#[test]
fn a_workers_key_that_is_limited_to_methods_offers_no_others() {
    let broker = Broker::start(KEYED);
    let context = Context::new(1).unwrap();
    let local = broker.client(&context);
    let math = issue_worker_key(&local, "math", &["math.*"]);
    let (_monitor, control) = knock(&math, "workers", math.curve.as_ref().unwrap());
    let answer = |methods: &[&str], raw: bool| {
        let registration = Registration {
            methods: methods.iter().map(|name| common::method(name)).collect(),
            raw,
            ..registration("w")
        };
        send_registration(&control, &registration);
        let mut frames = Vec::new();
        assert!(control.recv_timeout(&mut frames, PATIENCE).unwrap());
        (Command::read(&frames[0]).unwrap(), frames[1].to_vec())
    };
    let (command, why) = answer(&["math.add", "os.system"], false);
    assert_eq!(command, Command::Refused);
    let why: Value = serde_json::from_slice(&why).unwrap();
    assert_eq!(why["code"], FORBIDDEN);
    assert_eq!(why["message"], "key math is not for the method `os.system`");
    assert_eq!(answer(&["math.add"], true).0, Command::Refused);
    assert_eq!(answer(&["math.add"], false).0, Command::Welcome);
    // Nor later, when it changes what it offers.
    assert_eq!(answer(&["math.add", "text.cut"], false).0, Command::Refused);
    assert_eq!(
        local.result("broker.workers", json!({}))[0]["methods"],
        json!(["math.add"])
    );
}

#[test]
fn a_stock_worker_with_such_a_key_is_given_what_it_names_and_nothing_else() {
    let broker = Broker::start(KEYED);
    let context = Context::new(1).unwrap();
    let local = broker.client(&context);
    // It can't say which methods of a pattern it has, so none are given to it.
    let pattern = issue_worker_key(&local, "pattern", &["math.*"]);
    let (_link, _rep) = knock(&pattern, "backend", pattern.curve.as_ref().unwrap());
    wait_for("the refusal", || {
        let line = "key pattern has patterns, a stock worker's needs whole names";
        broker.log().contains(line).then_some(())
    });
    let names = issue_worker_key(&local, "names", &["math.add"]);
    let (_other_link, rep) = knock(&names, "backend", names.curve.as_ref().unwrap());
    wait_for("the lane", || {
        let workers = local.result("broker.workers", json!({}));
        (workers.as_array().unwrap().len() == 1).then_some(())
    });
    let code = |method: &str| local.call(method, json!([]))["error"]["code"].clone();
    assert_eq!(code("os.system"), -32601);
    local.send(r#"{"jsonrpc": "2.0", "method": "math.add", "params": [1, 2], "id": 7}"#);
    let mut frames = Vec::new();
    assert!(rep.recv_timeout(&mut frames, PATIENCE).unwrap());
    let asked: Value = serde_json::from_slice(&frames[0]).unwrap();
    assert_eq!(asked["method"], "math.add");
    let answer = json!({"jsonrpc": "2.0", "result": 3, "id": asked["id"]}).to_string();
    let mut frames = vec![Frame::from(answer)];
    assert_eq!(
        rep.send_timeout(&mut frames, PATIENCE).unwrap(),
        SendOutcome::Sent
    );
    let answer: Value = serde_json::from_slice(&local.receive()).unwrap();
    assert_eq!((&answer["result"], &answer["id"]), (&json!(3), &json!(7)));
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
    send_registration(&control, &registration("managed"));
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
fn without_keys_there_is_a_cap_too_and_those_who_are_in_are_served() {
    let broker = Broker::start(&["--listen", "tcp://127.0.0.1:0", "--connections-max", "20"]);
    let context = Context::new(1).unwrap();
    let status = broker.client(&context).result("broker.status", json!([]));
    let address = status["tcp_endpoints"]["frontend"].as_str().unwrap();
    let honest = Client::connect(&context, address);
    honest.result("broker.status", json!([]));
    let mut held = Vec::new();
    for _ in 0..60 {
        let mut stream = TcpStream::connect(address.trim_start_matches("tcp://")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // Who is let in is greeted, who is not is hung up on.
        if stream.read_exact(&mut [0; 10]).is_ok() {
            held.push(stream);
        }
    }
    assert!((15..=25).contains(&held.len()), "{} were held", held.len());
    wait_for("the log", || {
        honest.result("broker.status", json!([]));
        broker
            .log()
            .contains("newcomers over TCP were hung up on")
            .then_some(())
    });
    drop(held);
    wait_for("room again", || {
        let mut stream = TcpStream::connect(address.trim_start_matches("tcp://")).unwrap();
        stream.read_exact(&mut [0; 10]).ok()
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
