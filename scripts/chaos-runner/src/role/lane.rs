//! A stock REP worker.

use super::{end_with_parent, ready};
use crate::starts::StartLog;
use crate::work::mix;
use anyhow::{Context as _, bail};
use muster_proto::rpc::{self, Body};
use muster_proto::socket::{Context, Frame, Kind, Profile, Socket};
use std::path::Path;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(3600);

pub fn run(endpoint: &str, folder: &Path) -> anyhow::Result<()> {
    let starts = StartLog::open(folder)?;
    let context = Context::new(1)?;
    let socket = Socket::open(&context, Kind::Rep, &Profile::DataLink)?;
    socket.connect(endpoint)?;
    end_with_parent();
    ready()?;
    let mut frames = Vec::new();
    loop {
        if !socket.recv_timeout(&mut frames, WAIT)? {
            continue;
        }
        let reply = match rpc::read(&frames[0]) {
            Body::Call(call) => {
                let params = call.params.context("a call has parameters")?;
                let (n, nap_ms): (u64, u64) = serde_json::from_str(params)?;
                starts.start(n)?;
                if nap_ms > 0 {
                    std::thread::sleep(Duration::from_millis(nap_ms));
                }
                rpc::result_reply(call.id.unwrap_or("null"), mix(n).to_string().as_bytes())
            }
            other => bail!("no client sends this: {other:?}"),
        };
        frames.clear();
        frames.push(Frame::from(reply));
        // The requester may have gone meanwhile; then the reply is nobody's.
        let _ = socket.send_frames(&mut frames)?;
    }
}
