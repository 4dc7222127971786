//! A monitor that has no reader, as between the ends of the two, stops nothing.

mod common;

use common::{Router, connect};
use std::ffi::c_int;
use std::io::Read;

const EVERYTHING: c_int = 0xFFFF;

#[test]
fn without_a_reader_connections_are_served_and_the_context_ends() {
    let (router, endpoint) = Router::bind("tcp://127.0.0.1:*");
    router.monitor(c"inproc://monitor", EVERYTHING);
    for _ in 0..3 {
        let mut stream = connect(&endpoint);
        // The greeting's first bytes: libzmq's thread lives.
        stream.read_exact(&mut [0; 10]).unwrap();
    }
    // Its end tells of what ends with it, and must not wait for anybody to hear it.
    drop(router);
}
