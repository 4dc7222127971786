//! Calls by a plain REQ socket: what any ZeroMQ program can do without this library.

use crate::answer::{Answer, Reply};
use crate::call::Call;
use crate::error::Error;
use crate::pending::Outcome;
use crate::request::GUARD;
use crate::target::Target;
use muster_proto::socket::{Context, Frame, Kind, Profile, SendOutcome, Socket};
use std::time::{Duration, Instant};

/// How long the first connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(900);
/// A wait without an end, as far as a poll can tell.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Calls a method: connects, asks, receives, and is gone.
///
/// # Errors
/// Those of [`crate::Client::call`], though a broker that dies is not noticed here: give the call
/// a timeout.
pub fn call(target: &Target, call: Call) -> Outcome {
    let timeout = Duration::from_millis(call.meta.timeout_ms.unwrap_or(0));
    let mut body = Vec::new();
    call.write(Some(1), &mut body);
    let mut frames = vec![Frame::from(body)];
    frames.extend(call.attachments);
    let wait = match timeout {
        Duration::ZERO => FOREVER,
        timeout => timeout + GUARD,
    };
    let mut frames = ask(target, frames, wait)?.into_iter();
    let body = frames.next().unwrap_or_default();
    Answer::read(Reply {
        body,
        attachments: frames.collect(),
    })
}

/// Sends any bytes and returns the frames of the answer. A zero timeout: none.
///
/// # Errors
/// [`Error::Silent`], [`Error::Timeout`].
pub fn raw(target: &Target, body: &[u8], timeout: Duration) -> Result<Vec<Frame>, Error> {
    // The broker knows no deadline of it, so there is no answer to give time to.
    let wait = match timeout {
        Duration::ZERO => FOREVER,
        timeout => timeout,
    };
    ask(target, vec![Frame::from(body)], wait)
}

fn ask(target: &Target, mut frames: Vec<Frame>, wait: Duration) -> Result<Vec<Frame>, Error> {
    let address = target.resolve()?;
    let context = Context::new(1)?;
    let socket = Socket::open(&context, Kind::Req, &Profile::ClientLink)?;
    if let Some(curve) = &address.curve {
        socket.set_curve_client(&curve.server_key, &curve.public_key, &curve.secret_key)?;
    }
    socket.connect(&address.endpoint)?;
    if socket.send_timeout(&mut frames, CONNECT_TIMEOUT)? != SendOutcome::Sent {
        return Err(Error::Silent {
            endpoint: address.endpoint,
        });
    }
    let start = Instant::now();
    if !socket.recv_timeout(&mut frames, wait)? {
        return Err(Error::Timeout(start.elapsed()));
    }
    Ok(frames)
}
