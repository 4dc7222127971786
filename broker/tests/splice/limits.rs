//! Nothing grows without bound, and nothing is left behind.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use muster_broker::splice::GoneReason;
use muster_proto::socket::Context;
use muster_test_support::resident_kib;
use muster_test_support::zmtp::{MORE, frame, greeting, ready};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::raw::RawPeer;
use crate::rig::{Rig, answer, rep};
use crate::role;

#[test]
fn an_unfinished_message_over_a_cap_is_cut() {
    let mut rig = Rig::with(|config| config.limits.message_bytes_max = 1 << 20);
    let many = frame(MORE, b"x").repeat(10_001);
    let large = frame(MORE, &vec![0; 300_000]).repeat(4);
    let huge = [MORE | 2, 0, 0, 1, 0, 0, 0, 0, 0];
    for bytes in [&many[..], &large, &huge] {
        let mut peer = RawPeer::rep(&rig.address(), 0);
        let link = rig.next_ready();
        peer.finish_handshake();
        // The far end may hang up before the last byte.
        let _ = peer.stream.write_all(bytes);
        assert_eq!(rig.reason(link), GoneReason::TooLarge);
    }
    // As large as that when finished, it passes.
    let mut peer = RawPeer::rep(&rig.address(), 0);
    let link = rig.next_ready();
    for _ in 0..3 {
        peer.write(&many[..many.len() - 6]);
        peer.write_frame(0, b"end");
    }
    rig.until("the messages", |rig| rig.has_message(link));
    assert_eq!(rig.gone.get(&link), None);
}

#[test]
fn a_peer_that_does_not_read_stops_its_lane_and_no_other() {
    let mut rig = Rig::tcp();
    // Of a version that is not judged by its silence.
    let mut slow = RawPeer::rep(&rig.address(), 0);
    let slow_link = rig.next_ready();
    slow.finish_handshake();
    let _worker = role::start("role::echoing", &rig.endpoint());
    let link = rig.next_ready();
    let body = |n: usize| vec![n as u8; 200_000];
    let mut sent = 0;
    let mut refused_at = None;
    while refused_at.is_none_or(|at: Instant| at.elapsed() < Duration::from_secs(1)) {
        if rig.send(slow_link, &[&body(sent)]) {
            sent += 1;
            refused_at = None;
        } else {
            refused_at = refused_at.or(Some(Instant::now()));
        }
        // A line's own limit is 64 messages; the kernel holds a few more.
        assert!(sent < 500, "{sent} messages are under way");
        rig.echo(link, b"another lane");
    }
    let reader = std::thread::spawn(move || {
        for n in 0..sent {
            assert!(slow.read_message()[2] == body(n), "message {n} of {sent}");
        }
        slow
    });
    rig.until("room", |_| reader.is_finished());
    let mut slow = reader.join().unwrap();
    assert!(rig.send(slow_link, &[b"x"]));
    assert_eq!(slow.read_message()[2], b"x");
}

#[test]
fn a_peer_that_floods_a_loop_that_does_not_read_is_held_up() {
    let mut rig = Rig::tcp();
    let mut flood = RawPeer::rep(&rig.address(), 0);
    let link = rig.next_ready();
    flood.finish_handshake();
    rig.reads = false;
    let message = |n: u64| {
        let body = [&n.to_be_bytes()[..], &[0; 10_000]].concat();
        [frame(MORE, &[7; 20]), frame(MORE, b""), frame(0, &body)].concat()
    };
    flood.stream.set_nonblocking(true).unwrap();
    let (mut sent, mut rest) = (0, Vec::new());
    let mut blocked_at = None;
    while blocked_at.is_none_or(|at: Instant| at.elapsed() < Duration::from_secs(1)) {
        if rest.is_empty() {
            rest = message(sent);
            sent += 1;
        }
        match flood.stream.write(&rest) {
            Ok(count) => {
                rest.drain(..count);
                blocked_at = None;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                blocked_at = blocked_at.or(Some(Instant::now()));
            }
            Err(error) => panic!("{error}"),
        }
        // A few megabytes in the kernel's buffers.
        assert!(sent < 5000, "{sent} messages were taken");
    }
    assert!(rig.gone.is_empty());
    flood.stream.set_nonblocking(false).unwrap();
    rig.reads = true;
    let writer = std::thread::spawn(move || {
        flood.write(&rest);
        flood
    });
    for n in 0..sent {
        assert!(
            rig.receive(link)[0].starts_with(&n.to_be_bytes()),
            "message {n} of {sent}"
        );
    }
    drop(writer.join());
}

#[test]
fn whoever_comes_when_it_is_full_waits() {
    let mut rig = Rig::with(|config| {
        config.connections_max = 2;
        config.handshake = Duration::from_millis(500);
    });
    let context = Context::new(1).unwrap();
    let first = rep(&context, &rig.endpoint());
    let link = rig.next_ready();
    let second = rep(&context, &rig.endpoint());
    rig.next_ready();
    let mut stranger = RawPeer::connect(&rig.address());
    stranger
        .stream
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    assert!(!stranger.is_hung_up(), "it was accepted");
    let _third = rep(&context, &rig.endpoint());
    assert_eq!(rig.ready.len(), 2);
    drop(first);
    rig.reason(link);
    // The stranger has the place for the time of the handshake, then the third worker.
    rig.next_ready();
    assert_eq!(rig.splice().links(), 2);
    drop(second);
}

/// Of this process.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Processor time of this process so far.
fn cpu_ms() -> i64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    spent.tv_sec * 1000 + spent.tv_nsec / 1_000_000
}

/// Connects and disconnects, in every way that there is.
#[test]
#[ignore = "a role that other tests start"]
fn churning() {
    let mut rig = Rig::tcp();
    let address = rig.address();
    let mut round = |count: u64| {
        for n in 0..count {
            match n % 5 {
                0 => drop(TcpStream::connect(&address).unwrap()),
                1 => {
                    let mut peer = RawPeer::connect(&address);
                    peer.write(b"hello?");
                    assert!(peer.is_hung_up());
                }
                2 => RawPeer::connect(&address).write(&greeting(1, b"NULL")),
                _ => {
                    let mut peer = RawPeer::rep(&address, (n % 2) as u8);
                    let link = rig.next_ready();
                    peer.finish_handshake();
                    assert!(rig.send(link, &[&[0; 1000]]));
                    let request = peer.read_message();
                    if n % 5 == 3 {
                        peer.write_message(&request);
                        rig.receive(link);
                    }
                }
            }
            // What has ended is let go, as a loop would.
            while rig.step(Duration::ZERO) {}
            rig.arrivals.retain(|link, _| !rig.gone.contains_key(link));
            rig.ready.retain(|link| !rig.gone.contains_key(link));
            rig.gone.clear();
            // libzmq closes sockets on a thread of its own, which may be starved; how many wait for
            // it is not what is measured here.
            rig.until("closed sockets", |_| descriptors() < 24);
        }
        rig.until("the last ends", |rig| {
            rig.splice().links() == 0 && rig.gone.len() == rig.arrivals.len()
        });
        rig.arrivals.clear();
        rig.gone.clear();
        rig.ready.clear();
        let mut fewest = usize::MAX;
        rig.until("descriptors to settle", |_| {
            let now = descriptors();
            let is_settled = now == fewest;
            fewest = fewest.min(now);
            is_settled
        });
        (fewest, resident_kib(std::process::id()))
    };
    round(500);
    let (descriptors_before, kib_before) = round(500);
    let (descriptors_after, kib_after) = round(5000);
    println!("{descriptors_before} {descriptors_after} {kib_before} {kib_after}");
    assert!(
        descriptors_after <= descriptors_before,
        "{descriptors_before} {descriptors_after}"
    );
    assert!(kib_after < kib_before + 2048, "{kib_before} {kib_after}");
}

#[test]
fn thousands_that_come_and_go_leave_descriptors_and_memory_where_they_were() {
    role::start("limits::churning", "").finish();
}

/// Five hundred workers, and one more.
#[test]
#[ignore = "a role that other tests start"]
fn crowding() {
    let mut rig = Rig::tcp();
    let address = rig.address();
    let mut idle: Vec<_> = (0..500).map(|_| RawPeer::rep(&address, 0)).collect();
    rig.until("500 lanes", |rig| rig.ready.len() == 500);
    for peer in &mut idle {
        peer.finish_handshake();
    }
    let before = cpu_ms();
    std::thread::sleep(Duration::from_secs(2));
    let spent_ms = cpu_ms() - before;
    assert!(spent_ms <= 20, "{spent_ms} ms of 2 s for nothing");
    let context = Context::new(1).unwrap();
    let worker = rep(&context, &rig.endpoint());
    let link = rig.next_ready();
    for _ in 0..100 {
        assert!(rig.send(link, &[b"x"]));
        answer(&worker);
        rig.receive(link);
    }
    for other in rig.ready.clone() {
        assert!(other == link || rig.send(other, &[b"x"]));
    }
    for peer in &mut idle {
        assert_eq!(peer.read_message()[2], b"x");
    }
    drop(idle);
    rig.until("500 ends", |rig| rig.gone.len() == 500);
}

#[test]
fn five_hundred_idle_workers_cost_nothing() {
    role::start("limits::crowding", "").finish();
}

/// A process with few descriptors.
#[test]
#[ignore = "a role that other tests start"]
fn starving() {
    let mut rig = Rig::with(|config| config.handshake = Duration::from_millis(300));
    let context = Context::new(1).unwrap();
    let worker = rep(&context, &rig.endpoint());
    let link = rig.next_ready();
    // One is left, for the first of many.
    let limit = getrlimit(Resource::Nofile);
    let few = Rlimit {
        current: Some(descriptors() as u64),
        ..limit
    };
    setrlimit(Resource::Nofile, few).unwrap();
    println!("listening at {}", rig.address());
    std::io::stdout().flush().unwrap();
    rig.joins = false;
    let before = cpu_ms();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        rig.step(Duration::from_millis(100));
        // The lane that is there works on.
        assert!(rig.send(link, &[b"x"]));
        answer(&worker);
        rig.receive(link);
    }
    let spent_ms = cpu_ms() - before;
    assert!(spent_ms < 1000, "{spent_ms} of 3000 ms: it spins");
    setrlimit(Resource::Nofile, limit).unwrap();
    rig.joins = true;
    for arrival in rig.arrivals.clone().into_values() {
        if arrival.link != link && !rig.gone.contains_key(&arrival.link) {
            rig.join(&arrival);
        }
    }
    let before: BTreeSet<_> = rig.ready.clone();
    rig.until("a worker of those that waited", |rig| {
        rig.ready.len() > before.len()
    });
    println!("saved");
}

#[test]
fn without_descriptors_it_neither_spins_nor_ends() {
    let mut process = role::start("limits::starving", "");
    let address = process.line("listening at ");
    let mut waiting: Vec<_> = (0..50)
        .map(|_| TcpStream::connect(&address).unwrap())
        .collect();
    for stream in &mut waiting {
        // Some are hung up on: they had their chance.
        let _ = stream.write_all(&[greeting(1, b"NULL"), ready("REP", &[])].concat());
    }
    process.line("saved");
    process.finish();
}
