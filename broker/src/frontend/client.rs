//! The connections: who they are and what they may do.

use super::{Frontend, Incoming};
use crate::keyring::Key;
use crate::tally::Tally;
use log::debug;
use muster_core::{ClientId, Event};
use muster_proto::code::Code;
use muster_proto::connection::Role;
use muster_proto::rpc::RpcError;
use muster_proto::socket::Frame;
use serde_json::json;
use std::sync::Arc;

/// A connection that has sent something.
pub(super) struct ClientLink {
    pub(super) routing: Box<[u8]>,
    /// From ZAP: the public key; "" without keys.
    user: Box<str>,
    right: Right,
    over_tcp: bool,
    /// It can receive one answer for each request and nothing else.
    pub(super) is_req: bool,
}

/// What a connection may do.
pub(super) enum Right {
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

    /// What went through the door it came by.
    pub fn tally(&self) -> &Tally {
        &self.frontend.tally
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

impl Frontend {
    /// Whose message has `routing` as its first frame, which is `frame`.
    pub(super) fn client_of(&mut self, routing: &[u8], frame: &Frame) -> ClientId {
        if let Some(&client) = self.ids.get(routing) {
            return client;
        }
        self.last_id += 1;
        let client = ClientId(self.last_id);
        let user: Box<str> = frame.property("User-Id").unwrap_or_default().into();
        let right = match &self.keyring {
            Some(keyring) if !user.is_empty() => {
                keyring.find(&user).map_or(Right::Revoked, Right::Key)
            }
            _ => Right::Everything,
        };
        let peer = frame.property("Peer-Address").unwrap_or_default();
        let over_tcp = peer.parse::<std::net::IpAddr>().is_ok();
        debug!(
            "client={}: connected from {}",
            client.0,
            if over_tcp { &peer } else { "here" }
        );
        self.ids.insert(routing.into(), client);
        self.routing.insert(
            client,
            ClientLink {
                routing: routing.into(),
                user,
                right,
                over_tcp,
                is_req: frame.property("Socket-Type").as_deref() == Some("REQ"),
            },
        );
        client
    }

    pub(super) fn client_gone(&mut self, routing: &[u8]) -> Incoming {
        match self.ids.get(routing) {
            Some(&client) => {
                debug!("client={}: disconnected", client.0);
                self.forget(client);
                Incoming::Event(Event::ClientGone { client })
            }
            None => Incoming::Nothing,
        }
    }

    pub(super) fn forget(&mut self, client: ClientId) {
        if let Some(link) = self.routing.remove(&client) {
            self.ids.remove(&link.routing);
        }
        self.dropped += self.outbox.drop_client(client) as u64;
    }

    pub(super) fn allows(&self, client: ClientId, method: &str) -> bool {
        let link = self.routing.get(&client);
        link.is_some_and(|link| link.right.allows(method))
    }

    /// Whether a connection may call a method.
    pub(super) fn judge(&self, client: ClientId, method: &str) -> Result<(), RpcError> {
        match self.routing.get(&client).map(|link| &link.right) {
            Some(Right::Everything) => Ok(()),
            Some(Right::Key(key)) if key.allows(method) => Ok(()),
            Some(Right::Key(_)) => {
                Err(RpcError::new(Code::Forbidden).data(&json!({"method": method})))
            }
            Some(Right::Revoked) | None => Err(revoked()),
        }
    }

    pub(super) fn is_revoked(&self, client: ClientId) -> bool {
        let link = self.routing.get(&client);
        link.is_none_or(|link| matches!(link.right, Right::Revoked))
    }

    pub(super) fn asker(&self, client: ClientId) -> Asker<'_> {
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
    pub(super) fn scoped(&self, client: ClientId, key: &str) -> Box<str> {
        scoped_key(self.user_of(client), key)
    }
}

/// A key as the core knows it: two users' equal keys are two keys.
pub fn scoped_key(user: &str, key: &str) -> Box<str> {
    format!("{user}\0{key}").into()
}

/// The answer to whoever came with a key that opens nothing any more.
pub(super) fn revoked() -> RpcError {
    RpcError::new(Code::Forbidden).data(&json!({"reason": "the key was revoked"}))
}
