//! The frontend ROUTER: clients' messages into events, answers into replies.

use crate::answer;
use crate::clock::Clock;
use crate::introspect::{self, Local};
use crate::keyring::{Key, Keyring};
use crate::reply::Reply;
use crate::request::{Kind, Request};
use crate::streamed::Streamed;
use log::{debug, warn};
use muster_core::{
    BatchItem, ClientId, Event, MonoTime, NewCall, Outbox, OutboxCaps, Outcome, Pushed, Target,
};
use muster_proto::code::Code;
use muster_proto::connection::Role;
use muster_proto::limits;
use muster_proto::rpc::{self, Body, CallView, Meta, Refused, RpcError};
use muster_proto::socket::{Frame, Nonce, SendOutcome, Socket, SocketError};
use muster_proto::worker::StreamKind;
use muster_proto::{envelope, envelope::Envelope};
use rustc_hash::FxHashMap;
use serde_json::json;
use std::borrow::Cow;
use std::cmp::Ordering::{Equal, Greater, Less};
use std::sync::Arc;
use std::time::Duration;

/// What a message from a client asks for.
#[derive(Debug)]
pub enum Incoming {
    /// Something for the core.
    Event(Event<Request, Reply>),
    /// Nothing: it was answered here, or can't be.
    Nothing,
}

/// Who asks for one of the broker's own methods.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    /// The connection.
    pub client: ClientId,
    frontend: &'a Frontend,
}

impl Asker<'_> {
    /// Its user: the public key it came with; "" without keys.
    pub fn user(&self) -> &str {
        self.frontend.user_of(self.client)
    }

    /// Whether it may do what concerns others. Without keys everybody who can connect may.
    pub fn is_admin(&self) -> bool {
        let link = self.frontend.routing.get(&self.client);
        link.is_some_and(|link| match &link.right {
            Right::Everything => true,
            Right::Key(key) => key.role == Role::Admin,
            Right::Revoked => false,
        })
    }

    /// Whether it may see and cancel a call that came by this connection.
    pub fn may_touch(&self, client: ClientId) -> bool {
        self.is_admin() || self.user() == self.frontend.user_of(client)
    }

    /// It came over TCP.
    pub fn over_tcp(&self) -> bool {
        self.frontend
            .routing
            .get(&self.client)
            .is_some_and(|link| link.over_tcp)
    }
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
    /// Answers of this turn, frame after frame, and whose how many of them are.
    unsent: Vec<Frame>,
    unsent_of: Vec<(ClientId, usize)>,
    reply: Vec<Frame>,
    /// Replies dropped because their client does not read.
    pub dropped: u64,
}

struct ClientLink {
    routing: Box<[u8]>,
    /// From ZAP: the public key; "" without keys.
    user: Box<str>,
    right: Right,
    over_tcp: bool,
    /// It can receive one answer for each request and nothing else.
    is_req: bool,
}

/// What a connection may do.
enum Right {
    /// It came without a key by a door that asks for none.
    Everything,
    /// What its key says.
    Key(Arc<Key>),
    /// Nothing any more.
    Revoked,
}

impl Right {
    fn allows(&self, method: &str) -> bool {
        match self {
            Right::Everything => true,
            Right::Key(key) => key.allows(method),
            Right::Revoked => false,
        }
    }
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
            reply: Vec::with_capacity(8),
            dropped: 0,
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

    /// Replies that wait for their clients.
    pub fn outbox_len(&self) -> usize {
        self.outbox.len()
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
        if frames.len() == 2 && self.disconnect.matches(&frames[1]) {
            return self.client_gone(&frames[0]);
        }
        let client = self.client_of(&frames[0]);
        let envelope = match envelope::split(frames) {
            Ok(envelope) => envelope,
            Err(error) => {
                debug!("client={}: {error}", client.0);
                let request = Request::new(Kind::Raw, frames, false, frames.len() - 1);
                return self.refuse(client, &request, RpcError::invalid(&error.to_string()));
            }
        };
        if let Some(error) = self.too_large(frames, &envelope) {
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
        match rpc::read(&frames[message.envelope.body]) {
            Body::Raw => self.raw(&message),
            Body::Foreign(_) if desk.takes_raw() => self.raw(&message),
            Body::Foreign(refused) | Body::Refused(refused) => {
                self.refuse_unread(&message, refused)
            }
            Body::Call(call) => self.call(&message, *call, desk),
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

    fn allows(&self, client: ClientId, method: &str) -> bool {
        let link = self.routing.get(&client);
        link.is_some_and(|link| link.right.allows(method))
    }

    fn is_revoked(&self, client: ClientId) -> bool {
        let link = self.routing.get(&client);
        link.is_none_or(|link| matches!(link.right, Right::Revoked))
    }

    fn call(
        &mut self,
        message: &Message<'_>,
        call: CallView<'_>,
        desk: &mut impl Desk,
    ) -> Incoming {
        let client = message.client;
        let mut request = message.request(Kind::Call);
        request.note_spans(call.object.as_bytes(), call.id, call.params);
        if !message.envelope.has_delimiter && !request.attachments().is_empty() {
            let error = RpcError::invalid("attachments need an envelope with a delimiter");
            return self.refuse(client, &request, error);
        }
        if self.is_revoked(client) {
            return self.refuse(client, &request, revoked());
        }
        let is_notification = call.id.is_none();
        if let Some(local) = introspect::local(&call.method) {
            if local == Local::Multicall {
                return self.multicall(message, &call, &request, desk);
            }
            let answer = desk.answer(local, call.params, self.asker(client));
            self.answer_own(client, &request, &answer, is_notification);
            return Incoming::Nothing;
        }
        match self.new_call(client, request, call) {
            Ok(call) => Incoming::Event(Event::Call { client, call }),
            Err((request, error)) => self.refuse(client, &request, error),
        }
    }

    /// A call for the core, or what speaks against it.
    fn new_call(
        &self,
        client: ClientId,
        mut request: Request,
        view: CallView<'_>,
    ) -> Result<NewCall<Request>, (Request, RpcError)> {
        let CallView {
            method,
            id,
            params,
            meta,
            meta_span,
            ..
        } = view;
        if !self.allows(client, &method) {
            return Err((
                request,
                RpcError::new(Code::Forbidden).data(&json!({"method": method})),
            ));
        }
        let items = match chunk_items(&meta, params) {
            Ok(items) => items,
            Err(error) => return Err((request, error)),
        };
        if meta.stream && !self.can_stream(client, &request) {
            let reason = "meta: stream needs a DEALER of the caller's own";
            return Err((request, RpcError::invalid(reason)));
        }
        let item_timeout_ms = meta
            .timeout_ms
            .map_or(0, |ms| u32::try_from(ms).unwrap_or(u32::MAX));
        if meta_span.is_some() || items > 0 {
            let extra = request.extra_mut();
            extra.meta_span = meta_span;
            extra.stream = meta.stream;
            extra.frames = meta.frames;
            extra.items = items;
            extra.item_timeout_ms = if items > 0 { item_timeout_ms } else { 0 };
        }
        let method: Box<str> = match method {
            Cow::Borrowed(name) => name.into(),
            Cow::Owned(name) => name.into(),
        };
        let target = match meta.to {
            None => Target::Method(method),
            Some(worker) => Target::MethodAt {
                method,
                worker: worker.into(),
            },
        };
        Ok(NewCall {
            target,
            request,
            is_notification: id.is_none(),
            // A chunk's timeout is per item and kept by the worker.
            timeout: if items > 0 {
                Some(Duration::ZERO)
            } else {
                meta.timeout_ms.map(Duration::from_millis)
            },
            attempts_max: meta.attempts_max,
            priority: meta.priority.unwrap_or(0),
            items: items.max(1),
            key: meta.key.map(|key| self.scoped(client, &key)),
            parent: meta.parent.and_then(|call| call.parse().ok()),
        })
    }

    /// Notifications would wedge a REQ, also one behind a proxy.
    fn can_stream(&self, client: ClientId, request: &Request) -> bool {
        let is_req = self.routing.get(&client).is_none_or(|link| link.is_req);
        !is_req && !request.is_forwarded()
    }

    fn asker(&self, client: ClientId) -> Asker<'_> {
        Asker {
            client,
            frontend: self,
        }
    }

    fn user_of(&self, client: ClientId) -> &str {
        self.routing.get(&client).map_or("", |link| &link.user)
    }

    /// The connections of a user, whose key is worth nothing from now on.
    pub fn revoke(&mut self, user: &str) -> Vec<ClientId> {
        let links = self
            .routing
            .iter_mut()
            .filter(|(_, link)| *link.user == *user);
        let revoked = links.map(|(client, link)| {
            link.right = Right::Revoked;
            *client
        });
        revoked.collect()
    }

    /// A key belongs to the user of its connection.
    fn scoped(&self, client: ClientId, key: &str) -> Box<str> {
        scoped_key(self.user_of(client), key)
    }

    fn batch(
        &mut self,
        message: &Message<'_>,
        items: Vec<Result<CallView<'_>, Refused<'_>>>,
        desk: &mut impl Desk,
    ) -> Incoming {
        let client = message.client;
        let envelope = message.request(Kind::Batch);
        if !envelope.attachments().is_empty() {
            return self.refuse(
                client,
                &envelope,
                RpcError::invalid("a batch has no attachments"),
            );
        }
        let items = items
            .into_iter()
            .map(|item| self.batch_item(client, item, desk))
            .collect();
        Incoming::Event(Event::Batch {
            client,
            envelope,
            items,
        })
    }

    fn batch_item(
        &self,
        client: ClientId,
        item: Result<CallView<'_>, Refused<'_>>,
        desk: &mut impl Desk,
    ) -> BatchItem<Request> {
        let call = match item {
            Ok(call) => call,
            Err(refused) => {
                let mut request = Request::item(Kind::Call, "");
                if let Some(id) = refused.id {
                    request.set_text(id);
                }
                request.extra_mut().answer = Some(Err(refused.error));
                return BatchItem::Refused(request);
            }
        };
        let mut request = Request::item(Kind::Call, call.object);
        request.note_spans(call.object.as_bytes(), call.id, call.params);
        if self.is_revoked(client) {
            request.extra_mut().answer = Some(Err(revoked()));
            return BatchItem::Refused(request);
        }
        if let Some(local) = introspect::local(&call.method) {
            let answer = desk.answer(local, call.params, self.asker(client));
            request.extra_mut().answer = Some(answer);
            return BatchItem::Refused(request);
        }
        if call.meta.stream {
            let error = RpcError::invalid("meta: stream is not for the items of a batch");
            request.extra_mut().answer = Some(Err(error));
            return BatchItem::Refused(request);
        }
        match self.new_call(client, request, call) {
            Ok(call) => BatchItem::Call(call),
            Err((mut request, error)) => {
                request.extra_mut().answer = Some(Err(error));
                BatchItem::Refused(request)
            }
        }
    }

    /// `system.multicall`: spread like a batch, answered as XML-RPC's multicall.
    fn multicall(
        &mut self,
        message: &Message<'_>,
        call: &CallView<'_>,
        request: &Request,
        desk: &mut impl Desk,
    ) -> Incoming {
        let client = message.client;
        let calls = match introspect::read_multicall(call.params) {
            Ok(calls) => calls,
            Err(error) => return self.refuse(client, request, error),
        };
        let mut envelope = message.request(Kind::Multicall);
        envelope.set_text(call.id.unwrap_or("null"));
        let items = calls
            .into_iter()
            .map(|call| {
                let object = call.object();
                // Made just now from parts that were read, so it reads back.
                let Body::Call(view) = rpc::read(object.as_bytes()) else {
                    let mut request = Request::item(Kind::Call, "");
                    request.extra_mut().answer = Some(Err(RpcError::new(Code::InvalidRequest)));
                    return BatchItem::Refused(request);
                };
                self.batch_item(client, Ok(*view), desk)
            })
            .collect();
        Incoming::Event(Event::Batch {
            client,
            envelope,
            items,
        })
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

    fn too_large(&self, frames: &[Frame], envelope: &Envelope) -> Option<RpcError> {
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
        over("body_bytes", body, config.body_bytes_max)
            .or_else(|| over("attachment_bytes", longest, config.attachment_bytes_max))
            .or_else(|| over("message_bytes", total, config.message_bytes_max))
    }

    fn client_of(&mut self, routing: &Frame) -> ClientId {
        if let Some(&client) = self.ids.get(&routing[..]) {
            return client;
        }
        self.last_id += 1;
        let client = ClientId(self.last_id);
        let user: Box<str> = routing.property("User-Id").unwrap_or_default().into();
        let right = match &self.keyring {
            Some(keyring) if !user.is_empty() => {
                keyring.find(&user).map_or(Right::Revoked, Right::Key)
            }
            _ => Right::Everything,
        };
        let peer = routing.property("Peer-Address").unwrap_or_default();
        let over_tcp = peer.parse::<std::net::IpAddr>().is_ok();
        debug!(
            "client={}: connected from {}",
            client.0,
            if over_tcp { &peer } else { "here" }
        );
        self.ids.insert(routing[..].into(), client);
        self.routing.insert(
            client,
            ClientLink {
                routing: routing[..].into(),
                user,
                right,
                over_tcp,
                is_req: routing.property("Socket-Type").as_deref() == Some("REQ"),
            },
        );
        client
    }

    fn client_gone(&mut self, routing: &Frame) -> Incoming {
        match self.ids.get(&routing[..]) {
            Some(&client) => {
                debug!("client={}: disconnected", client.0);
                self.forget(client);
                Incoming::Event(Event::ClientGone { client })
            }
            None => Incoming::Nothing,
        }
    }

    fn forget(&mut self, client: ClientId) {
        if let Some(link) = self.routing.remove(&client) {
            self.ids.remove(&link.routing);
        }
        self.dropped += self.outbox.drop_client(client) as u64;
    }

    /// Answers a single call with its outcome. Like every answer it goes out with [`Self::flush`].
    pub fn answer(
        &mut self,
        client: ClientId,
        request: &Request,
        outcome: &Outcome<Reply>,
        clock: &Clock,
    ) {
        let is_silent = request.kind == Kind::Raw
            && self.config.raw_errors == RawErrors::Silent
            && matches!(outcome, Outcome::Failed(_));
        if !is_silent {
            self.put(client, request, |frames| {
                answer::compose(request, outcome, clock, frames);
            });
        }
    }

    /// Answers a batch.
    pub fn answer_batch(
        &mut self,
        client: ClientId,
        envelope: &Request,
        items: &[(Request, Option<Outcome<Reply>>)],
        clock: &Clock,
    ) {
        match answer::compose_batch(envelope, items, clock) {
            Some(body) => self.put(client, envelope, |frames| frames.push(body.into())),
            None => self.acknowledge(client, envelope),
        }
    }

    /// Tells a REQ that its notification has arrived.
    pub fn acknowledge(&mut self, client: ClientId, request: &Request) {
        if request.has_delimiter() {
            self.put(client, request, |frames| frames.push(Frame::empty()));
        }
    }

    /// Gives an answer that no core was asked for. `is_notification`: only an empty frame.
    fn answer_own(
        &mut self,
        client: ClientId,
        request: &Request,
        answer: &Result<String, RpcError>,
        is_notification: bool,
    ) {
        if is_notification {
            self.acknowledge(client, request);
        } else {
            self.put(client, request, |frames| {
                frames.push(answer::own(request, answer).into());
            });
        }
    }

    /// Sends a stream item. What is only news is dropped while the client does not keep up; what a
    /// function yielded waits with the answers, up to the outbox's caps.
    pub fn stream(&mut self, client: ClientId, request: &Request, item: &Streamed) {
        if item.kind != StreamKind::Item && self.outbox.holds(client) {
            self.dropped += 1;
            return;
        }
        self.put(client, request, |frames| item.compose(request, frames));
    }

    /// Puts an answer with the others of this turn: the envelope, and below it what `body` adds.
    fn put(&mut self, client: ClientId, request: &Request, body: impl FnOnce(&mut Vec<Frame>)) {
        let Some(link) = self.routing.get(&client) else {
            return;
        };
        let before = self.unsent.len();
        self.unsent.push(Frame::from(&link.routing[..]));
        request.push_path(&mut self.unsent);
        body(&mut self.unsent);
        self.unsent_of.push((client, self.unsent.len() - before));
    }

    /// Sends the answers of this turn: in one go, so that libzmq's thread finds several to write at
    /// once. Gives the clients that have to be given up.
    pub fn flush(&mut self, clock: &Clock) -> Vec<ClientId> {
        let mut given_up = Vec::new();
        if self.unsent_of.is_empty() {
            return given_up;
        }
        let mut unsent = std::mem::take(&mut self.unsent);
        let mut unsent_of = std::mem::take(&mut self.unsent_of);
        let mut rest = unsent.drain(..);
        for (client, count) in unsent_of.drain(..) {
            let mut frames = std::mem::take(&mut self.reply);
            frames.extend(rest.by_ref().take(count));
            if !given_up.contains(&client) && self.send(client, frames, clock) {
                given_up.push(client);
            }
        }
        drop(rest);
        self.unsent = unsent;
        self.unsent_of = unsent_of;
        given_up
    }

    /// Sends one answer. `true`: the client has to be given up.
    fn send(&mut self, client: ClientId, mut frames: Vec<Frame>, clock: &Clock) -> bool {
        if self.outbox.holds(client) {
            return self.keep(client, frames, clock.now());
        }
        match self.socket.send_frames(&mut frames) {
            Ok(SendOutcome::Sent) => {
                self.reply = frames;
                false
            }
            Ok(SendOutcome::WouldBlock) => self.keep(client, frames, clock.now()),
            // It left; word of that is on its way, and so is the end of its calls.
            Ok(SendOutcome::Unreachable) => false,
            Err(error) => {
                warn!("client={}: {error}", client.0);
                false
            }
        }
    }

    fn keep(&mut self, client: ClientId, frames: Vec<Frame>, now: MonoTime) -> bool {
        let bytes = frames.iter().map(|frame| frame.len()).sum();
        match self.outbox.push(now, client, frames, bytes) {
            Pushed::Kept => false,
            Pushed::Dropped => {
                self.dropped += 1;
                false
            }
            Pushed::GiveUp => {
                warn!("client={}: does not read its replies, dropped", client.0);
                self.forget(client);
                true
            }
        }
    }

    /// Bytes of the replies that wait for their clients to read.
    pub fn held_bytes(&self) -> usize {
        self.outbox.bytes()
    }

    /// When a reply that waits is to be tried again.
    pub fn next_due(&self) -> Option<MonoTime> {
        self.outbox.next_due()
    }

    /// Tries the replies that are due.
    pub fn retry(&mut self, now: MonoTime) {
        while let Some(client) = self.outbox.pop_due(now) {
            while let Some(frames) = self.outbox.front(client) {
                match self.socket.send_frames(frames) {
                    Ok(SendOutcome::Sent) => self.outbox.sent(now, client),
                    Ok(SendOutcome::WouldBlock) => {
                        self.outbox.blocked(now, client);
                        break;
                    }
                    Ok(SendOutcome::Unreachable) | Err(_) => {
                        self.outbox.drop_client(client);
                        break;
                    }
                }
            }
        }
    }
}

/// A key as the core knows it: two users' equal keys are two keys.
pub fn scoped_key(user: &str, key: &str) -> Box<str> {
    format!("{user}\0{key}").into()
}

/// A client's message with its parts.
struct Message<'a> {
    frames: &'a [Frame],
    envelope: Envelope,
    client: ClientId,
}

impl Message<'_> {
    fn request(&self, kind: Kind) -> Request {
        Request::new(
            kind,
            self.frames,
            self.envelope.has_delimiter,
            self.envelope.body,
        )
    }

    fn raw(&self) -> Incoming {
        let call = NewCall {
            target: Target::Raw,
            request: self.request(Kind::Raw),
            is_notification: false,
            timeout: None,
            attempts_max: None,
            priority: 0,
            items: 1,
            key: None,
            parent: None,
        };
        Incoming::Event(Event::Call {
            client: self.client,
            call,
        })
    }
}

/// The answer to whoever came with a key that opens nothing any more.
fn revoked() -> RpcError {
    RpcError::new(Code::Forbidden).data(&json!({"reason": "the key was revoked"}))
}

/// Items of a map chunk; 0: a plain call.
fn chunk_items(meta: &Meta, params: Option<&str>) -> Result<u32, RpcError> {
    if !meta.map {
        return Ok(0);
    }
    // The parameters are valid JSON and an array, or the call had been refused.
    let items: Vec<serde::de::IgnoredAny> =
        serde_json::from_str(params.unwrap_or("[]")).unwrap_or_default();
    if items.is_empty() {
        return Err(RpcError::invalid("a map chunk has at least one item"));
    }
    if items.len() > limits::CHUNK_ITEMS_MAX {
        return Err(RpcError::too_large(
            "chunk_items",
            items.len(),
            limits::CHUNK_ITEMS_MAX,
        ));
    }
    Ok(items.len() as u32)
}
