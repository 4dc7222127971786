//! Watching the connections of a socket come and go.

use std::sync::atomic::{AtomicU64, Ordering};

use zmq_sys::{
    ZMQ_EVENT_ACCEPTED, ZMQ_EVENT_DISCONNECTED, ZMQ_EVENT_HANDSHAKE_FAILED_AUTH,
    ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL, ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL,
    ZMQ_EVENT_HANDSHAKE_SUCCEEDED,
};

use super::error::SocketError;
use super::frame::Frame;
use super::profile::Profile;
use super::raw::retry;
use super::{Kind, Socket};

/// What happened to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkEvent {
    /// The handshake is done: messages can flow.
    Up,
    /// The connection ended.
    Down,
    /// The peer or its ZAP handler refused the key; the value is ZAP's status (300, 400 or 500).
    KeyRefused(u32),
    /// The handshake failed otherwise: another protocol, security mechanism or socket type, or the
    /// peer hung up.
    HandshakeFailed,
    /// A TCP or local connection was accepted, before its handshake; the value is its descriptor.
    Accepted(i32),
}

/// Which events a monitor tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// [`LinkEvent::Up`] and [`LinkEvent::Down`].
    Links,
    /// Those and failed handshakes, for a connecting end that wants to say why it is alone.
    LinksAndRefusals,
    /// [`LinkEvent::Accepted`] alone, for the self-check.
    Accepts,
}

impl Watch {
    fn bits(self) -> i32 {
        let links = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED;
        let bits = match self {
            Self::Links => links,
            Self::LinksAndRefusals => {
                links
                    | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH
                    | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL
                    | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL
            }
            Self::Accepts => ZMQ_EVENT_ACCEPTED,
        };
        bits as i32
    }
}

/// The events of one socket's connections. Ends with the socket.
pub struct Monitor {
    socket: Socket,
    frames: Vec<Frame>,
}

impl Monitor {
    pub(super) fn open(watched: &Socket, watch: Watch) -> Result<Self, SocketError> {
        // Names of inproc endpoints are per context; one counter serves all.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let endpoint = format!(
            "inproc://muster-monitor-{}",
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        retry(|| watched.raw.options.monitor(&endpoint, watch.bits()))
            .map_err(SocketError::of("monitor a socket"))?;
        let socket = Socket::open_in(watched.raw.context(), Kind::Pair, &Profile::Inproc)?;
        socket.connect(&endpoint)?;
        Ok(Self {
            socket,
            frames: Vec::new(),
        })
    }

    /// The socket to [`poll`](super::poll()) for reading.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The next event, if one is there.
    ///
    /// # Errors
    /// [`SocketError::Terminated`] when the context was shut down.
    pub fn next_event(&mut self) -> Result<Option<LinkEvent>, SocketError> {
        while self.socket.recv_into(&mut self.frames)? {
            if let Some(event) = self.frames.first().and_then(|frame| parse(frame)) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }
}

/// Frame 0 of an event: 16 bits of event, 32 bits of value, in the machine's byte order.
fn parse(frame: &[u8]) -> Option<LinkEvent> {
    let (event, value) = frame.split_first_chunk::<2>()?;
    let value = u32::from_ne_bytes(*value.first_chunk()?);
    match u32::from(u16::from_ne_bytes(*event)) {
        ZMQ_EVENT_HANDSHAKE_SUCCEEDED => Some(LinkEvent::Up),
        ZMQ_EVENT_DISCONNECTED => Some(LinkEvent::Down),
        ZMQ_EVENT_HANDSHAKE_FAILED_AUTH => Some(LinkEvent::KeyRefused(value)),
        ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL => {
            Some(LinkEvent::HandshakeFailed)
        }
        ZMQ_EVENT_ACCEPTED => i32::try_from(value).ok().map(LinkEvent::Accepted),
        // libzmq adds MONITOR_STOPPED, which the end of the socket says as well.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_parsed_and_unknown_or_short_ones_ignored() {
        let frame = |event: u32, value: u32| {
            [&(event as u16).to_ne_bytes()[..], &value.to_ne_bytes()].concat()
        };
        assert_eq!(
            parse(&frame(ZMQ_EVENT_HANDSHAKE_SUCCEEDED, 0)),
            Some(LinkEvent::Up)
        );
        assert_eq!(
            parse(&frame(ZMQ_EVENT_DISCONNECTED, 9)),
            Some(LinkEvent::Down)
        );
        assert_eq!(
            parse(&frame(ZMQ_EVENT_HANDSHAKE_FAILED_AUTH, 400)),
            Some(LinkEvent::KeyRefused(400))
        );
        assert_eq!(parse(&frame(0x0400, 0)), None);
        assert_eq!(parse(&[0, 1, 2]), None);
        assert_eq!(parse(&[]), None);
    }
}
