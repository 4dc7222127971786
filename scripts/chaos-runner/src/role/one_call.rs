//! One call of a bare DEALER, without a key: its connection is all that holds it.

use super::end_with_parent;
use anyhow::ensure;
use muster_proto::socket::{Context, Frame, Kind, Profile, SendOutcome, Socket};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(600);

pub fn run(endpoint: &str, method: &str, params: &str) -> anyhow::Result<()> {
    end_with_parent();
    let socket = Socket::open(&Context::new(1)?, Kind::Dealer, &Profile::ClientLink)?;
    socket.connect(endpoint)?;
    let body = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params},"id":1}}"#);
    let mut frames = vec![Frame::empty(), Frame::from(body)];
    let sent = socket.send_timeout(&mut frames, WAIT)?;
    ensure!(sent == SendOutcome::Sent, "the broker takes no call");
    ensure!(socket.recv_timeout(&mut frames, WAIT)?, "no answer");
    println!("{}", String::from_utf8_lossy(&frames[1]));
    Ok(())
}
