//! The frontend ROUTER: clients' messages into events, answers into replies.

mod answers;
mod batch;
mod call;
mod client;
mod message;

pub use client::{Asker, scoped_key};

use crate::introspect::Local;
use crate::keyring::Keyring;
use crate::reply::Reply;
use crate::request::{Kind, Request};
use crate::tally::Tally;
use answers::Unsent;
use client::ClientLink;
use log::debug;
use message::Message;
use muster_core::{ClientId, Event, Outbox, OutboxCaps};
use muster_proto::code::Code;
use muster_proto::limits::MESSAGE_FRAMES_MAX;
use muster_proto::rpc::{self, Body, Refused, RpcError};
use muster_proto::socket::{Frame, Nonce, Socket, SocketError};
use muster_proto::{envelope, envelope::Envelope};
use rustc_hash::FxHashMap;
use serde_json::json;
use std::cmp::Ordering::{Equal, Greater, Less};

/// What a message from a client asks for.
#[derive(Debug)]
pub enum Incoming {
    /// Something for the core.
    Event(Event<Request, Reply>),
    /// Nothing: it was answered here, or can't be.
    Nothing,
}

/// What the frontend asks of the rest of the broker while it reads a message.
pub trait Desk {
    /// Whether something takes raw bodies now.
    fn takes_raw(&self) -> bool;

    /// Answers one of the broker's own methods with a result as JSON.
    ///
    /// # Errors
    /// What the caller did wrong.
    fn answer(
        &mut self,
        method: Local,
        params: Option<&str>,
        asker: Asker<'_>,
    ) -> Result<String, RpcError>;
}

/// How a body without a `meta` of its own is answered when it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawErrors {
    /// With a JSON-RPC error.
    Json,
    /// Not at all.
    Silent,
}

/// What the frontend is told once.
#[derive(Clone, Copy, Debug)]
pub struct FrontendConfig {
    /// Every body is raw.
    pub opaque: bool,
    /// How failed raw calls are answered.
    pub raw_errors: RawErrors,
    /// Replies kept for clients that do not read.
    pub outbox: OutboxCaps,
    /// Longest body.
    pub body_bytes_max: usize,
    /// Longest attachment.
    pub attachment_bytes_max: usize,
    /// Longest message.
    pub message_bytes_max: usize,
}

/// Nearly all messages have no more frames: envelope, body and a few attachments.
const FEW_FRAMES: usize = 8;

/// The socket with its clients.
pub struct Frontend {
    socket: Socket,
    disconnect: Nonce,
    config: FrontendConfig,
    keyring: Option<Keyring>,
    ids: FxHashMap<Box<[u8]>, ClientId>,
    routing: FxHashMap<ClientId, ClientLink>,
    last_id: u32,
    outbox: Outbox<Vec<Frame>>,
    frames: Vec<Frame>,
    /// Answers of this turn, frame after frame, and whose they are.
    unsent: Vec<Frame>,
    unsent_of: Vec<Unsent>,
    /// Replies dropped because their client does not read.
    pub dropped: u64,
    tally: Tally,
}

impl Frontend {
    /// Takes a bound socket over. `keyring`: where some of its doors ask for keys.
    pub fn new(
        socket: Socket,
        disconnect: Nonce,
        config: FrontendConfig,
        keyring: Option<Keyring>,
    ) -> Self {
        Frontend {
            socket,
            disconnect,
            config,
            keyring,
            ids: FxHashMap::default(),
            routing: FxHashMap::default(),
            last_id: 0,
            outbox: Outbox::new(config.outbox),
            frames: Vec::with_capacity(8),
            unsent: Vec::new(),
            unsent_of: Vec::new(),
            dropped: 0,
            tally: Tally::default(),
        }
    }

    /// The socket, to wait for.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Connections that have sent something.
    pub fn clients(&self) -> usize {
        self.routing.len()
    }

    /// The next message, if there is one.
    ///
    /// # Errors
    /// [`SocketError`] when the socket is closed.
    pub fn receive(&mut self, desk: &mut impl Desk) -> Result<Option<Incoming>, SocketError> {
        let mut frames = std::mem::take(&mut self.frames);
        let received = self.socket.recv_into(&mut frames);
        let incoming = match received {
            Ok(true) => Ok(Some(self.read(&frames, desk))),
            Ok(false) => Ok(None),
            Err(error) => Err(error),
        };
        frames.clear();
        self.frames = frames;
        incoming
    }

    fn read(&mut self, frames: &[Frame], desk: &mut impl Desk) -> Incoming {
        // libzmq is asked once where the bytes of a frame are.
        let (mut few, many);
        let parts: &[&[u8]] = if frames.len() <= FEW_FRAMES {
            few = [&[][..]; FEW_FRAMES];
            for (part, frame) in few.iter_mut().zip(frames) {
                *part = frame;
            }
            &few[..frames.len()]
        } else {
            many = frames.iter().map(|frame| &frame[..]).collect::<Vec<_>>();
            &many
        };
        if let [routing, nonce] = parts
            && self.disconnect.matches(nonce)
        {
            return self.client_gone(routing);
        }
        self.tally.receive(parts);
        let client = self.client_of(parts[0], &frames[0]);
        let envelope = match envelope::split(parts) {
            Ok(envelope) => envelope,
            Err(error) => {
                debug!("client={}: {error}", client.0);
                let request = Request::new(Kind::Raw, frames, false, frames.len() - 1);
                return self.refuse(client, &request, RpcError::invalid(&error.to_string()));
            }
        };
        if let Some(error) = self.too_large(parts, &envelope) {
            let request = Request::new(Kind::Batch, frames, envelope.has_delimiter, envelope.body);
            return self.refuse(client, &request, error);
        }
        let message = Message {
            frames,
            envelope,
            client,
        };
        if self.config.opaque {
            return self.raw(&message);
        }
        match rpc::read(parts[message.envelope.body]) {
            Body::Raw => self.raw(&message),
            Body::Foreign(_) if desk.takes_raw() => self.raw(&message),
            Body::Foreign(refused) | Body::Refused(refused) => {
                self.refuse_unread(&message, refused)
            }
            Body::Call(call) => self.call(&message, call, desk),
            Body::Batch(items) => self.batch(&message, items, desk),
        }
    }

    /// An opaque body names no method, so a key that is limited to some may send none.
    fn raw(&mut self, message: &Message<'_>) -> Incoming {
        if self.allows(message.client, "") {
            return message.raw();
        }
        let request = message.request(Kind::Raw);
        let reason = json!({"reason": "the key is limited to methods, and a raw body names none"});
        let error = RpcError::new(Code::Forbidden).data(&reason);
        self.refuse(message.client, &request, error)
    }

    /// Answers a request that no core sees.
    fn refuse(&mut self, client: ClientId, request: &Request, error: RpcError) -> Incoming {
        self.answer_own(client, request, &Err(error), false);
        Incoming::Nothing
    }

    fn refuse_unread(&mut self, message: &Message<'_>, refused: Refused<'_>) -> Incoming {
        let mut request = message.request(Kind::Batch);
        request.set_text(refused.id.unwrap_or("null"));
        self.refuse(message.client, &request, refused.error)
    }

    fn too_large(&self, frames: &[&[u8]], envelope: &Envelope) -> Option<RpcError> {
        let (mut total, mut longest, mut body) = (0, 0, 0);
        for (at, frame) in frames.iter().enumerate() {
            let bytes = frame.len();
            total += bytes;
            match at.cmp(&envelope.body) {
                Less => {}
                Equal => body = bytes,
                Greater => longest = longest.max(bytes),
            }
        }
        let config = &self.config;
        let over = |name, bytes, max| (bytes > max).then(|| RpcError::too_large(name, bytes, max));
        over("message_frames", frames.len(), MESSAGE_FRAMES_MAX)
            .or_else(|| over("body_bytes", body, config.body_bytes_max))
            .or_else(|| over("attachment_bytes", longest, config.attachment_bytes_max))
            .or_else(|| over("message_bytes", total, config.message_bytes_max))
    }
}
