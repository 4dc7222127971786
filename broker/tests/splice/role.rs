//! Other processes: this test program started again, in a role.

use std::env;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use muster_proto::socket::{Context, SendOutcome};
use muster_test_support::Role;

use crate::rig::{answer, rep};

const ENDPOINT: &str = "MUSTER_TEST_ENDPOINT";

/// Starts one of the ignored tests of this program, with an endpoint to go by.
pub fn start(role: &str, endpoint: &str) -> Role {
    Role::start(role, &[(ENDPOINT, endpoint)])
}

pub fn endpoint() -> String {
    env::var(ENDPOINT).unwrap()
}

/// Echoes until it is killed.
#[test]
#[ignore = "a role that other tests start"]
fn echoing() {
    let context = Context::new(1).unwrap();
    let rep = rep(&context, &endpoint());
    let mut frames = Vec::new();
    loop {
        if rep
            .recv_timeout(&mut frames, Duration::from_secs(60))
            .unwrap()
        {
            assert_eq!(rep.send_frames(&mut frames).unwrap(), SendOutcome::Sent);
        }
    }
}

/// Answers once and leaves as fast as libzmq lets it.
#[test]
#[ignore = "a role that other tests start"]
fn answering_once() {
    let context = Context::new(1).unwrap();
    let rep = rep(&context, &endpoint());
    rep.set_linger(Duration::from_secs(10)).unwrap();
    answer(&rep);
}

/// Takes one request and never answers it.
#[test]
#[ignore = "a role that other tests start"]
fn holding() {
    let context = Context::new(1).unwrap();
    let rep = rep(&context, &endpoint());
    let mut frames = Vec::new();
    assert!(
        rep.recv_timeout(&mut frames, Duration::from_secs(60))
            .unwrap()
    );
    println!("holding it");
    std::io::stdout().flush().unwrap();
    rep.recv_timeout(&mut frames, Duration::from_secs(60))
        .unwrap_err();
}

/// Connects to a local socket and waits to be hung up on.
#[test]
#[ignore = "a role that other tests start"]
fn knocking() {
    let mut stream = UnixStream::connect(endpoint()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    assert_eq!(
        stream
            .read(&mut [0; 100])
            .map_err(|error| error.kind())
            .unwrap_or(0),
        0
    );
    println!("hung up");
}
