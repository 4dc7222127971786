//! A stock REP worker that speaks JSON-RPC.

use super::{end_with_parent, ready};
use crate::function;
use anyhow::bail;
use muster_proto::rpc::{self, Body};
use muster_proto::socket::{Context, Frame, Kind, Profile, SendOutcome, Socket};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(3600);

pub fn run(endpoint: &str, sockets: u32) -> anyhow::Result<()> {
    let context = Context::new(1)?;
    let mut threads = Vec::new();
    for _ in 0..sockets {
        let socket = Socket::open(&context, Kind::Rep, &Profile::DataLink)?;
        socket.connect(endpoint)?;
        threads.push(std::thread::spawn(move || serve(&socket)));
    }
    end_with_parent();
    ready()?;
    for thread in threads {
        thread.join().expect("a worker's thread")?;
    }
    Ok(())
}

fn serve(socket: &Socket) -> anyhow::Result<()> {
    let mut frames = Vec::new();
    loop {
        if !socket.recv_timeout(&mut frames, WAIT)? {
            continue;
        }
        let attachments = frames.split_off(1);
        let reply = match rpc::read(&frames[0]) {
            Body::Call(call) => {
                let result = function::run(&call.method, call.params.unwrap_or("[]"), &attachments);
                rpc::result_reply(call.id.unwrap_or("null"), &result)
            }
            other => bail!("no row sends this: {other:?}"),
        };
        frames.clear();
        frames.push(Frame::from(reply));
        frames.extend(attachments);
        if socket.send_frames(&mut frames)? != SendOutcome::Sent {
            bail!("the requester has gone");
        }
    }
}
