//! The ZAP handler: judges every peer that comes with a key, before anything else of it is read.
//!
//! One thread answers `inproc://zeromq.zap.01`, as ZeroMQ RFC 27 has it. A domain names the door;
//! each door is for some roles. A peer that is let in carries its public key as User-Id.

use crate::keyring::Keyring;
use crate::logging::LogLimit;
use crate::room::Room;
use log::{info, warn};
use muster_proto::connection::Role;
use muster_proto::socket::{Context, Frame, Kind, Profile, Socket, SocketError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Where libzmq asks.
const ENDPOINT: &str = "inproc://zeromq.zap.01";

/// The doors with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// Clients.
    Frontend,
    /// Managed workers.
    Workers,
    /// Stock REP workers.
    Backend,
    /// Subscribers of events.
    Events,
}

impl Domain {
    /// The ZAP domain's name.
    pub const fn name(self) -> &'static str {
        match self {
            Domain::Frontend => "frontend",
            Domain::Workers => "workers",
            Domain::Backend => "backend",
            Domain::Events => "events",
        }
    }

    /// Reads a domain; a lane's carries the peer's address behind a space, since the spliced link
    /// itself shows only the splice.
    fn read(text: &str) -> Option<(Self, Option<&str>)> {
        let (name, peer) = match text.split_once(' ') {
            Some((name, peer)) => (name, Some(peer)),
            None => (text, None),
        };
        let all = [
            Domain::Frontend,
            Domain::Workers,
            Domain::Backend,
            Domain::Events,
        ];
        all.into_iter()
            .find(|domain| domain.name() == name)
            .map(|domain| (domain, peer))
    }

    /// Whether a key of this role opens the door.
    pub const fn admits(self, role: Role) -> bool {
        match self {
            // A worker asks for addresses here, and its functions may call the pool.
            Domain::Frontend => true,
            Domain::Workers | Domain::Backend => matches!(role, Role::Worker | Role::Admin),
            Domain::Events => matches!(role, Role::Admin),
        }
    }
}

/// Starts the handler. It must run before any door with keys is bound, and ends with the context.
///
/// # Errors
/// [`SocketError`] when the endpoint is taken.
pub fn start(
    context: &Context,
    keyring: Keyring,
    room: Room,
) -> Result<JoinHandle<()>, SocketError> {
    let socket = Socket::open(context, Kind::Rep, &Profile::Inproc)?;
    socket.bind(ENDPOINT)?;
    let handler = Handler {
        socket,
        keyring,
        room,
        refusals: LogLimit::default(),
    };
    let thread = thread::Builder::new()
        .name("zap".into())
        .spawn(move || handler.run());
    Ok(thread.expect("the system has room for a thread at start"))
}

struct Handler {
    socket: Socket,
    keyring: Keyring,
    room: Room,
    refusals: LogLimit,
}

impl Handler {
    fn run(mut self) {
        let mut frames = Vec::new();
        // Ends when the context is shut down. With no handler nobody is let in.
        while let Ok(received) = self
            .socket
            .recv_timeout(&mut frames, Duration::from_secs(3600))
        {
            if received {
                let mut reply = self.judge(&frames);
                if self.socket.send_frames(&mut reply).is_err() {
                    return;
                }
            }
        }
    }

    /// Frames of a request: version, request id, domain, address, identity, mechanism,
    /// credentials. RFC 27.
    fn judge(&mut self, frames: &[Frame]) -> Vec<Frame> {
        let text = |at: usize| {
            frames
                .get(at)
                .map_or("", |f| std::str::from_utf8(f).unwrap_or(""))
        };
        let domain = Domain::read(text(2));
        let peer = domain.and_then(|(_, peer)| peer);
        let address = peer.unwrap_or(text(3));
        let verdict = match (domain, text(5)) {
            (None, _) => Err("unknown domain".to_owned()),
            _ if self.room.is_full() => Err(self.room.to_string()),
            (Some((domain, _)), "CURVE") => self.judge_key(domain, frames.get(6)),
            (Some(_), mechanism) => Err(format!("{mechanism} shows no key")),
        };
        let (status, said, user) = match &verdict {
            Ok(user) => {
                if let Some(peer) = peer {
                    self.keyring.note_lane(peer, user);
                }
                ("200", "OK", user.as_str())
            }
            Err(why) => {
                let domain = domain.map_or("?", |(domain, _)| domain.name());
                log_refusal(&mut self.refusals, domain, address, why);
                ("400", "refused", "")
            }
        };
        let request_id = frames.get(1).map_or(Frame::empty(), Frame::share);
        let parts = [
            Frame::from("1.0"),
            request_id,
            Frame::from(status),
            Frame::from(said),
        ];
        parts
            .into_iter()
            .chain([Frame::from(user), Frame::empty()])
            .collect()
    }

    fn judge_key(&self, domain: Domain, key: Option<&Frame>) -> Result<String, String> {
        let key = key.filter(|key| key.len() == 32).ok_or("no key")?;
        let public = z85(key);
        let known = self.keyring.find(&public).ok_or("unknown or revoked key")?;
        if !domain.admits(known.role) {
            return Err(format!(
                "key {} is for the role {:?}",
                known.name, known.role
            ));
        }
        Ok(public)
    }
}

/// Says a few refusals a second in full, and how many more there were.
fn log_refusal(limit: &mut LogLimit, domain: &str, address: &str, why: &str) {
    let verdict = limit.ask();
    if verdict.left_out > 0 {
        info!("{} more peers were refused", verdict.left_out);
    }
    if verdict.says {
        // What a stranger sends is cut short.
        let address: String = address.chars().take(64).collect();
        warn!("{domain}: peer at {address} refused: {why}");
    }
}

/// ZeroMQ RFC 32: five characters for four bytes. Only for keys: `bytes` is a multiple of four.
fn z85(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 85] =
        b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
    let mut text = String::with_capacity(bytes.len() / 4 * 5);
    for chunk in bytes.chunks_exact(4) {
        let mut number = chunk
            .iter()
            .fold(0u32, |number, &byte| number << 8 | u32::from(byte));
        let mut digits = [0u8; 5];
        for digit in digits.iter_mut().rev() {
            *digit = DIGITS[(number % 85) as usize];
            number /= 85;
        }
        text.extend(digits.map(char::from));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn z85_is_written_as_in_the_rfc() {
        let bytes = [0x86, 0x4f, 0xd2, 0x6f, 0xb5, 0x59, 0xf7, 0x5b];
        assert_eq!(z85(&bytes), "HelloWorld");
    }

    #[test]
    fn each_role_opens_its_doors_and_no_other() {
        let admits = |role| {
            [
                Domain::Frontend,
                Domain::Workers,
                Domain::Backend,
                Domain::Events,
            ]
            .map(|domain| domain.admits(role))
        };
        assert_eq!(admits(Role::Client), [true, false, false, false]);
        assert_eq!(admits(Role::Worker), [true, true, true, false]);
        assert_eq!(admits(Role::Admin), [true, true, true, true]);
    }

    #[test]
    fn a_lanes_domain_carries_its_peers_address() {
        assert_eq!(
            Domain::read("backend 10.0.0.7"),
            Some((Domain::Backend, Some("10.0.0.7")))
        );
        assert_eq!(Domain::read("frontend"), Some((Domain::Frontend, None)));
        assert_eq!(Domain::read("elsewhere"), None);
    }
}
