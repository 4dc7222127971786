//! CURVE handshakes have their turn: a crowd of strangers neither takes libzmq's thread nor the
//! turns of others. The peers are made of bytes and of libsodium's boxes.

mod common;

use common::{PATIENCE, Router};
use muster_test_support::zmtp::{COMMAND, GREETING_BYTES, frame, greeting};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use std::ffi::{c_char, c_int};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use zmq_sys::{ZMQ_CURVE_SECRETKEY, ZMQ_CURVE_SERVER, ZMQ_HANDSHAKE_IVL};

/// Turns are the process's, so the tests take them one after the other.
static TURNS: Mutex<()> = Mutex::new(());

/// As `patch/added/newcomers.cpp` has them.
const BURST: u64 = 64;
const INTERVAL: Duration = Duration::from_millis(4);
/// Enough for all of a crowd to connect, on a busy machine, too.
const HANDSHAKE_MS: i32 = 6_000;
/// Flags, length, and the command's own bytes.
const WELCOME_BYTES: usize = 2 + 168;

/// A ROUTER that asks for keys of anybody, and its public key.
fn keyed_router() -> (Router, String, [u8; 32]) {
    let (mut public, mut secret) = ([0u8; 41], [0u8; 41]);
    let mut bytes = [0; 32];
    // SAFETY: room for 40 characters and NUL each, and for the 32 bytes of a key.
    unsafe {
        let (public_at, secret_at) = (public.as_mut_ptr(), secret.as_mut_ptr());
        let (public_at, secret_at) = (public_at.cast::<c_char>(), secret_at.cast::<c_char>());
        assert_eq!(zmq_sys::zmq_curve_keypair(public_at, secret_at), 0);
        assert!(!zmq_sys::zmq_z85_decode(bytes.as_mut_ptr(), public_at).is_null());
    }
    // What is bound last has the options; the first endpoint is not used.
    let (router, _) = Router::bind("tcp://127.0.0.1:*");
    let yes: c_int = 1;
    router.set(ZMQ_CURVE_SERVER, &yes.to_ne_bytes());
    router.set(ZMQ_CURVE_SECRETKEY, &secret);
    router.set(ZMQ_HANDSHAKE_IVL, &HANDSHAKE_MS.to_ne_bytes());
    let endpoint = router.and_bind("tcp://0.0.0.0:*");
    (router, endpoint, bytes)
}

/// The HELLO of a client that knows the server's key. CurveZMQ, RFC 26.
fn hello(server: &[u8; 32]) -> Vec<u8> {
    let (mut public, mut secret) = ([0u8; 32], [0u8; 32]);
    let nonce = *b"CurveZMQHELLO---\0\0\0\0\0\0\0\x01";
    let mut signature = [0u8; 80];
    // SAFETY: libsodium's sizes of keys, nonces and a box of 64 bytes.
    unsafe {
        assert!(libsodium_sys::sodium_init() >= 0);
        libsodium_sys::crypto_box_keypair(public.as_mut_ptr(), secret.as_mut_ptr());
        let status = libsodium_sys::crypto_box_easy(
            signature.as_mut_ptr(),
            [0u8; 64].as_ptr(),
            64,
            nonce.as_ptr(),
            server.as_ptr(),
            secret.as_ptr(),
        );
        assert_eq!(status, 0);
    }
    let mut command = b"\x05HELLO\x01\0".to_vec();
    command.resize(80, 0);
    command.extend_from_slice(&public);
    command.extend_from_slice(&nonce[16..]);
    command.extend_from_slice(&signature);
    frame(COMMAND, &command)
}

/// Connects from an address of the loopback network.
fn connect_from(from: Ipv4Addr, endpoint: &str) -> TcpStream {
    let (_, port) = endpoint.rsplit_once(':').unwrap();
    let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port.parse().unwrap());
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&fd, &SocketAddr::V4(SocketAddrV4::new(from, 0))).unwrap();
    connect(&fd, &SocketAddr::V4(to)).unwrap();
    TcpStream::from(fd)
}

/// A peer that has greeted.
struct Stranger {
    stream: TcpStream,
    heard: usize,
    is_over: bool,
}

impl Stranger {
    fn greet(from: Ipv4Addr, endpoint: &str) -> Self {
        let mut stream = connect_from(from, endpoint);
        stream.write_all(&greeting(0, b"CURVE")).unwrap();
        stream.set_nonblocking(true).unwrap();
        Stranger {
            stream,
            heard: 0,
            is_over: false,
        }
    }

    /// Any number of peers may say the same HELLO: it is new for each of them.
    fn say(&mut self, hello: &[u8]) {
        self.stream.write_all(hello).unwrap();
    }

    /// Whether the HELLO has been answered.
    fn is_welcome(&mut self) -> bool {
        let mut bytes = [0; 256];
        while !self.is_over {
            match self.stream.read(&mut bytes) {
                Ok(0) => self.is_over = true,
                Ok(count) => self.heard += count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => self.is_over = true,
            }
        }
        self.heard == GREETING_BYTES + WELCOME_BYTES
    }
}

fn wait_for_any(strangers: &[Stranger]) {
    let open = strangers.iter().filter(|stranger| !stranger.is_over);
    let mut items: Vec<_> = open
        .map(|stranger| PollFd::new(&stranger.stream, PollFlags::IN))
        .collect();
    let pause = Duration::from_millis(5).try_into().unwrap();
    poll(&mut items, Some(&pause)).unwrap();
}

#[test]
fn a_crowd_of_handshakes_waits_for_its_turns_and_others_have_their_own() {
    let _alone = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    let (_router, endpoint, server) = keyed_router();
    let hello = hello(&server);
    let greet = |last| Stranger::greet(Ipv4Addr::new(127, 0, 0, last), &endpoint);
    let mut crowd: Vec<_> = (0..400).map(|_| greet(1)).collect();
    // One address in a thousand shares its turns with the crowd's, by chance; four do not.
    let mut others: Vec<_> = (2..6).map(greet).collect();
    let start = Instant::now();
    for stranger in crowd.iter_mut().chain(&mut others) {
        stranger.say(&hello);
    }
    let mut has_other = false;
    loop {
        wait_for_any(&crowd);
        has_other |= others.iter_mut().any(Stranger::is_welcome);
        let welcome = crowd
            .iter_mut()
            .filter_map(|s| s.is_welcome().then_some(()));
        let welcome = welcome.count() as u64;
        // What came was sent before now, so this can't be too little on a slow machine.
        let turns = BURST + start.elapsed().as_micros() as u64 / INTERVAL.as_micros() as u64 + 1;
        assert!(welcome <= turns, "{welcome} answers where {turns} may be");
        if welcome >= 300 {
            assert!(has_other, "another address waits for the crowd's end");
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{welcome} were answered");
    }
}

#[test]
fn who_has_no_turn_in_time_hears_nothing_and_is_hung_up_on() {
    let _alone = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    let (_router, endpoint, server) = keyed_router();
    let hello = hello(&server);
    // More than twice as many as have a turn within two seconds. An address of its own.
    let from = Ipv4Addr::new(127, 0, 0, 77);
    let mut crowd: Vec<_> = (0..1500)
        .map(|_| Stranger::greet(from, &endpoint))
        .collect();
    crowd.iter_mut().for_each(|stranger| stranger.say(&hello));
    let start = Instant::now();
    while crowd.iter().any(|stranger| !stranger.is_over) {
        assert!(start.elapsed() < PATIENCE, "somebody is left waiting");
        wait_for_any(&crowd);
        crowd.iter_mut().for_each(|stranger| {
            stranger.is_welcome();
        });
    }
    let answered = crowd
        .iter()
        .filter(|s| s.heard == GREETING_BYTES + WELCOME_BYTES);
    let (answered, greeted) = (
        answered.count(),
        crowd.iter().filter(|s| s.heard == GREETING_BYTES),
    );
    assert!(answered >= BURST as usize, "{answered} were answered");
    assert!(answered < crowd.len(), "all were answered");
    assert_eq!(answered + greeted.count(), crowd.len());
}
