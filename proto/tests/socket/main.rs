//! Sockets on real links: what the module promises, where libzmq alone would not.

#![cfg(feature = "socket")]

mod endpoints;
mod faults;
mod links;
mod process;
mod security;
mod signals;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use muster_proto::socket::{Context, Frame, Kind, Nonce, Profile, SendOutcome, Socket};

/// Waits end far earlier; this is the limit for a machine under extreme load.
const PATIENCE: Duration = Duration::from_secs(20);

fn context() -> Context {
    Context::new(1).expect("a context")
}

fn nonce() -> Nonce {
    Nonce::random().expect("random bytes")
}

fn open(context: &Context, kind: Kind, profile: Profile) -> Socket {
    Socket::open(context, kind, &profile).expect("a socket")
}

/// A socket listening on a loopback port that the system picked, and its endpoint.
fn listen(context: &Context, kind: Kind, profile: Profile) -> (Socket, String) {
    let socket = open(context, kind, profile);
    socket.bind("tcp://127.0.0.1:*").expect("a free port");
    let endpoint = socket.last_endpoint().expect("bound above");
    (socket, endpoint)
}

fn dial(context: &Context, kind: Kind, profile: Profile, endpoint: &str) -> Socket {
    let socket = open(context, kind, profile);
    socket.connect(endpoint).expect("a valid endpoint");
    socket
}

fn receive(socket: &Socket) -> Vec<Frame> {
    let mut frames = Vec::new();
    assert!(
        socket.recv_timeout(&mut frames, PATIENCE).expect("receive"),
        "no message came"
    );
    frames
}

/// Sends over a connecting socket, which has room once its connection is up.
fn send<const N: usize>(socket: &Socket, frames: [&[u8]; N]) {
    let mut frames: Vec<Frame> = frames.into_iter().map(Frame::from).collect();
    assert_eq!(
        socket.send_timeout(&mut frames, PATIENCE).expect("send"),
        SendOutcome::Sent
    );
}

fn wait_until(what: &str, is_true: impl FnMut() -> bool) {
    muster_test_support::wait_until(what, PATIENCE, is_true);
}

/// Tells threads to end, also when the test panics.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
