//! A client that sends calls as fast as the broker takes them.

use super::end_with_parent;
use anyhow::ensure;
use muster_proto::socket::{
    Context, Frame, Interest, Kind, PollItem, Profile, SendOutcome, Socket, poll,
};
use std::time::Duration;

/// Longer than the broker needs for all of them on a busy machine.
const WAIT: Duration = Duration::from_secs(30);

/// Sends `calls` calls of `nothing`, reads all answers, and says how many were results.
pub fn run(endpoint: &str, calls: u64) -> anyhow::Result<()> {
    end_with_parent();
    let socket = Socket::open(&Context::new(1)?, Kind::Dealer, &Profile::ClientLink)?;
    socket.connect(endpoint)?;
    super::ready()?;
    let body = Frame::from(r#"{"jsonrpc":"2.0","method":"nothing","id":1}"#);
    let (mut sent, mut received, mut results) = (0, 0, 0);
    let (mut outgoing, mut incoming) = (Vec::new(), Vec::new());
    while received < calls {
        while sent < calls {
            outgoing.clear();
            outgoing.extend([Frame::empty(), body.share()]);
            if socket.send_frames(&mut outgoing)? != SendOutcome::Sent {
                break;
            }
            sent += 1;
        }
        let interest = match sent < calls {
            true => Interest::Both,
            false => Interest::Read,
        };
        let ready = poll(&mut [PollItem::socket(&socket, interest)], Some(WAIT))?;
        ensure!(ready > 0, "{received} of {calls} answers, and no more");
        while socket.recv_into(&mut incoming)? {
            received += 1;
            results += u64::from(incoming[1].windows(8).any(|part| part == b"\"result\""));
        }
    }
    println!("{results}");
    Ok(())
}
