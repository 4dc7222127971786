//! The options of every kind of socket in Muster, each with its reason.

use std::os::fd::BorrowedFd;

use zmq_sys::{ZMQ_DISCONNECT_MSG, ZMQ_TCP_MAXRT};

use super::Kind;
use super::key::Nonce;
use super::raw::{Errno, RawSocket};
use crate::limits;

/// Connections waiting to be accepted: a thousand workers come back at once when a broker restarts.
const BACKLOG: i32 = 1024;
/// First pause before a connection is tried again.
const RECONNECT_MS: i32 = 100;
/// Longest pause: every peer is back within 3 s, and libzmq's jitter has room to spread them.
const RECONNECT_MS_MAX: i32 = 3_000;
/// An attempt to connect that gets no answer starts over; the system would wait for two minutes.
const CONNECT_TIMEOUT_MS: i32 = 3_000;
/// Messages read ahead of the broker's loop for one lane. A peer that sends more is stopped by its
/// connection's window until the loop has taken some; an honest one has its credit's worth.
const LANE_RECEIVE_MAX: i32 = 256;
/// The splice judges a lane's handshake, by limits::HANDSHAKE_MS; libzmq shall not be first.
const LANE_HANDSHAKE_MS: i32 = 3 * limits::HANDSHAKE_MS as i32;
/// How long a lane's peer waits for a sign of the broker before it dials again: the only way out
/// for a stock worker that can't see that the broker's machine is gone. Its libzmq counts a large
/// request as silence until it is whole, so it is far above any transfer.
const LANE_TTL_MS: i32 = 15 * 60 * 1_000;
/// Kernel keepalive: probes after 5 s of silence, three of them 2 s apart, so 11 s to the end.
const KEEPALIVE_IDLE_S: i32 = 5;
const KEEPALIVE_INTERVAL_S: i32 = 2;
const KEEPALIVE_PROBES: i32 = 3;
/// Keepalive sleeps while sent bytes wait for their acknowledgement; this limit covers that.
const TCP_UNACKNOWLEDGED_MS: i32 = 10_000;

/// What a socket is for, and so how it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// The broker's ROUTER for clients.
    Frontend {
        /// Arrives as a client's last frame when its connection ends.
        disconnect: Nonce,
    },
    /// The broker's ROUTER for managed workers, control and data links alike.
    Workers {
        /// Arrives as a worker's last frame when its connection ends.
        disconnect: Nonce,
    },
    /// The broker's DEALER for one stock REP worker, behind the splice.
    Lane {
        /// Calls that may be on their way to it at once.
        credit: u32,
        /// Whether the peer speaks ZMTP 3.1 and so answers PINGs. Others may take one for an error.
        heartbeat: bool,
    },
    /// The same for a worker that listens itself: this DEALER connects, without a splice.
    LaneDial {
        /// Calls that may be on their way to it at once.
        credit: u32,
    },
    /// The broker's PUB.
    Events,
    /// A SUB on the broker's events.
    EventsLink,
    /// A managed worker's control DEALER.
    ControlLink,
    /// A slot's data DEALER, and a stock REP of `--plain`.
    DataLink,
    /// A client's DEALER or REQ.
    ClientLink,
    /// Between threads of one process.
    Inproc,
}

/// The profile as numbers, where the sockets differ.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    /// Messages libzmq keeps for the application; 0: no limit.
    receive_max: i32,
    /// Messages libzmq keeps for the peer; 0: no limit.
    send_max: i32,
    heartbeat: Option<Heartbeat>,
    /// Whether only a living connection takes messages, instead of the connection to come.
    immediate: bool,
    handshake_ms: i32,
    reconnect_ms: i32,
    /// 0: never longer than `reconnect_ms`.
    reconnect_ms_max: i32,
    disconnect: Option<Nonce>,
}

/// ZMTP's heartbeat: a PING every `interval_ms`, and the end `timeout_ms` after an unanswered one.
#[derive(Debug, PartialEq, Eq)]
struct Heartbeat {
    interval_ms: i32,
    /// 0: never the end.
    timeout_ms: i32,
    /// How long the peer waits for the next sign of this side; 0: for ever.
    ttl_ms: i32,
}

impl Profile {
    fn options(self) -> Options {
        // No heartbeat unless named below: libzmq cuts a peer whose one large frame takes longer
        // than the timeout, and at a finite receive limit a healthy one. Keepalive judges the rest.
        let base = Options {
            receive_max: 0,
            send_max: 0,
            heartbeat: None,
            immediate: false,
            // A stranger costs a descriptor for this long and no longer.
            handshake_ms: limits::HANDSHAKE_MS as i32,
            reconnect_ms: RECONNECT_MS,
            reconnect_ms_max: RECONNECT_MS_MAX,
            disconnect: None,
        };
        match self {
            // Clients are strangers: little is read ahead, and a client that does not read its
            // replies is met by EAGAIN early, where the broker's outbox and its caps take over.
            Self::Frontend { disconnect } => Options {
                receive_max: 64,
                send_max: 256,
                disconnect: Some(disconnect),
                ..base
            },
            // The core's credit bounds both directions. A limit here would only delay a cancel
            // behind calls and make libzmq stop reading heartbeats.
            Self::Workers { disconnect } => Options {
                disconnect: Some(disconnect),
                ..base
            },
            // The sending limit is a second fence behind the core's credit. PINGs make a silent
            // peer answer, and the splice, which sees bytes, judges; libzmq never does. The
            // endpoint serves one connection, so there is nothing to reconnect to.
            Self::Lane { credit, heartbeat } => Options {
                receive_max: LANE_RECEIVE_MAX,
                send_max: credit_max(credit),
                heartbeat: heartbeat.then_some(Heartbeat {
                    interval_ms: 1_000,
                    timeout_ms: 0,
                    ttl_ms: LANE_TTL_MS,
                }),
                handshake_ms: LANE_HANDSHAKE_MS,
                reconnect_ms: i32::MAX,
                reconnect_ms_max: 0,
                ..base
            },
            Self::LaneDial { credit } => Options {
                send_max: credit_max(credit),
                immediate: true,
                ..base
            },
            // A subscriber that does not read loses events and sees the gap by their sequence.
            Self::Events => Options {
                send_max: 1_000,
                ..base
            },
            Self::EventsLink => Options {
                receive_max: 1_000,
                ..base
            },
            // The thread behind it always reads and frames are small, so a heartbeat is safe here
            // and finds a lost broker in 4 s.
            // Sending has no limit: what is said is as much as the broker asked, and the answer to a
            // recall is a call given back, lost for good if there were no room for it.
            Self::ControlLink => Options {
                heartbeat: Some(Heartbeat {
                    interval_ms: 1_000,
                    timeout_ms: 3_000,
                    ttl_ms: 0,
                }),
                immediate: true,
                ..base
            },
            // While a slot computes nobody reads: libzmq takes everything in (the broker's credit
            // bounds it), or a full TCP window would count as a dead peer. Sending has a limit, so
            // that a stream of items feels a slow broker.
            Self::DataLink => Options {
                send_max: 1_000,
                immediate: true,
                ..base
            },
            // Replies are as many as the client has calls in flight, which it bounds itself. Not
            // IMMEDIATE: with it libzmq drops, when the connection ends, the replies that it has
            // received and the client has not read yet (the last ones of a broker that leaves).
            Self::ClientLink => Options {
                send_max: 1_000,
                ..base
            },
            // No limit: a full monitor or ZAP queue would stop libzmq's I/O thread.
            Self::Inproc => base,
        }
    }

    /// Sets the options of a fresh socket.
    pub(super) fn apply(self, socket: &RawSocket, kind: Kind) -> Result<(), Errno> {
        let Options {
            receive_max,
            send_max,
            heartbeat,
            immediate,
            handshake_ms,
            reconnect_ms,
            reconnect_ms_max,
            disconnect,
        } = self.options();
        let zmq = &socket.options;

        // The first I/O thread, unless an endpoint is told otherwise.
        zmq.set_affinity(1)?;
        // Muster drains by itself; by default a context would wait for ever for a peer's reading.
        zmq.set_linger(0)?;
        zmq.set_handshake_ivl(handshake_ms)?;
        zmq.set_maxmsgsize(limits::LINK_BYTES_MAX)?;
        zmq.set_backlog(BACKLOG)?;
        zmq.set_reconnect_ivl(reconnect_ms)?;
        zmq.set_reconnect_ivl_max(reconnect_ms_max)?;
        zmq.set_connect_timeout(CONNECT_TIMEOUT_MS)?;
        zmq.set_rcvhwm(receive_max)?;
        zmq.set_sndhwm(send_max)?;
        zmq.set_immediate(immediate)?;

        zmq.set_tcp_keepalive(1)?;
        zmq.set_tcp_keepalive_idle(KEEPALIVE_IDLE_S)?;
        zmq.set_tcp_keepalive_intvl(KEEPALIVE_INTERVAL_S)?;
        zmq.set_tcp_keepalive_cnt(KEEPALIVE_PROBES)?;
        socket.set_number(ZMQ_TCP_MAXRT, TCP_UNACKNOWLEDGED_MS)?;

        if let Some(Heartbeat {
            interval_ms,
            timeout_ms,
            ttl_ms,
        }) = heartbeat
        {
            zmq.set_heartbeat_ivl(interval_ms)?;
            zmq.set_heartbeat_timeout(timeout_ms)?;
            zmq.set_heartbeat_ttl(ttl_ms)?;
        }
        if kind == Kind::Router {
            // A reply that cannot be sent is an error, instead of silently gone.
            zmq.set_router_mandatory(true)?;
            // Nobody takes over another peer's routing id, and its replies.
            zmq.set_router_handover(false)?;
        }
        if let Some(nonce) = disconnect {
            socket.set_bytes(ZMQ_DISCONNECT_MSG, nonce.as_bytes())?;
        }
        if kind == Kind::Req {
            // Otherwise one lost reply wedges the socket for ever.
            zmq.set_req_relaxed(true)?;
            zmq.set_req_correlate(true)?;
        }
        Ok(())
    }

    /// Checks what the kernel was told about an accepted connection, by the same constants.
    pub(super) fn keepalive_of(fd: BorrowedFd<'_>) -> Result<bool, rustix::io::Errno> {
        use rustix::net::sockopt;
        Ok(sockopt::socket_keepalive(fd)?
            && sockopt::tcp_keepidle(fd)?.as_secs() == KEEPALIVE_IDLE_S as u64
            && sockopt::tcp_keepintvl(fd)?.as_secs() == KEEPALIVE_INTERVAL_S as u64
            && sockopt::tcp_keepcnt(fd)? == KEEPALIVE_PROBES as u32
            && sockopt::tcp_user_timeout(fd)? == TCP_UNACKNOWLEDGED_MS as u32)
    }
}

/// A limit that a lane with so much credit never meets: libzmq tells the sender of room only when
/// half of the limit has been taken.
fn credit_max(credit: u32) -> i32 {
    let twice = credit.saturating_add(1).saturating_mul(2);
    i32::try_from(twice).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_that_can_cut_never_meets_a_receive_limit() {
        let disconnect = Nonce::random().unwrap();
        for profile in [
            Profile::Frontend { disconnect },
            Profile::Workers { disconnect },
            Profile::Lane {
                credit: 1,
                heartbeat: true,
            },
            Profile::LaneDial { credit: 1 },
            Profile::Events,
            Profile::EventsLink,
            Profile::ControlLink,
            Profile::DataLink,
            Profile::ClientLink,
            Profile::Inproc,
        ] {
            let options = profile.options();
            assert!(
                options.heartbeat.is_none_or(|h| h.timeout_ms == 0) || options.receive_max == 0,
                "{profile:?}"
            );
        }
    }

    #[test]
    fn the_answer_to_a_recall_always_finds_room() {
        assert_eq!(Profile::ControlLink.options().send_max, 0);
    }

    #[test]
    fn a_lane_takes_its_credit_while_half_of_the_limit_is_not_told_of() {
        let lane = |credit| Profile::Lane {
            credit,
            heartbeat: true,
        };
        assert_eq!(lane(1).options().send_max, 4);
        assert_eq!(lane(u32::MAX).options().send_max, i32::MAX);
    }
}
