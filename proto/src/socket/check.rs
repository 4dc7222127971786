//! What the linked libzmq must have, checked once at start and shown by `muster doctor`.

use std::net::TcpStream;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::context::Context;
use super::error::SocketError;
use super::key::Nonce;
use super::monitor::{LinkEvent, Monitor, Watch};
use super::poll::{Interest, PollItem, poll};
use super::profile::Profile;
use super::raw;
use super::{Kind, Socket};

/// The release that the build pins and that every measured claim is about.
const VERSION: (i32, i32, i32) = (4, 3, 5);
/// How far libzmq's clock may be from the system's monotonic one, read a moment later.
const CLOCK_SKEW_US_MAX: u64 = 1_000_000;
/// A loopback connection takes microseconds; this is for a machine under extreme load.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// "version", "curve", "ipc", "clock" or "keepalive".
    pub name: &'static str,
    /// Whether it is as Muster needs it. True also where it could not be looked at, as `detail`
    /// says then.
    pub ok: bool,
    /// What was found.
    pub detail: String,
}

/// Looks at the linked libzmq: its version, CURVE, local sockets, its clock and TCP keepalive.
pub fn self_check() -> Vec<Check> {
    vec![
        version(),
        capability("curve"),
        capability("ipc"),
        clock(),
        keepalive(),
    ]
}

/// Fails on the first check that does; looks once per process.
pub(super) fn require() -> Result<(), SocketError> {
    static CHECKS: OnceLock<Vec<Check>> = OnceLock::new();
    match CHECKS
        .get_or_init(self_check)
        .iter()
        .find(|check| !check.ok)
    {
        None => Ok(()),
        Some(Check { name, detail, .. }) => Err(SocketError::SelfCheck {
            name,
            detail: detail.clone(),
        }),
    }
}

fn version() -> Check {
    let (major, minor, patch) = zmq::version();
    Check {
        name: "version",
        ok: (major, minor, patch) == VERSION,
        detail: format!("libzmq {major}.{minor}.{patch}"),
    }
}

fn capability(name: &'static str) -> Check {
    let ok = zmq::has(name) == Some(true);
    Check {
        name,
        ok,
        detail: if ok { "built in" } else { "not built in" }.to_owned(),
    }
}

/// With `gettimeofday` for a clock, a step of the system's time would hide a dead peer.
fn clock() -> Check {
    let Some(libzmq_us) = raw::libzmq_clock_us() else {
        return Check {
            name: "clock",
            ok: true,
            detail: "not checked: no memory".to_owned(),
        };
    };
    let now = clock_gettime(ClockId::Monotonic);
    let now_us = now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000;
    let ok = now_us.abs_diff(libzmq_us) <= CLOCK_SKEW_US_MAX;
    let detail = if ok {
        "monotonic"
    } else {
        "not the monotonic clock"
    };
    Check {
        name: "clock",
        ok,
        detail: detail.to_owned(),
    }
}

/// A library built without the platform's defines takes the keepalive options and drops them, so
/// the kernel is asked about a real connection.
fn keepalive() -> Check {
    let (ok, detail) = match accepted_keepalive() {
        Ok(true) => (true, "set on accepted connections".to_owned()),
        Ok(false) => (false, "accepted connections have none".to_owned()),
        Err(reason) => (true, format!("not checked: {reason}")),
    };
    Check {
        name: "keepalive",
        ok,
        detail,
    }
}

fn accepted_keepalive() -> Result<bool, String> {
    let context = Context::unchecked().map_err(|error| error.to_string())?;
    let disconnect = Nonce::random().map_err(|error| error.to_string())?;
    let probe = || -> Result<(Socket, Monitor, String), SocketError> {
        let socket = Socket::open(&context, Kind::Router, &Profile::Frontend { disconnect })?;
        let monitor = socket.monitor(Watch::Accepts)?;
        socket.bind("tcp://127.0.0.1:*")?;
        let endpoint = socket.last_endpoint()?;
        Ok((socket, monitor, endpoint))
    };
    let (_listener, mut monitor, endpoint) = probe().map_err(|error| error.to_string())?;
    let address = endpoint.trim_start_matches("tcp://");
    let _peer = TcpStream::connect(address).map_err(|error| error.to_string())?;

    let deadline = Instant::now() + PROBE_TIMEOUT;
    loop {
        if let Some(LinkEvent::Accepted(fd)) =
            monitor.next_event().map_err(|error| error.to_string())?
        {
            return raw::with_descriptor(fd, Profile::keepalive_of)
                .map_err(|error| error.to_string());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("the connection was not accepted in time".to_owned());
        }
        let mut items = [PollItem::socket(monitor.socket(), Interest::Read)];
        poll(&mut items, Some(left)).map_err(|error| error.to_string())?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_passes_every_check_and_skips_none() {
        let checks = self_check();
        let names: Vec<_> = checks.iter().map(|check| check.name).collect();
        assert_eq!(names, ["version", "curve", "ipc", "clock", "keepalive"]);
        for check in checks {
            assert!(
                check.ok && !check.detail.contains("not checked"),
                "{check:?}"
            );
        }
    }
}
