//! Clients: each keeps some calls open, and now and then its connection breaks.

use crate::shadow::{Rep, Req};
use crate::world::{Happening, World};
use muster_core::{BatchItem, CancelTarget, ClientId, Event, Failure, NewCall, Outcome, Target};
use muster_proto::id::CallId;
use std::time::Duration;

/// What clients ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Echo,
    Short,
    Middle,
    Long,
    Once,
    /// It often kills the slot that runs it.
    Poison,
    /// Items of 20 µs.
    Chunk,
    /// Nobody registered it, but lanes know it.
    Stock,
    Raw,
    /// Some lanes know it.
    Odd,
}

impl Method {
    pub const ALL: [Method; 16] = [
        Method::Echo,
        Method::Echo,
        Method::Short,
        Method::Short,
        Method::Middle,
        Method::Middle,
        Method::Middle,
        Method::Long,
        Method::Long,
        Method::Long,
        Method::Once,
        Method::Poison,
        Method::Chunk,
        Method::Stock,
        Method::Raw,
        Method::Odd,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Method::Echo => "echo",
            Method::Short => "short",
            Method::Middle => "middle",
            Method::Long => "long",
            Method::Once => "once",
            Method::Poison => "poison",
            Method::Chunk => "chunk",
            Method::Stock => "stock",
            Method::Raw => "",
            Method::Odd => "odd",
        }
    }

    /// What it takes on average, in microseconds.
    pub fn service_us(self) -> u64 {
        match self {
            Method::Echo => 60,
            Method::Short => 400,
            Method::Middle | Method::Once => 3_000,
            Method::Long => 20_000,
            Method::Poison => 1_500,
            Method::Chunk => 2_000,
            Method::Stock | Method::Raw => 2_500,
            Method::Odd => 800,
        }
    }
}

#[derive(Debug)]
pub struct Client {
    pub connection: u32,
    /// Calls it keeps open.
    pub wanted: usize,
    is_flood: bool,
    /// Its calls and batches without an answer.
    open: usize,
    /// Keys of its open calls: on a new connection it asks for them again.
    keyed: Vec<(u64, Box<str>)>,
}

impl Client {
    pub fn new(at: usize, world: &mut World) -> Self {
        let is_flood = at == 0;
        world.connections.push(at);
        Client {
            connection: world.connections.len() as u32 - 1,
            wanted: match is_flood {
                true => 2_000,
                false => world.chance.between(1, 22) as usize,
            },
            is_flood,
            open: 0,
            keyed: Vec::new(),
        }
    }
}

impl World {
    /// A client submits a call, or several, or cancels one.
    pub fn client_wants(&mut self, at: usize) {
        if self.is_ending {
            return;
        }
        let client = self.connection(at);
        if self.clients[at].is_flood {
            let call = self.plain(Method::Middle);
            self.clients[at].open += 1;
            self.tell(Event::Call { client, call });
            return;
        }
        if self.chance.permille(20) {
            self.later(3_000, Happening::Wants(at));
            let call = self.newest_call.saturating_sub(self.chance.below(4_000));
            let (target, by) = (CancelTarget::Call(CallId(call)), "a client".into());
            self.tell(Event::Cancel { target, by });
            return;
        }
        if self.chance.permille(20) {
            self.batch(at, client);
            return;
        }
        let mut call = self.drawn();
        if self.chance.permille(20) {
            call.is_notification = true;
            self.later(2_000, Happening::Wants(at));
        } else if self.chance.permille(80) {
            let key: Box<str> = format!("{at}/{}", self.tokens).into();
            call.key = Some(key.clone());
            // It will be asked for again in the same words.
            call.attempts_max = None;
            self.clients[at].keyed.push((call.request.token, key));
        }
        self.clients[at].open += usize::from(!call.is_notification);
        self.tell(Event::Call { client, call });
    }

    fn batch(&mut self, at: usize, client: ClientId) {
        let envelope = Req {
            token: self.token(Method::Echo),
            bytes: 1,
        };
        let mut items = Vec::new();
        for _ in 0..self.chance.below(6) {
            let mut call = self.drawn();
            call.is_notification = self.chance.permille(100);
            items.push(match self.chance.permille(900) {
                true => BatchItem::Call(call),
                false => BatchItem::Refused(call.request),
            });
        }
        self.clients[at].open += 1;
        self.tell(Event::Batch {
            client,
            envelope,
            items,
        });
    }

    fn drawn(&mut self) -> NewCall<Req> {
        let method = Method::ALL[self.chance.below(16) as usize];
        let mut call = self.plain(method);
        if self.chance.permille(100) {
            let ms = self.chance.between(1, 150);
            call.timeout = Some(Duration::from_millis(ms));
        }
        if self.chance.permille(30) {
            call.priority = self.chance.below(21) as i8 - 10;
        }
        if self.chance.permille(20) {
            call.attempts_max = Some(self.chance.between(1, 5) as u32);
        }
        if self.chance.permille(20)
            && let Target::Method(method) = call.target
        {
            let worker = format!("w{}", self.chance.below(20)).into();
            call.target = Target::MethodAt { method, worker };
            // That worker may have left for good.
            call.timeout = Some(Duration::from_millis(800));
        }
        call
    }

    fn plain(&mut self, method: Method) -> NewCall<Req> {
        let token = self.token(method);
        NewCall {
            target: match method {
                Method::Raw => Target::Raw,
                _ => Target::Method(method.name().into()),
            },
            request: Req { token, bytes: 64 },
            is_notification: false,
            timeout: None,
            attempts_max: None,
            priority: 0,
            items: match method {
                Method::Chunk => 100,
                _ => 1,
            },
            key: None,
            parent: None,
        }
    }

    /// A new token, which says what method it is for.
    fn token(&mut self, method: Method) -> u64 {
        let number = Method::ALL.iter().position(|&other| other == method);
        self.tokens += 1;
        self.tokens * 16 + number.unwrap_or(0) as u64
    }

    /// A client's call is answered.
    pub fn client_has(&mut self, client: ClientId, token: u64, outcome: &Outcome<Rep>) {
        let at = self.connections[client.0 as usize];
        self.clients[at].keyed.retain(|(open, _)| *open != token);
        self.clients[at].open -= 1;
        let is_shed = matches!(outcome, Outcome::Failed(Failure::Overloaded { .. }));
        let pause = if is_shed { 50_000 } else { 100 };
        let think = self.chance.between(1, 2 * pause);
        self.later(think, Happening::Wants(at));
    }

    pub fn client_has_batch(&mut self, client: ClientId) {
        let at = self.connections[client.0 as usize];
        self.clients[at].open -= 1;
        let think = self.chance.between(1, 1_000);
        self.later(think, Happening::Wants(at));
    }

    /// A client's connection breaks. It makes new calls by another one, and asks again for its
    /// keyed ones: at once, or when their answers were kept for it, or too late.
    pub fn client_leaves(&mut self, at: usize) {
        let client = self.connection(at);
        self.connections.push(at);
        self.clients[at].connection = self.connections.len() as u32 - 1;
        let keyed = self.clients[at].keyed.len();
        let lost = self.clients[at].open - keyed;
        self.clients[at].open = keyed;
        self.tell(Event::ClientGone { client });
        for _ in 0..lost {
            let away = self.chance.between(1_000, 20_000);
            self.later(away, Happening::Wants(at));
        }
        let away = match self.chance.below(10) {
            0 => 11_000_000,
            1..5 => 500_000,
            _ => 1_000,
        };
        let away = self.chance.below(away);
        self.later(away, Happening::Returns(at));
    }

    pub fn client_returns(&mut self, at: usize) {
        let client = self.connection(at);
        for (token, key) in std::mem::take(&mut self.clients[at].keyed) {
            let method = World::method_of(token);
            let call = NewCall {
                key: Some(key.clone()),
                ..self.plain(method)
            };
            self.clients[at].keyed.push((call.request.token, key));
            self.tell(Event::Call { client, call });
        }
    }
}
