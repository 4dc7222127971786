//! Clients that have called once and stay connected.

use super::{end_with_parent, ready};
use anyhow::{bail, ensure};
use muster_proto::socket::{Context, Frame, Kind, Profile, SendOutcome, Socket};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(30);
/// Calls in flight while they come: nobody's queue is to be full of them.
const AT_ONCE: usize = 100;

pub fn run(endpoint: &str, count: usize) -> anyhow::Result<()> {
    let context = Context::new(1)?;
    let mut clients = Vec::new();
    let mut frames = Vec::new();
    while clients.len() < count {
        let first = clients.len();
        for _ in 0..AT_ONCE.min(count - first) {
            let client = Socket::open(&context, Kind::Req, &Profile::ClientLink)?;
            client.connect(endpoint)?;
            clients.push(client);
        }
        for client in &clients[first..] {
            let body = r#"{"jsonrpc":"2.0","method":"echo","params":[1],"id":1}"#;
            frames.clear();
            frames.push(Frame::from(body.as_bytes()));
            let sent = client.send_timeout(&mut frames, WAIT)?;
            ensure!(sent == SendOutcome::Sent, "the broker takes no call");
        }
        for client in &clients[first..] {
            if !client.recv_timeout(&mut frames, WAIT)? {
                bail!("no answer");
            }
        }
    }
    end_with_parent();
    ready()?;
    loop {
        std::thread::park();
    }
}
