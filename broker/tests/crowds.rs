//! Crowds of strangers who begin handshakes with keys.

mod common;

use common::keys::{KEYED, role_file};
use common::{Broker, PATIENCE};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

/// As `broker/src/splice/turns.rs` has it.
const TURN: Duration = Duration::from_millis(4);
const GREETING_BYTES: usize = 64;

/// A peer from an address of the loopback network that has greeted with CURVE.
struct Stranger {
    stream: TcpStream,
    heard: usize,
}

impl Stranger {
    fn greet(from: Ipv4Addr, endpoint: &str) -> Self {
        let (_, port) = endpoint.rsplit_once(':').unwrap();
        let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port.parse().unwrap());
        let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&fd, &SocketAddr::V4(SocketAddrV4::new(from, 0))).unwrap();
        connect(&fd, &SocketAddr::V4(to)).unwrap();
        let mut stream = TcpStream::from(fd);
        let mut greeting = vec![0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F, 3, 1];
        greeting.extend_from_slice(b"CURVE");
        greeting.resize(GREETING_BYTES, 0);
        stream.write_all(&greeting).unwrap();
        stream.set_nonblocking(true).unwrap();
        Stranger { stream, heard: 0 }
    }

    /// Whether a socket of the broker's talks to it: its greeting is whole.
    fn is_served(&mut self) -> bool {
        let mut bytes = [0; 256];
        while let Ok(count @ 1..) = self.stream.read(&mut bytes) {
            self.heard += count;
        }
        self.heard >= GREETING_BYTES
    }

    fn is_hung_up_on(&mut self) -> bool {
        match self.stream.read(&mut [0; 256]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn a_crowd_at_the_backend_waits_for_its_turns() {
    let broker = Broker::start(KEYED);
    let endpoint = role_file(&broker, "worker").backend;
    let greet = |last| Stranger::greet(Ipv4Addr::new(127, 0, 0, last), &endpoint);
    let start = Instant::now();
    let mut crowd: Vec<_> = (0..300).map(|_| greet(1)).collect();
    let mut other = greet(2);
    let mut is_other_served = false;
    loop {
        is_other_served |= other.is_served();
        let served = crowd.iter_mut().filter_map(|s| s.is_served().then_some(()));
        let served = served.count() as u32;
        // What was heard was said before now, so this can't be too little on a slow machine.
        let turns = start.elapsed().as_millis() as u32 / TURN.as_millis() as u32 + 2;
        assert!(served <= turns, "{served} are served where {turns} may be");
        if is_other_served && served >= 50 {
            break;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "{served} are served, another: {is_other_served}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    // Nobody stays: who was served did not go on, and who was not has had its time.
    while !crowd.iter_mut().all(Stranger::is_hung_up_on) {
        assert!(start.elapsed() < PATIENCE, "somebody is left waiting");
        std::thread::sleep(Duration::from_millis(20));
    }
}
