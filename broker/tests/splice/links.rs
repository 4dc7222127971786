//! Honest peers: bytes come through, and ends are seen.

use std::os::unix::net::UnixStream;

use muster_broker::splice::{GoneReason, Listen, Origin};
use muster_proto::socket::{Context, Kind, Profile, SendOutcome, Socket, curve_keypair};

use crate::raw::{COMMAND, MORE, RawPeer, SIGNATURE};
use crate::rig::{Rig, answer, rep};
use crate::role::Process;

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
        assert_eq!(rig.send(link, body), SendOutcome::Sent);
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
    assert_eq!(rig.splice.links(), 0);
}

#[test]
fn a_local_peer_is_known_by_its_process_and_its_files_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backend");
    let endpoint = format!("ipc://{}", path.display());
    let mut rig = Rig::with(|config| {
        config.listeners[0].endpoint.clone_from(&endpoint);
    });
    let worker = Process::start("role::echoing", &endpoint);
    let link = rig.next_ready();
    rig.echo(link, b"x");
    let process = rig.arrivals[&link].process.unwrap();
    assert_eq!(process.pid as i32, worker.pid().as_raw_nonzero().get());
    assert_eq!(process.uid, rustix::process::geteuid().as_raw());
    // The private endpoint is gone once the DEALER is through it.
    assert_eq!(std::fs::read_dir(rig.folder.path()).unwrap().count(), 0);
    assert!(path.exists());
    rig.splice.stop();
    assert!(!path.exists());
}

#[test]
fn large_and_odd_sizes_come_back_unchanged() {
    let mut rig = Rig::tcp();
    let _worker = Process::start("role::echoing", &rig.endpoint());
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

#[test]
fn many_messages_under_way_arrive_in_order() {
    let mut rig = Rig::tcp();
    let _workers = [(); 4].map(|()| Process::start("role::echoing", &rig.endpoint()));
    rig.until("four workers", |rig| rig.ready.len() == 4);
    let links: Vec<_> = rig.ready.iter().copied().collect();
    let body = |n: u32| [&n.to_be_bytes()[..], &vec![0; (n as usize * 977) % 5000]].concat();
    for n in 0..2000 {
        for &link in &links {
            assert_eq!(rig.send(link, &[&body(n)]), SendOutcome::Sent);
            if n >= 30 {
                assert!(rig.receive(link)[0] == body(n - 30)[..]);
            }
        }
    }
}

#[test]
fn the_last_reply_of_a_worker_that_leaves_is_there_when_its_end_is_told() {
    let mut rig = Rig::tcp();
    for _ in 0..30 {
        let worker = Process::start("role::answering_once", &rig.endpoint());
        let link = rig.next_ready();
        assert_eq!(rig.send(link, &[&[7; 100_000]]), SendOutcome::Sent);
        rig.reason(link);
        let mut frames = Vec::new();
        assert!(
            rig.lanes[&link].recv_into(&mut frames).unwrap(),
            "the reply was lost"
        );
        assert_eq!(frames[2].len(), 100_000);
        worker.finish();
        rig.lanes.remove(&link);
    }
}

#[test]
fn a_killed_worker_is_gone() {
    let mut rig = Rig::tcp();
    let mut worker = Process::start("role::holding", &rig.endpoint());
    let link = rig.next_ready();
    assert_eq!(rig.send(link, &[b"x"]), SendOutcome::Sent);
    worker.line("holding it");
    worker.kill();
    let reason = rig.reason(link);
    assert!(
        matches!(reason, GoneReason::Eof | GoneReason::Reset),
        "{reason}"
    );
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
    rig.splice.close(link);
    assert_eq!(rig.reason(link), GoneReason::Closed);
    // A stock worker dials again by itself.
    let link = rig.next_ready();
    rig.lanes.remove(&link);
    assert_eq!(rig.reason(link), GoneReason::Closed);
    assert_ne!(rig.next_ready(), link);
}

#[test]
fn a_loop_that_is_slow_to_join_loses_nobody() {
    let mut rig = Rig::with(|config| {
        config.handshake = std::time::Duration::from_millis(300);
        config.silence = std::time::Duration::from_millis(300);
    });
    rig.joins = false;
    let mut peers: Vec<_> = (0..20).map(|_| RawPeer::rep(&rig.address(), 1)).collect();
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
        peer.finish_handshake();
    }
    // One that gives up while it waits is seen, too.
    let peer = RawPeer::rep(&rig.address(), 1);
    rig.until("one more", |rig| rig.arrivals.len() == 21);
    drop(peer);
    let last = *rig.arrivals.keys().last().unwrap();
    assert_eq!(rig.reason(last), GoneReason::Eof);
}

#[test]
fn a_private_endpoint_lets_no_other_process_in() {
    let mut rig = Rig::tcp();
    rig.joins = false;
    let context = Context::new(1).unwrap();
    let worker = rep(&context, &rig.endpoint());
    rig.until("an arrival", |rig| !rig.arrivals.is_empty());
    let arrival = rig.arrivals.values().next().unwrap().clone();
    let path = arrival.endpoint.strip_prefix("ipc://").unwrap();
    Process::start("role::knocking", path).finish();
    rig.join(&arrival);
    let link = rig.next_ready();
    assert_eq!(rig.send(link, &[b"x"]), SendOutcome::Sent);
    answer(&worker);
    rig.receive(link);
    assert!(UnixStream::connect(path).is_err());
}

#[test]
fn a_peer_of_zmtp_2_is_served() {
    let mut rig = Rig::tcp();
    let mut peer = RawPeer::connect(&rig.address());
    peer.write(&SIGNATURE);
    // Version 2.0, and REP.
    peer.write(&[1, 4]);
    peer.write_frame(0, b"");
    let link = rig.next_ready();
    let greeting = peer.read(12);
    assert_eq!(greeting[..10], SIGNATURE);
    assert_eq!(greeting[11], 5, "a DEALER");
    assert_eq!(peer.read_frame(), (0, Vec::new()));
    assert!(!rig.arrivals[&link].answers_pings);
    assert_eq!(rig.send(link, &[b"Hello", b"there"]), SendOutcome::Sent);
    let request = peer.read_message();
    peer.write_message(&request);
    assert_eq!(rig.receive(link)[1], *b"there".as_slice());
}

#[test]
fn a_message_that_comes_byte_by_byte_is_whole() {
    let mut rig = Rig::tcp();
    let mut peer = RawPeer::connect(&rig.address());
    for byte in crate::raw::greeting(0, b"NULL") {
        peer.write(&[byte]);
    }
    for byte in crate::raw::frame(COMMAND, &crate::raw::ready("REP")) {
        peer.write(&[byte]);
    }
    let link = rig.next_ready();
    peer.finish_handshake();
    for frame in [(MORE, &[7; 20][..]), (MORE, b""), (0, &[1; 300])] {
        for byte in crate::raw::frame(frame.0, frame.1) {
            peer.write(&[byte]);
        }
    }
    assert_eq!(rig.receive(link)[0].len(), 300);
}

#[test]
fn curve_goes_through_and_a_keyless_peer_is_a_stranger() {
    let server = curve_keypair().unwrap();
    let mut rig = Rig::with(|config| {
        config.listeners.push(Listen {
            endpoint: "tcp://127.0.0.1:0".into(),
            curve: true,
        });
    });
    rig.server_secret = Some(server.secret.clone());
    let endpoint = rig.splice.bound()[1].clone();
    let keys = curve_keypair().unwrap();
    let context = Context::new(1).unwrap();
    let worker = Socket::open(&context, Kind::Rep, &Profile::DataLink).unwrap();
    worker
        .set_curve_client(&server.public, &keys.public, &keys.secret)
        .unwrap();
    worker.connect(&endpoint).unwrap();
    let link = rig.next_ready();
    assert_eq!(rig.arrivals[&link].origin, Origin::Listener(1));
    for body in [vec![1; 10], vec![2; 3 << 20]] {
        assert_eq!(rig.send(link, &[&body]), SendOutcome::Sent);
        answer(&worker);
        assert!(rig.receive(link)[0] == body[..]);
    }
    let before = rig.splice.strangers();
    let mut keyless = RawPeer::rep(endpoint.trim_start_matches("tcp://"), 1);
    assert!(keyless.is_hung_up());
    assert_eq!(rig.splice.strangers(), before + 1);
}
