//! What Muster's changes to libzmq are for: peers made of bytes, against a ROUTER.

mod common;

use common::{PATIENCE, Router, connect};
use muster_test_support::Role;
use muster_test_support::zmtp::{MORE, frame, greeting, is_hung_up, property, ready};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// What a DEALER of ZMTP 3 says first, with these properties beyond its type.
fn hello(properties: &[u8]) -> Vec<u8> {
    [greeting(0, b"NULL"), ready("DEALER", properties)].concat()
}

/// A DEALER as it should be: it has read greeting and READY before it sends a message.
fn greeted(endpoint: &str, metadata: &[u8]) -> TcpStream {
    let mut stream = connect(endpoint);
    stream.write_all(&hello(metadata)).unwrap();
    stream.read_exact(&mut [0; 64 + 2 + 41]).unwrap();
    stream
}

/// Writes until the other side hangs up, at most so many times.
fn is_cut_while_writing(stream: &mut TcpStream, bytes: &[u8], times_max: usize) -> bool {
    (0..times_max).any(|_| stream.write_all(bytes).is_err())
}

#[test]
fn a_message_that_never_ends_costs_its_sender_the_link() {
    let (router, endpoint) = Router::bind("tcp://127.0.0.1:*");
    for body in [vec![7; 64 << 10], vec![]] {
        let mut stranger = connect(&endpoint);
        stranger.write_all(&hello(b"")).unwrap();
        let frames = frame(MORE, &body).repeat(1024);
        // A thousand times what may be kept, at least.
        assert!(is_cut_while_writing(&mut stranger, &frames, 64 << 10));
    }
    // And the next one is served.
    let mut honest = greeted(&endpoint, b"");
    honest.write_all(&frame(0, b"hello")).unwrap();
    assert_eq!(router.sizes(), [5, 5]);
}

#[test]
fn messages_within_the_cap_are_taken_for_ever() {
    let (router, endpoint) = Router::bind("tcp://127.0.0.1:*");
    let mut honest = greeted(&endpoint, b"");
    let half = vec![1; 500_000];
    for _ in 0..20 {
        honest.write_all(&frame(MORE, &half)).unwrap();
        honest.write_all(&frame(0, &half)).unwrap();
        assert_eq!(router.sizes(), [5, 500_000, 500_000]);
        honest.write_all(&frame(0, &vec![2; 1 << 20])).unwrap();
        assert_eq!(router.sizes(), [5, 1 << 20]);
    }
    // The two halves and this are over it together.
    honest.write_all(&frame(MORE, &half)).unwrap();
    honest.write_all(&frame(MORE, &half)).unwrap();
    let _ = honest.write_all(&frame(0, &half));
    assert!(is_hung_up(&mut honest));
}

#[test]
fn an_id_like_those_that_the_router_draws_or_longer_than_zmtp_allows_is_refused() {
    let (router, endpoint) = Router::bind("tcp://127.0.0.1:*");
    let refused: [&[u8]; 4] = [b"\0", b"\0abcd", &[b'x'; 256], &[b'x'; 40_000]];
    for id in refused {
        let mut stranger = connect(&endpoint);
        let _ = stranger.write_all(&hello(&property("Identity", id)));
        assert!(is_hung_up(&mut stranger), "{} bytes", id.len());
    }
    let mut stranger = connect(&endpoint);
    let _ = stranger.write_all(&hello(&property("X-Load", &[b'x'; 70_000])));
    assert!(is_hung_up(&mut stranger));

    let mut honest = greeted(&endpoint, &property("Identity", &[b'x'; 255]));
    honest.write_all(&frame(0, b"hello")).unwrap();
    // The buffer of `sizes` is small; the size is told whole.
    assert_eq!(router.sizes(), [255, 5]);
}

#[test]
fn an_older_peers_reserved_id_is_refused_too() {
    let (router, endpoint) = Router::bind("tcp://127.0.0.1:*");
    // ZMTP 2: signature, revision 1, DEALER; then the id as a message.
    let greeting = [0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F, 1, 5];
    for id in [&b"\0abcd"[..], &[b'x'; 256]] {
        let mut stranger = connect(&endpoint);
        let _ = stranger.write_all(&greeting);
        let _ = stranger.write_all(&frame(0, id));
        assert!(is_hung_up(&mut stranger), "{} bytes", id.len());
    }
    let mut honest = connect(&endpoint);
    honest.write_all(&greeting).unwrap();
    honest.write_all(&frame(0, b"me")).unwrap();
    // Signature, version and type, and an id of no bytes.
    honest.read_exact(&mut [0; 12 + 2]).unwrap();
    honest.write_all(&frame(0, b"hello")).unwrap();
    assert_eq!(router.sizes(), [2, 5]);
}

/// Listens with room for eight descriptors more, until its input ends.
#[test]
#[ignore = "a role that another test starts"]
fn listen_with_few_descriptors() {
    let folder = tempfile::tempdir().unwrap();
    let local = format!("ipc://{}/s", folder.path().display());
    let (router, endpoint) = Router::bind("tcp://127.0.0.1:*");
    router.and_bind(&local);
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let limit = libc::rlimit {
        rlim_cur: open + 8,
        rlim_max: open + 8,
    };
    // SAFETY: sets this process's own limit.
    assert_eq!(
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) },
        0
    );
    println!("endpoints {endpoint} {local}");
    let mut rest = String::new();
    std::io::stdin().read_to_string(&mut rest).unwrap();
}

/// Whether a peer that says nothing gets the listener's greeting or is hung up on.
fn is_admitted(stream: &mut impl Read) -> bool {
    let greeted = stream.read_exact(&mut [0; 10]);
    let kind = greeted.as_ref().err().map(std::io::Error::kind);
    assert_ne!(
        kind,
        Some(std::io::ErrorKind::WouldBlock),
        "it is left waiting"
    );
    greeted.is_ok()
}

#[test]
#[cfg(target_os = "linux")]
fn the_limit_of_open_files_costs_newcomers_their_link_and_nothing_else() {
    let mut role = Role::start("listen_with_few_descriptors", &[]);
    let line = role.line("endpoints ");
    let (tcp, local) = line.split_once(' ').unwrap();
    let path = local.trim_start_matches("ipc://");
    let open_local = || {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };

    // Each of these is either greeted or hung up on: none is left waiting, and nothing ends.
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..16 {
        let mut stream = open_local();
        match is_admitted(&mut stream) {
            true => held.push(stream),
            false => refused += 1,
        }
        let mut stream = connect(tcp);
        refused += u32::from(!is_admitted(&mut stream) && !role.has_ended());
    }
    assert!((1..=12).contains(&held.len()), "{} were held", held.len());
    assert!(refused >= 8, "{refused} were refused");

    // When they are gone there is room again, at both doors.
    drop(held);
    let start = Instant::now();
    while !is_admitted(&mut open_local()) || !is_admitted(&mut connect(tcp)) {
        assert!(start.elapsed() < PATIENCE, "nobody is let in any more");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!role.has_ended());
}
