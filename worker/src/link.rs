//! A connection to the broker that comes back by itself and tells when it does.

use muster_proto::connection::Curve;
use muster_proto::socket::{
    Context, Frame, Kind, LinkEvent, Monitor, Profile, SendOutcome, Socket, SocketError, Watch,
};
use muster_proto::worker::Command;
use serde::Serialize;

/// A DEALER with one peer, the broker, and the monitor of its connection.
pub(crate) struct Link {
    pub socket: Socket,
    pub monitor: Monitor,
}

impl Link {
    /// Starts to connect; [`LinkEvent::Up`] follows whenever the connection is made.
    ///
    /// # Errors
    /// A bad endpoint or key, or no more descriptors.
    pub fn open(
        context: &Context,
        profile: &Profile,
        endpoint: &str,
        curve: Option<&Curve>,
    ) -> Result<Self, SocketError> {
        let socket = Socket::open(context, Kind::Dealer, profile)?;
        if let Some(curve) = curve {
            socket.set_curve_client(&curve.server_key, &curve.public_key, &curve.secret_key)?;
        }
        let monitor = socket.monitor(Watch::LinksAndRefusals)?;
        socket.connect(endpoint)?;
        Ok(Link { socket, monitor })
    }

    /// The next change of the connection, if there is one.
    pub fn event(&mut self) -> Result<Option<LinkEvent>, SocketError> {
        self.monitor.next_event()
    }

    /// Sends a command with a JSON body.
    pub fn send_json(
        &self,
        command: Command,
        body: &impl Serialize,
    ) -> Result<SendOutcome, SocketError> {
        self.socket.send(json_message(command, body))
    }
}

/// A message of a command and a JSON body.
pub(crate) fn json_message(command: Command, body: &impl Serialize) -> Vec<Frame> {
    let body = serde_json::to_vec(body).expect("protocol messages have string keys only");
    vec![Frame::from(&command.frame()), Frame::from(body)]
}
