//! What the flags mean, checked once.

use crate::cli::{Cli, RawErrorsArg};
use crate::frontend::{FrontendConfig, RawErrors};
use crate::lanes::Server;
use muster_core::OutboxCaps;
use muster_proto::id::Epoch;
use muster_proto::limits;
use std::time::Duration;

/// A client that reads nothing for so long, with its cap full, is given up.
const OUTBOX_PATIENCE: Duration = Duration::from_secs(10);

/// TCP addresses beside the ipc ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    /// For clients.
    pub frontend: Option<String>,
    /// For stock REP workers.
    pub backend: Option<String>,
    /// For managed workers.
    pub workers: Option<String>,
    /// For subscribers of events.
    pub events: Option<String>,
}

/// A flag that does not make sense.
#[derive(Debug, thiserror::Error)]
#[error("--{flag}: {reason}")]
pub struct ConfigError {
    flag: &'static str,
    reason: String,
}

/// Where to listen beside the runtime directory: `--listen` and the flags of single doors.
///
/// # Errors
/// [`ConfigError`] names the flag.
pub fn listen(cli: &Cli) -> Result<Listen, ConfigError> {
    let mut listen = Listen::default();
    if let Some(endpoint) = &cli.listen {
        let refused = |reason: &str| ConfigError {
            flag: "listen",
            reason: reason.into(),
        };
        let (address, port) = endpoint
            .strip_prefix("tcp://")
            .and_then(|rest| rest.rsplit_once(':'))
            .ok_or_else(|| refused("use tcp://ADDR:PORT"))?;
        let port: u16 = port
            .parse()
            .map_err(|_| refused("the port is a number up to 65532"))?;
        let door = |offset: u16| match port {
            // The system picks each.
            0 => Ok(Some(format!("tcp://{address}:0"))),
            port => port
                .checked_add(offset)
                .map(|port| Some(format!("tcp://{address}:{port}")))
                .ok_or_else(|| refused("PORT+3 is over 65535")),
        };
        listen = Listen {
            frontend: door(0)?,
            backend: door(1)?,
            workers: door(2)?,
            events: door(3)?,
        };
    }
    let overriding = |single: &Option<String>, all: Option<String>| single.clone().or(all);
    Ok(Listen {
        frontend: overriding(&cli.frontend, listen.frontend),
        backend: overriding(&cli.backend, listen.backend),
        workers: overriding(&cli.workers, listen.workers),
        events: overriding(&cli.events, listen.events),
    })
}

/// Whether the TCP doors ask for keys, and what to say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// There is no TCP door, or each asks for keys.
    Keys,
    /// Keyless on loopback: every user of this machine can call.
    KeylessLoopback,
    /// Keyless for whoever reaches the address.
    Keyless,
}

impl Listen {
    /// Whether there is a TCP door at all.
    pub fn is_open(&self) -> bool {
        self.doors().next().is_some()
    }

    /// Keys are asked for on every address but loopback, and there when `--curve` says so.
    pub fn security(&self, cli: &Cli) -> Security {
        match (self.doors().all(is_loopback), cli.curve, cli.insecure) {
            (_, true, _) => Security::Keys,
            (true, false, _) if self.is_open() => Security::KeylessLoopback,
            (true, false, _) | (false, false, false) => Security::Keys,
            (false, false, true) => Security::Keyless,
        }
    }

    fn doors(&self) -> impl Iterator<Item = &str> {
        let doors = [&self.frontend, &self.backend, &self.workers, &self.events];
        doors
            .into_iter()
            .flatten()
            .map(String::as_str)
            .filter(|door| door.starts_with("tcp://"))
    }
}

fn is_loopback(endpoint: &str) -> bool {
    let host = endpoint
        .strip_prefix("tcp://")
        .and_then(|rest| rest.rsplit_once(':'));
    let host = host.map_or("", |(host, _)| {
        host.trim_start_matches('[').trim_end_matches(']')
    });
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// The REP servers of `--worker`.
///
/// # Errors
/// [`ConfigError`] names the flag.
pub fn servers(cli: &Cli) -> Result<Vec<Server>, ConfigError> {
    let read = |text: &String| {
        Server::parse(text).map_err(|reason| ConfigError {
            flag: "worker",
            reason,
        })
    };
    cli.worker.iter().map(read).collect()
}

/// The most that a waiting call takes beside its bytes: its place in the tables and queues, and what
/// the allocator adds.
const CALL_BYTES: usize = 512;

/// Caps that fit into the memory the system lets this process have, so that it is `Overloaded`
/// before the system ends it. A quarter is for the bytes of the calls that wait, another for their
/// places; the rest is for answers, messages on their way, and everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// At most so many calls may wait,
    pub queued_calls_max: usize,
    /// with so many bytes,
    pub queued_bytes_max: usize,
    /// so many bytes of answers wait for a client that does not read,
    pub outbox_bytes_max: usize,
    /// and so many bytes of answers are kept for keyed calls.
    pub answers_bytes_max: usize,
}

impl Fit {
    /// The caps of the flags, or what fits; `None`: the system sets no limit.
    pub fn new(cli: &Cli, memory_max: Option<usize>) -> Self {
        let share = |part: usize| memory_max.map_or(usize::MAX, |max| max / part);
        let answers_bytes_max = muster_core::Config::default().answers_bytes_max;
        Fit {
            queued_calls_max: cli.queued_calls_max.min(share(4 * CALL_BYTES)),
            queued_bytes_max: cli.queued_bytes_max.min(share(4)),
            outbox_bytes_max: limits::OUTBOX_BYTES_MAX.min(share(8)),
            answers_bytes_max: answers_bytes_max.min(share(16)),
        }
    }
}

/// What the core decides by.
pub fn core_config(cli: &Cli, fit: Fit, epoch: Epoch) -> muster_core::Config {
    muster_core::Config {
        epoch,
        attempts_max: cli.attempts,
        timeout: (cli.timeout > Duration::ZERO).then_some(cli.timeout),
        settle: cli.settle,
        queued_calls_max: fit.queued_calls_max,
        queued_bytes_max: fit.queued_bytes_max,
        answers_bytes_max: fit.answers_bytes_max,
        client_calls_max: cli.client_calls_max,
        ..muster_core::Config::default()
    }
}

/// What the frontend goes by.
pub fn frontend_config(cli: &Cli, fit: Fit) -> FrontendConfig {
    FrontendConfig {
        opaque: cli.opaque,
        raw_errors: match cli.raw_errors {
            RawErrorsArg::Json => RawErrors::Json,
            RawErrorsArg::Silent => RawErrors::Silent,
        },
        outbox: OutboxCaps {
            replies_max: limits::OUTBOX_REPLIES_MAX,
            bytes_max: fit.outbox_bytes_max,
            patience: OUTBOX_PATIENCE,
        },
        body_bytes_max: cli.body_bytes_max,
        attachment_bytes_max: cli.attachment_bytes_max,
        message_bytes_max: cli.message_bytes_max,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn listen_of(args: &[&str]) -> Result<Listen, String> {
        let args = std::iter::once("muster-broker").chain(args.iter().copied());
        listen(&Cli::parse_from(args)).map_err(|error| error.to_string())
    }

    #[test]
    fn one_address_opens_four_doors_and_each_can_be_moved() {
        let doors = listen_of(&["--listen", "tcp://127.0.0.1:5559", "--events", "tcp://*:9"]);
        let doors = doors.unwrap();
        assert_eq!(doors.frontend.as_deref(), Some("tcp://127.0.0.1:5559"));
        assert_eq!(doors.backend.as_deref(), Some("tcp://127.0.0.1:5560"));
        assert_eq!(doors.workers.as_deref(), Some("tcp://127.0.0.1:5561"));
        assert_eq!(doors.events.as_deref(), Some("tcp://*:9"));
        assert_eq!(listen_of(&[]).unwrap(), Listen::default());
    }

    #[test]
    fn the_caps_fit_into_a_memory_limit_and_are_the_flags_without_one() {
        let cli = Cli::parse_from(["muster-broker", "--queued-calls-max", "100000"]);
        let usual = Fit::new(&cli, None);
        assert_eq!(usual.queued_calls_max, 100_000);
        assert_eq!(usual.queued_bytes_max, limits::QUEUED_BYTES_MAX);
        assert_eq!(usual.outbox_bytes_max, limits::OUTBOX_BYTES_MAX);
        assert_eq!(Fit::new(&cli, Some(64 << 30)), usual);
        let small = Fit::new(&cli, Some(128 << 20));
        assert_eq!(small.queued_calls_max, 65_536);
        assert_eq!(small.queued_bytes_max, 32 << 20);
        assert_eq!(small.outbox_bytes_max, 16 << 20);
        assert_eq!(small.answers_bytes_max, 8 << 20);
    }

    fn security_of(args: &[&str]) -> Security {
        let cli = Cli::parse_from(std::iter::once("muster-broker").chain(args.iter().copied()));
        listen(&cli).unwrap().security(&cli)
    }

    #[test]
    fn only_loopback_or_a_flag_does_without_keys() {
        assert_eq!(security_of(&[]), Security::Keys);
        assert_eq!(
            security_of(&["--listen", "tcp://127.0.0.1:1"]),
            Security::KeylessLoopback
        );
        assert_eq!(
            security_of(&["--listen", "tcp://[::1]:1"]),
            Security::KeylessLoopback
        );
        assert_eq!(
            security_of(&["--listen", "tcp://127.0.0.1:1", "--curve"]),
            Security::Keys
        );
        assert_eq!(
            security_of(&["--listen", "tcp://0.0.0.0:1"]),
            Security::Keys
        );
        assert_eq!(security_of(&["--listen", "tcp://*:1"]), Security::Keys);
        assert_eq!(
            security_of(&["--listen", "tcp://10.0.0.1:1", "--insecure"]),
            Security::Keyless
        );
        let mixed = [
            "--listen",
            "tcp://127.0.0.1:1",
            "--workers",
            "tcp://10.0.0.1:2",
        ];
        assert_eq!(security_of(&mixed), Security::Keys);
    }

    #[test]
    fn a_wrong_address_names_its_flag() {
        for wrong in [
            "127.0.0.1:5559",
            "tcp://x",
            "tcp://127.0.0.1:65534",
            "tcp://h:70000",
        ] {
            assert!(
                listen_of(&["--listen", wrong])
                    .unwrap_err()
                    .starts_with("--listen")
            );
        }
    }
}
