//! The connection to a broker's frontend: one DEALER and what is known of its peer.

use crate::answer::Reply;
use crate::target::Address;
use muster_proto::socket::{
    Context, Frame, Interest, Kind, LinkEvent, Monitor, PollItem, Profile, SendOutcome, Socket,
    SocketError, Wake, Watch, poll,
};
use std::time::Duration;

/// A reply's way back to its call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// The body has an id.
    ById,
    /// The envelope holds the number that was put there: the body can have none.
    ByPath(u64),
}

/// The first byte of our return path: neither `{` nor `[`, which would make it a body.
const PATH_MARK: u8 = 0x01;

/// A DEALER with its monitor, connected to one address. A lost link is dropped and opened anew, so
/// that no half-sent message and no old address survives.
pub(crate) struct Link {
    socket: Socket,
    monitor: Monitor,
    pub(crate) address: Address,
    outgoing: Vec<Frame>,
    incoming: Vec<Frame>,
}

impl Link {
    pub(crate) fn open(context: &Context, address: Address) -> Result<Self, SocketError> {
        let socket = Socket::open(context, Kind::Dealer, &Profile::ClientLink)?;
        if let Some(curve) = &address.curve {
            socket.set_curve_client(&curve.server_key, &curve.public_key, &curve.secret_key)?;
        }
        let monitor = socket.monitor(Watch::LinksAndRefusals)?;
        socket.connect(&address.endpoint)?;
        Ok(Link {
            socket,
            monitor,
            address,
            outgoing: Vec::new(),
            incoming: Vec::new(),
        })
    }

    /// Sends one message; false: there is no room now.
    pub(crate) fn send(
        &mut self,
        path: Option<u64>,
        body: &Frame,
        attachments: &[Frame],
    ) -> Result<bool, SocketError> {
        self.outgoing.clear();
        if let Some(number) = path {
            let mut bytes = [PATH_MARK; 9];
            bytes[1..].copy_from_slice(&number.to_be_bytes());
            self.outgoing.push(Frame::from(&bytes));
        }
        self.outgoing.push(Frame::empty());
        self.outgoing.push(body.share());
        self.outgoing.extend(attachments.iter().map(Frame::share));
        Ok(self.socket.send_frames(&mut self.outgoing)? == SendOutcome::Sent)
    }

    /// Receives one message, if one is there. One without our envelope is skipped.
    pub(crate) fn receive(&mut self) -> Result<Option<(Tag, Reply)>, SocketError> {
        while self.socket.recv_into(&mut self.incoming)? {
            let delimiter = match self.incoming.as_slice() {
                [first, _, ..] if first.is_empty() => 0,
                [path, delimiter, ..] if delimiter.is_empty() && path.len() == 9 => 1,
                _ => continue,
            };
            let tag = match delimiter {
                0 => Tag::ById,
                _ => {
                    let number = self.incoming[0][1..]
                        .try_into()
                        .expect("9 bytes, less the mark");
                    Tag::ByPath(u64::from_be_bytes(number))
                }
            };
            let mut frames = self.incoming.drain(delimiter + 1..);
            let body = frames.next().unwrap_or_default();
            return Ok(Some((
                tag,
                Reply {
                    body,
                    attachments: frames.collect(),
                },
            )));
        }
        Ok(None)
    }

    pub(crate) fn next_event(&mut self) -> Result<Option<LinkEvent>, SocketError> {
        self.monitor.next_event()
    }

    /// Waits for a message, an event, a wake or, if asked, room to send.
    pub(crate) fn wait(
        &self,
        wake: &Wake,
        room: bool,
        timeout: Option<Duration>,
    ) -> Result<(), SocketError> {
        if room {
            let mut items = [
                PollItem::socket(&self.socket, Interest::Both),
                PollItem::socket(self.monitor.socket(), Interest::Read),
                PollItem::fd(wake, Interest::Read),
            ];
            return poll(&mut items, timeout).map(|_| ());
        }
        // Nearly every wait is one for a message: it asks libzmq nothing that is known.
        let monitor = self.monitor.socket();
        if self.socket.has_message()? || monitor.has_message()? {
            return Ok(());
        }
        let mut items = [
            PollItem::wake_of(&self.socket)?,
            PollItem::wake_of(monitor)?,
            PollItem::fd(wake, Interest::Read),
        ];
        poll(&mut items, timeout).map(|_| ())
    }
}
