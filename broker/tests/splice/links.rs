//! Honest peers: bytes come through, and ends are seen.

use std::os::unix::net::UnixStream;

use muster_broker::splice::{GoneReason, Origin, Way};
use muster_proto::socket::Context;
use muster_test_support::zmtp::{COMMAND, MORE, frame, greeting, ready};

use crate::raw::RawPeer;
use crate::rig::{Rig, answer, rep};
use crate::role;

#[test]
fn a_stock_rep_is_served_over_tcp() {
    let mut rig = Rig::tcp();
    let context = Context::new(1).unwrap();
    let worker = rep(&context, &rig.endpoint());
    let link = rig.next_ready();
    let arrival = &rig.arrivals[&link];
    assert_eq!(arrival.origin, Origin::Listener(0));
    assert!(arrival.address.starts_with("tcp://127.0.0.1:"));
    assert_eq!(arrival.process, None);
    assert!(arrival.answers_pings);
    let bodies: [&[&[u8]]; 2] = [&[b"Hello"], &[b"", b"", b"parts"]];
    for body in bodies {
        assert!(rig.send(link, body));
        answer(&worker);
        assert!(
            rig.receive(link)
                .iter()
                .map(|frame| &frame[..])
                .eq(body.iter().copied())
        );
    }
    drop(worker);
    assert_eq!(rig.reason(link), GoneReason::Eof);
    rig.until("no links", |rig| rig.splice().links() == 0);
}

#[test]
fn a_local_peer_is_known_by_its_process_and_its_files_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backend");
    let endpoint = format!("ipc://{}", path.display());
    let mut rig = Rig::with(|config| {
        config.listeners[0].endpoint.clone_from(&endpoint);
    });
    let worker = role::start("role::echoing", &endpoint);
    let link = rig.next_ready();
    rig.echo(link, b"x");
    let process = rig.arrivals[&link].process.unwrap();
    assert_eq!(process.pid, worker.pid());
    assert_eq!(process.uid, rustix::process::geteuid().as_raw());
    // The private endpoint is gone once the DEALER is through it.
    assert_eq!(std::fs::read_dir(rig.folder.path()).unwrap().count(), 0);
    assert!(path.exists());
    rig.lines.stop();
    assert!(!path.exists());
}

#[test]
fn large_and_odd_sizes_come_back_unchanged() {
    for mut rig in Rig::both() {
        let _worker = role::start("role::echoing", &rig.endpoint());
        let link = rig.next_ready();
        for bytes in [
            0,
            1,
            254,
            255,
            256,
            8191,
            8192,
            32 << 10,
            65_537,
            1 << 20,
            (20 << 20) + 3,
        ] {
            let body: Vec<u8> = (0..bytes).map(|n| (n * 31 % 251) as u8).collect();
            rig.echo(link, &body);
        }
    }
}

#[test]
fn many_messages_under_way_arrive_in_order() {
    for mut rig in Rig::both() {
        let _workers = [(); 4].map(|()| role::start("role::echoing", &rig.endpoint()));
        rig.until("four workers", |rig| rig.ready.len() == 4);
        let links: Vec<_> = rig.ready.iter().copied().collect();
        let body = |n: u32| [&n.to_be_bytes()[..], &vec![0; (n as usize * 977) % 5000]].concat();
        for n in 0..2000 {
            for &link in &links {
                assert!(rig.send(link, &[&body(n)]));
                if n >= 30 {
                    assert!(rig.receive(link)[0] == body(n - 30)[..]);
                }
            }
        }
    }
}

#[test]
fn the_last_reply_of_a_worker_that_leaves_is_there_when_its_end_is_told() {
    for mut rig in Rig::both() {
        for _ in 0..20 {
            let worker = role::start("role::answering_once", &rig.endpoint());
            let link = rig.next_ready();
            assert!(rig.send(link, &[&[7; 100_000]]));
            rig.reason(link);
            assert!(rig.has_message(link), "the reply was lost");
            assert_eq!(rig.receive(link)[0].len(), 100_000);
            worker.finish();
        }
    }
}

#[test]
fn a_killed_worker_is_gone() {
    for mut rig in Rig::both() {
        let mut worker = role::start("role::holding", &rig.endpoint());
        let link = rig.next_ready();
        assert!(rig.send(link, &[b"x"]));
        worker.line("holding it");
        worker.kill();
        let reason = rig.reason(link);
        assert!(
            matches!(reason, GoneReason::Eof | GoneReason::Reset),
            "{reason}"
        );
    }
}

#[test]
fn the_kernels_keepalive_runs_on_the_accepted_socket() {
    let mut rig = Rig::tcp();
    let context = Context::new(1).unwrap();
    let _worker = rep(&context, &rig.endpoint());
    rig.next_ready();
    let address = rig.address();
    let port = format!(
        ":{:04X}",
        address.rsplit_once(':').unwrap().1.parse::<u16>().unwrap()
    );
    // Timer 02 is keepalive; 01 stands in while sent bytes wait for their acknowledgement.
    rig.until("a keepalive timer", |_| {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        table.lines().skip(1).any(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            fields[1].ends_with(&port) && fields[3] == "01" && fields[5].starts_with("02:")
        })
    });
}

#[test]
fn both_ends_can_close() {
    let mut rig = Rig::tcp();
    let context = Context::new(1).unwrap();
    let _one = rep(&context, &rig.endpoint());
    let link = rig.next_ready();
    rig.lines.close(link);
    assert_eq!(rig.reason(link), GoneReason::Closed);
    // A stock worker dials again by itself.
    assert_ne!(rig.next_ready(), link);
}

#[test]
fn a_dealer_that_closes_ends_its_link() {
    let mut rig = Rig::keyed();
    let context = Context::new(1).unwrap();
    let _one = rep(&context, &rig.endpoint());
    let link = rig.next_ready();
    assert!(rig.has_dealer(link));
    rig.lines.forget(link);
    assert_eq!(rig.reason(link), GoneReason::Closed);
    assert_ne!(rig.next_ready(), link);
}

#[test]
fn a_loop_that_is_slow_to_join_loses_nobody() {
    let mut rig = Rig::with(|config| {
        config.handshake = std::time::Duration::from_millis(300);
        config.limits.silence = std::time::Duration::from_millis(300);
    });
    rig.joins = false;
    let mut peers: Vec<_> = (0..20).map(|_| RawPeer::old_rep(&rig.address())).collect();
    rig.until("twenty arrivals", |rig| rig.arrivals.len() == 20);
    // Much longer than the handshake may take, had it begun.
    let mut stranger = RawPeer::connect(&rig.address());
    assert!(stranger.is_hung_up());
    assert!(rig.gone.is_empty());
    for arrival in rig.arrivals.clone().into_values() {
        rig.join(&arrival);
    }
    rig.until("twenty ready", |rig| rig.ready.len() == 20);
    for peer in &mut peers {
        peer.finish_old_handshake();
    }
    // One that gives up while it waits is seen, too.
    let peer = RawPeer::old_rep(&rig.address());
    rig.until("one more", |rig| rig.arrivals.len() == 21);
    drop(peer);
    let last = *rig.arrivals.keys().last().unwrap();
    assert_eq!(rig.reason(last), GoneReason::Eof);
}

#[test]
fn a_private_endpoint_lets_no_other_process_in() {
    let mut rig = Rig::keyed();
    rig.joins = false;
    let context = Context::new(1).unwrap();
    let worker = rep(&context, &rig.endpoint());
    rig.until("an arrival", |rig| !rig.arrivals.is_empty());
    let arrival = rig.arrivals.values().next().unwrap().clone();
    let Way::Dealer(endpoint) = &arrival.way else {
        panic!("{arrival:?} needs no endpoint");
    };
    let path = endpoint.strip_prefix("ipc://").unwrap();
    role::start("role::knocking", path).finish();
    rig.join(&arrival);
    let link = rig.next_ready();
    assert!(rig.send(link, &[b"x"]));
    answer(&worker);
    rig.receive(link);
    assert!(UnixStream::connect(path).is_err());
}

#[test]
fn a_peer_of_zmtp_2_is_served() {
    let mut rig = Rig::tcp();
    let mut peer = RawPeer::old_rep(&rig.address());
    let link = rig.next_ready();
    peer.finish_old_handshake();
    assert!(rig.has_dealer(link) && !rig.arrivals[&link].answers_pings);
    assert!(rig.send(link, &[b"Hello", b"there"]));
    let request = peer.read_message();
    peer.write_message(&request);
    assert_eq!(rig.receive(link)[1], *b"there".as_slice());
}

#[test]
fn a_message_that_comes_byte_by_byte_is_whole() {
    let mut rig = Rig::tcp();
    let mut peer = RawPeer::connect(&rig.address());
    for byte in greeting(0, b"NULL") {
        peer.write(&[byte]);
    }
    for byte in ready("REP", &[]) {
        peer.write(&[byte]);
    }
    let link = rig.next_ready();
    peer.finish_handshake();
    for (flags, body) in [(MORE, &[7; 20][..]), (MORE, b""), (0, &[1; 300])] {
        for byte in frame(flags, body) {
            peer.write(&[byte]);
        }
    }
    assert_eq!(rig.receive(link)[0].len(), 300);
}

#[test]
fn curve_goes_through_and_a_keyless_peer_is_a_stranger() {
    let mut rig = Rig::keyed();
    let context = Context::new(1).unwrap();
    let worker = rep(&context, &rig.endpoint());
    let link = rig.next_ready();
    assert!(rig.has_dealer(link));
    for body in [vec![1; 10], vec![2; 3 << 20]] {
        assert!(rig.send(link, &[&body]));
        answer(&worker);
        assert!(rig.receive(link)[0] == body[..]);
    }
    let before = rig.splice().strangers();
    let mut keyless = RawPeer::rep(&rig.address(), 1);
    assert!(keyless.is_hung_up());
    assert_eq!(rig.splice().strangers(), before + 1);
}

#[test]
fn messages_that_come_with_the_handshake_are_heard() {
    let mut rig = Rig::tcp();
    let mut peer = RawPeer::connect(&rig.address());
    let message = [frame(MORE, &[7; 20]), frame(MORE, b""), frame(0, b"early")].concat();
    let ready = ready("DEALER", &[]);
    peer.write(&[&greeting(1, b"NULL"), &ready[..], &message].concat());
    let link = rig.next_ready();
    assert!(!rig.has_dealer(link));
    assert_eq!(rig.receive(link)[0], *b"early".as_slice());
    peer.finish_handshake();
}

#[test]
fn a_ping_is_answered_with_its_context_and_a_flood_of_them_by_few() {
    let mut rig = Rig::tcp();
    let mut peer = RawPeer::rep(&rig.address(), 0);
    let link = rig.next_ready();
    peer.finish_handshake();
    peer.write_frame(COMMAND, b"\x04PING\0\x0aone");
    let pong = std::thread::spawn(move || (peer.read_frame(), peer));
    rig.until("an answer", |_| pong.is_finished());
    let (pong, mut peer) = pong.join().unwrap();
    assert_eq!(pong, (COMMAND, b"\x04PONGone".to_vec()));
    // As many as one likes, none of whose answers is read: none piles up.
    let flood = frame(COMMAND, b"\x04PING\0\0").repeat(1 << 20);
    let writer = std::thread::spawn(move || {
        peer.write(&flood);
        peer.write_frame(MORE, &[7; 20]);
        peer.write_frame(MORE, b"");
        peer.write_frame(0, b"and a message");
        peer
    });
    assert_eq!(rig.receive(link)[0], *b"and a message".as_slice());
    drop(writer.join().unwrap());
}
