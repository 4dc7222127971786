//! The cap on connections over TCP. It holds for the whole process, so its test has one alone.

mod common;

use common::{PATIENCE, Router, connect};
use std::io::Read;
use std::net::TcpStream;
use std::time::Instant;

/// Whether a peer that says nothing is greeted, and not hung up on.
fn is_greeted(stream: &mut TcpStream) -> bool {
    stream.read_exact(&mut [0; 10]).is_ok()
}

#[test]
#[cfg(target_os = "linux")]
fn with_as_many_connections_as_there_may_be_newcomers_are_hung_up_on() {
    let (_router, endpoint) = Router::bind("tcp://127.0.0.1:*");
    let mut first = connect(&endpoint);
    assert!(is_greeted(&mut first));
    // Each connection takes two descriptors in this process, its own end and ours.
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as i32;
    // SAFETY: sets two numbers.
    unsafe { zmq_sys::muster_limit_descriptors(open + 20, 0) };
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..40 {
        let mut stream = connect(&endpoint);
        match is_greeted(&mut stream) {
            true => held.push(stream),
            false => refused += 1,
        }
    }
    assert!((8..=12).contains(&held.len()), "{} were held", held.len());
    assert_eq!(held.len() + refused, 40);
    // SAFETY: reads a number.
    assert_eq!(
        unsafe { zmq_sys::muster_newcomers_refused() },
        refused as u64
    );

    // When they are gone there is room again.
    drop(held);
    let start = Instant::now();
    while !is_greeted(&mut connect(&endpoint)) {
        assert!(start.elapsed() < PATIENCE, "nobody is let in any more");
    }
}
