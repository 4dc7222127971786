//! Strangers and rogues at the real broker, while the pool serves an honest client throughout.

mod common;

use common::{Broker, FakeWorker, PATIENCE, method, send, wait_for};
use muster_proto::id::{CallId, DispatchId, Epoch};
use muster_proto::socket::{Context, Frame, Kind, Profile, Socket};
use muster_proto::worker::{Command, Join};
use muster_test_support::zmtp::{
    self, COMMAND, GREETING_BYTES, LONG, MORE, frame, greeting, is_hung_up, property, ready,
};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A worker that echoes and a client that calls it without a pause, each on a thread.
struct Pool {
    broker: Broker,
    calls: &'static AtomicU64,
    /// What tells each of them to end, in the order in which they end.
    threads: Vec<(&'static AtomicBool, JoinHandle<()>)>,
}

impl Pool {
    fn start(args: &[&str]) -> Self {
        let broker = Broker::start(args);
        // Leaked: a test has one pool, and its threads outlive no test.
        let is_answered: &AtomicBool = Box::leak(Box::default());
        let is_over: &AtomicBool = Box::leak(Box::default());
        let calls: &AtomicU64 = Box::leak(Box::default());
        let context = Context::new(1).unwrap();
        let worker = FakeWorker::join(&context, &broker, "honest", 1, &["echo"]);
        let client = broker.client(&context);
        let serving = std::thread::spawn(move || {
            let mut beat = Instant::now();
            while !is_over.load(Ordering::Relaxed) {
                if beat.elapsed() > Duration::from_millis(300) {
                    worker.beat();
                    beat = Instant::now();
                }
                if worker.has_call(0) {
                    for given in worker.calls(0) {
                        worker.reply(0, given.dispatch, &given.params);
                    }
                } else {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let calling = std::thread::spawn(move || {
            while !is_answered.load(Ordering::Relaxed) {
                let number = calls.load(Ordering::Relaxed);
                assert_eq!(client.result("echo", json!([number])), json!([number]));
                calls.store(number + 1, Ordering::Relaxed);
            }
        });
        let pool = Pool {
            broker,
            calls,
            threads: vec![(is_answered, calling), (is_over, serving)],
        };
        pool.serves();
        pool
    }

    /// Where strangers come: `127.0.0.1:PORT` of a door.
    fn address(&self, door: &str) -> String {
        let context = Context::new(1).unwrap();
        let status = self
            .broker
            .client(&context)
            .result("broker.status", json!([]));
        let endpoint = status["tcp_endpoints"][door].as_str().unwrap().to_owned();
        endpoint.trim_start_matches("tcp://").to_owned()
    }

    /// Ten more calls of the honest client are answered, whatever goes on.
    fn serves(&self) {
        let before = self.calls.load(Ordering::Relaxed);
        wait_for("ten honest calls", || {
            (self.calls.load(Ordering::Relaxed) >= before + 10).then_some(())
        });
    }

    fn status(&self) -> Value {
        let context = Context::new(1).unwrap();
        self.broker
            .client(&context)
            .result("broker.status", json!([]))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for (end, thread) in self.threads.drain(..) {
            end.store(true, Ordering::Relaxed);
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

fn connect(address: &str) -> TcpStream {
    zmtp::connect(address, PATIENCE)
}

/// A DEALER or REP that a keyless door has let in.
fn admitted(address: &str, socket_type: &str) -> TcpStream {
    introduced(address, socket_type, &[])
}

/// The same with properties in its READY.
fn introduced(address: &str, socket_type: &str, properties: &[u8]) -> TcpStream {
    let mut stream = connect(address);
    stream
        .write_all(&[greeting(0, b"NULL"), ready(socket_type, properties)].concat())
        .unwrap();
    let mut head = [0; GREETING_BYTES + 2];
    stream.read_exact(&mut head).unwrap();
    let ready_bytes = usize::from(head[GREETING_BYTES + 1]);
    stream.read_exact(&mut vec![0; ready_bytes]).unwrap();
    stream
}

const KEYED: &[&str] = &["--listen", "tcp://127.0.0.1:0", "--curve"];
const LISTEN: &[&str] = &["--listen", "tcp://127.0.0.1:0"];
const DOORS: [&str; 4] = ["frontend", "workers", "backend", "events"];

#[test]
fn other_protocols_and_garbage_are_hung_up_on_at_every_door() {
    let pool = Pool::start(KEYED);
    for door in DOORS {
        let address = pool.address(door);
        let mut noise = Vec::new();
        for n in 0..4096u32 {
            noise.extend_from_slice(&n.wrapping_mul(2_654_435_761).to_le_bytes());
        }
        noise[0] = 0x16;
        let hellos = [
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20),
            noise,
            [greeting(0, b"NULL"), vec![0xFF; 4096]].concat(),
            [
                greeting(0, b"NULL"),
                frame(COMMAND, b"\x05READY\xff\xff\xff\xff"),
            ]
            .concat(),
            [greeting(0, b"NULL"), frame(0, b"no handshake")].concat(),
        ];
        for hello in hellos {
            let mut stranger = connect(&address);
            let _ = stranger.write_all(&hello);
            // At once, or when the time for a handshake is over.
            assert!(is_hung_up(&mut stranger), "{door}: {:?}", &hello[..8]);
        }
        pool.serves();
    }
}

#[test]
fn a_slow_or_half_handshake_is_over_in_seconds_and_costs_nobody_anything() {
    let pool = Pool::start(KEYED);
    let mut strangers = Vec::new();
    for door in DOORS {
        let address = pool.address(door);
        strangers.push((door, "says nothing", connect(&address), Vec::new()));
        let mut half = connect(&address);
        half.write_all(&greeting(0, b"NULL")[..11]).unwrap();
        strangers.push((door, "half a greeting", half, Vec::new()));
        let mut unready = connect(&address);
        unready.write_all(&greeting(0, b"NULL")).unwrap();
        strangers.push((door, "no READY", unready, Vec::new()));
        let slow = connect(&address);
        slow.set_nonblocking(true).unwrap();
        strangers.push((door, "slow loris", slow, greeting(0, b"NULL")));
    }
    let start = Instant::now();
    let mut dripped = 0;
    while !strangers.is_empty() {
        assert!(
            start.elapsed() < PATIENCE,
            "still there: {}",
            strangers.len()
        );
        strangers.retain_mut(|(_, _, stream, drip)| {
            if let Some(byte) = drip.get(dripped) {
                let _ = stream.write(&[*byte]);
            }
            stream.set_nonblocking(true).unwrap();
            let mut bytes = [0; 4096];
            loop {
                match stream.read(&mut bytes) {
                    Ok(0) => return false,
                    Ok(_) => {}
                    Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
                }
            }
        });
        // A byte of 64 every 200 ms: the whole greeting would take 13 s.
        std::thread::sleep(Duration::from_millis(200));
        dripped += 1;
    }
    pool.serves();
}

#[test]
fn a_thousand_silent_connections_leave_the_pool_serving_and_go_again() {
    let pool = Pool::start(KEYED);
    let before = std::fs::read_dir(format!("/proc/{}/fd", pool.broker.child.id())).unwrap();
    let before = before.count();
    let mut strangers = Vec::new();
    for door in DOORS {
        let address = pool.address(door);
        strangers.extend((0..250).map(|_| connect(&address)));
    }
    pool.serves();
    for stranger in &mut strangers {
        assert!(is_hung_up(stranger));
    }
    pool.serves();
    drop(strangers);
    wait_for("the descriptors to be given back", || {
        let now = std::fs::read_dir(format!("/proc/{}/fd", pool.broker.child.id())).unwrap();
        (now.count() <= before + 8).then_some(())
    });
}

#[test]
fn frames_and_messages_without_end_cost_their_sender_the_link_and_no_memory() {
    let pool = Pool::start(LISTEN);
    // A frame over the link's limit is cut by its announcement.
    for door in ["frontend", "workers", "backend"] {
        let kind = if door == "backend" { "REP" } else { "DEALER" };
        let mut rogue = admitted(&pool.address(door), kind);
        let _ = rogue.write_all(&[vec![LONG], (1u64 << 40).to_be_bytes().to_vec()].concat());
        assert!(is_hung_up(&mut rogue), "{door}");
    }
    pool.serves();
    // Empty frames without end: each costs something, so the 512 MiB end after 8 million. The
    // splice counts to 64.
    let before = pool.broker.rss_kib();
    for door in ["backend", "frontend"] {
        let kind = if door == "backend" { "REP" } else { "DEALER" };
        let mut rogue = admitted(&pool.address(door), kind);
        let frames = frame(MORE, b"").repeat(32 << 10);
        let is_cut = (0..400).any(|_| rogue.write_all(&frames).is_err());
        assert!(is_cut, "{door}: 13 million frames and no end");
        pool.serves();
    }
    // And nothing of it is kept.
    wait_for("the memory to be given back", || {
        (pool.broker.rss_kib() < before + (700 << 10)).then_some(())
    });
}

#[test]
fn a_message_of_too_many_frames_or_bytes_is_answered_by_name() {
    let pool = Pool::start(&["--body-bytes-max", "100000"]);
    let context = Context::new(1).unwrap();
    let client = pool.broker.client(&context);
    let body =
        json!({"jsonrpc": "2.0", "method": "echo", "params": ["x".repeat(200_000)], "id": 1});
    assert_eq!(client.ask(body.to_string())["error"]["code"], -32005);
    let mut frames = vec![Frame::empty(), Frame::from("{}")];
    frames.extend((0..100).map(|_| Frame::from("x")));
    client.send_frames(frames);
    // No return path is looked for among so many.
    let frames = client.receive_frames();
    let reply: Value = serde_json::from_slice(frames.last().unwrap()).unwrap();
    assert!(reply["error"]["code"].is_i64(), "{reply}");
    assert_eq!(client.result("echo", json!([1])), json!([1]));
    pool.serves();
}

#[test]
fn forged_replies_and_those_of_calls_it_does_not_hold_reach_no_client() {
    let pool = Pool::start(LISTEN);
    let context = Context::new(1).unwrap();
    let victim = FakeWorker::join(&context, &pool.broker, "victim", 1, &["secret"]);
    let rogue = FakeWorker::join(&context, &pool.broker, "rogue", 1, &["other"]);
    let client = pool.broker.client(&context);
    client.send(json!({"jsonrpc": "2.0", "method": "secret", "params": [], "id": 1}).to_string());
    let given = victim.call(0);
    let fenced = |pool: &Pool| pool.status()["calls"]["fenced"].as_u64().unwrap();
    let before = fenced(&pool);
    // Of other runs of the broker, which may be honest; then the victim's own dispatch and those
    // that follow it.
    let mut forged = 0;
    for call in 0..20 {
        for epoch in [Epoch(0), Epoch(u64::MAX)] {
            let dispatch = DispatchId {
                epoch,
                call: CallId(call),
                attempt: 1,
            };
            rogue.reply(0, dispatch, "\"forged\"");
            forged += 1;
        }
    }
    for dispatch in [
        given.dispatch,
        DispatchId {
            attempt: 2,
            ..given.dispatch
        },
        DispatchId {
            call: CallId(u64::MAX),
            ..given.dispatch
        },
    ] {
        rogue.reply(0, dispatch, "\"forged\"");
        forged += 1;
    }
    wait_for("every forged reply to be fenced", || {
        (fenced(&pool) >= before + forged).then_some(())
    });
    // Three strikes: the link is nobody's any more.
    rogue.reply(0, given.dispatch, "\"forged\"");
    rogue.expect(&rogue.slots[0], Command::Who);
    assert_eq!(fenced(&pool), before + forged);
    victim.reply(0, given.dispatch, "\"true\"");
    // And a second time, which is one too many.
    victim.reply(0, given.dispatch, "\"again\"");
    let reply: Value = serde_json::from_slice(&client.receive()).unwrap();
    assert_eq!(reply["result"], "true");
    wait_for("the second reply to be fenced", || {
        (fenced(&pool) > before + forged).then_some(())
    });
    assert_eq!(client.result("echo", json!(["next"])), json!(["next"]));
    pool.serves();
}

#[test]
fn nobody_joins_as_a_slot_of_a_worker_whose_token_it_does_not_know() {
    let pool = Pool::start(LISTEN);
    let context = Context::new(1).unwrap();
    let rogue = Socket::open(&context, Kind::Dealer, &Profile::DataLink).unwrap();
    rogue.connect(&pool.broker.endpoint("workers")).unwrap();
    for (token, slot) in [("guess", 1), ("token-of-honest", 0), ("", 1)] {
        let join = Join {
            token: token.into(),
            slot,
            pid: 1,
            nest: None,
        };
        let body = serde_json::to_vec(&join).unwrap();
        let frames = vec![Frame::from(&Command::Join.frame()), Frame::from(body)];
        send(&rogue, frames);
        let mut frames = Vec::new();
        assert!(rogue.recv_timeout(&mut frames, PATIENCE).unwrap());
        let answer = Command::read(&frames[0]).unwrap();
        assert!(
            matches!(answer, Command::Refused | Command::Who),
            "{token} {slot}: {answer:?}"
        );
    }
    pool.serves();
}

#[test]
fn a_hundred_thousand_methods_are_refused_by_name_and_the_worker_stays() {
    let pool = Pool::start(LISTEN);
    let context = Context::new(1).unwrap();
    let mut greedy = FakeWorker::join(&context, &pool.broker, "greedy", 1, &["mine"]);
    greedy.registration.methods = (0..100_000).map(|n| method(&format!("m{n}"))).collect();
    let body = serde_json::to_vec(&greedy.registration).unwrap();
    greedy.tell(Command::Changed, &body);
    greedy.expect(&greedy.control, Command::Refused);
    pool.serves();
    let client = pool.broker.client(&context);
    client.send(json!({"jsonrpc": "2.0", "method": "mine", "params": [], "id": 1}).to_string());
    let given = greedy.call(0);
    greedy.reply(0, given.dispatch, "1");
    let reply: Value = serde_json::from_slice(&client.receive()).unwrap();
    assert_eq!(reply["result"], 1);
}

#[test]
fn a_client_with_anothers_routing_id_gets_none_of_its_replies() {
    let pool = Pool::start(LISTEN);
    let context = Context::new(1).unwrap();
    let worker = FakeWorker::join(&context, &pool.broker, "w", 1, &["slow"]);
    let address = pool.address("frontend");
    let named = |name: &[u8]| introduced(&address, "DEALER", &property("Identity", name));
    let call = |params: &str| {
        let body = format!(r#"{{"jsonrpc":"2.0","method":"slow","params":{params},"id":1}}"#);
        [frame(MORE, b""), frame(0, body.as_bytes())].concat()
    };
    let mut owner = named(b"anna");
    owner.write_all(&call("[\"mine\"]")).unwrap();
    let given = worker.call(0);
    // It takes the id and asks something itself.
    let mut thief = named(b"anna");
    thief.write_all(&call("[\"theirs\"]")).unwrap();
    worker.reply(0, given.dispatch, "\"for the owner\"");
    let mut head = [0; 4];
    owner.read_exact(&mut head).unwrap();
    let mut body = vec![0; usize::from(head[3])];
    owner.read_exact(&mut body).unwrap();
    assert!(String::from_utf8(body).unwrap().contains("for the owner"));
    thief
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    assert!(
        thief.read(&mut [0; 64]).is_err(),
        "the thief is told something"
    );
    pool.serves();
}
