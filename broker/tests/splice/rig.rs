//! The loop's half of the splice: a line for each link.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use muster_broker::clock::Clock;
use muster_broker::lines::{Body, LineEvent, Lines, Lock, Outgoing, Received};
use muster_broker::splice::{
    Arrival, DialId, GoneReason, LinkId, Listen, Splice, SpliceConfig, Way,
};
use muster_proto::socket::{
    Context, Frame, Interest, Kind, PollItem, Profile, SendOutcome, Socket, curve_keypair, poll,
};
use tempfile::TempDir;

/// Longer than anything here takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The 20 bytes above the delimiter.
const DISPATCH: [u8; 20] = [7; 20];

pub struct Rig {
    pub lines: Lines,
    /// Messages that came, oldest first.
    inbox: BTreeMap<LinkId, VecDeque<Vec<Frame>>>,
    pub arrivals: BTreeMap<LinkId, Arrival>,
    pub ready: BTreeSet<LinkId>,
    pub gone: BTreeMap<LinkId, GoneReason>,
    /// Off: links arrive and nobody joins them.
    pub joins: bool,
    /// Off: nobody reads what they say.
    pub reads: bool,
    pub server_secret: Option<String>,
    server_public: Option<String>,
    pub folder: TempDir,
    clock: Clock,
}

impl Rig {
    /// One listener on a TCP port that the system picks.
    pub fn tcp() -> Self {
        Self::with(|_| {})
    }

    /// The same behind CURVE: libzmq speaks, and the splice copies.
    pub fn keyed() -> Self {
        Self::keyed_with(|_| {})
    }

    pub fn keyed_with(change: impl FnOnce(&mut SpliceConfig)) -> Self {
        let keys = curve_keypair().unwrap();
        let mut rig = Self::with(|config| {
            config.listeners[0].curve = true;
            change(config);
        });
        rig.server_secret = Some(keys.secret);
        rig.server_public = Some(keys.public);
        rig
    }

    /// Both.
    pub fn both() -> [Self; 2] {
        [Self::tcp(), Self::keyed()]
    }

    pub fn with(change: impl FnOnce(&mut SpliceConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = SpliceConfig::new(folder.path());
        config.listeners.push(Listen {
            endpoint: "tcp://127.0.0.1:*".into(),
            curve: false,
        });
        change(&mut config);
        let splice = Splice::start(config).unwrap();
        Rig {
            lines: Lines::new(&Context::new(1).unwrap(), splice).unwrap(),
            inbox: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            ready: BTreeSet::new(),
            gone: BTreeMap::new(),
            joins: true,
            reads: true,
            server_secret: None,
            server_public: None,
            folder,
            clock: Clock::start(),
        }
    }

    pub fn splice(&self) -> &Splice {
        self.lines.splice()
    }

    pub fn dial(&mut self, endpoint: &str) -> DialId {
        self.lines.dial(endpoint).unwrap()
    }

    /// Where workers dial, as [`rep`] reads it: the server's key follows where there is one.
    pub fn endpoint(&self) -> String {
        let bound = &self.splice().bound()[0];
        match &self.server_public {
            Some(key) => format!("{bound} {key}"),
            None => bound.clone(),
        }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        let bound = &self.splice().bound()[0];
        bound.trim_start_matches("tcp://").to_owned()
    }

    /// Waits up to `timeout` for events and acts on them, as the broker's loop does; false: there
    /// were none.
    pub fn step(&mut self, timeout: Duration) -> bool {
        self.lines.flush();
        let now = self.clock.now();
        let timeout = match self.lines.next_due() {
            _ if self.lines.is_pending() && self.reads => Duration::ZERO,
            Some(due) => timeout.min(due.since(now)),
            None => timeout,
        };
        let mut items = [PollItem::fd(&self.lines, Interest::Read)];
        poll(&mut items, Some(timeout)).unwrap();
        self.lines.look(self.clock.now());
        let is_event = self.hear();
        while self.reads
            && let Some(link) = self.lines.next_unread()
        {
            self.read(link);
        }
        self.lines.flush();
        self.hear() || is_event
    }

    fn hear(&mut self) -> bool {
        let mut is_event = false;
        while let Some(event) = self.lines.next_event() {
            is_event = true;
            match event {
                LineEvent::Arrived(arrival) => {
                    if self.joins {
                        self.join(&arrival);
                    }
                    let doubled = self.arrivals.insert(arrival.link, arrival);
                    assert!(doubled.is_none(), "{doubled:?} arrived twice");
                }
                LineEvent::Ready(link) => {
                    assert!(self.arrivals.contains_key(&link), "{link} was ready first");
                    assert!(self.ready.insert(link), "{link} was ready twice");
                }
                LineEvent::Gone(link, reason) => {
                    assert!(self.arrivals.contains_key(&link), "{link} was gone first");
                    self.read(link);
                    self.lines.forget(link);
                    let doubled = self.gone.insert(link, reason);
                    assert!(doubled.is_none(), "{link} was gone twice");
                }
            }
        }
        is_event
    }

    fn read(&mut self, link: LinkId) {
        let mut frames = Vec::new();
        loop {
            match self.lines.receive(link, &mut frames).unwrap() {
                Received::Message => {
                    let message = std::mem::take(&mut frames);
                    self.inbox.entry(link).or_default().push_back(message);
                }
                Received::Nothing => {}
                Received::Empty => return,
            }
        }
    }

    pub fn join(&mut self, arrival: &Arrival) {
        let lock = self.server_secret.as_deref().map(|server_secret| Lock {
            server_secret,
            zap_domain: None,
        });
        self.lines.join(arrival, lock).unwrap();
    }

    /// Whether libzmq speaks on a link.
    pub fn has_dealer(&self, link: LinkId) -> bool {
        matches!(self.arrivals[&link].way, Way::Dealer(_))
    }

    /// Acts on events until something is so.
    pub fn until(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "waited in vain for {what}");
            self.step(Duration::from_millis(20));
        }
    }

    /// The next link to be ready for messages.
    pub fn next_ready(&mut self) -> LinkId {
        let before = self.ready.clone();
        self.until("a link that is ready", |rig| rig.ready.len() > before.len());
        *self.ready.difference(&before).next().unwrap()
    }

    /// Why a link ended.
    pub fn reason(&mut self, link: LinkId) -> GoneReason {
        self.until("the end of a link", |rig| rig.gone.contains_key(&link));
        self.gone[&link]
    }

    pub fn send(&mut self, link: LinkId, body: &[&[u8]]) -> bool {
        let (first, others) = body.split_first().unwrap();
        let attachments: Vec<_> = others.iter().map(|frame| Frame::from(*frame)).collect();
        let message = Outgoing {
            fence: &DISPATCH,
            body: Body::Frame(Frame::from(*first)),
            attachments: &attachments,
        };
        let is_sent = self.lines.send(link, message);
        self.lines.flush();
        is_sent
    }

    pub fn has_message(&self, link: LinkId) -> bool {
        self.inbox.get(&link).is_some_and(|inbox| !inbox.is_empty())
    }

    /// The next message's body, its envelope checked.
    pub fn receive(&mut self, link: LinkId) -> Vec<Frame> {
        self.until("a reply", |rig| rig.has_message(link));
        let mut frames = self.inbox.get_mut(&link).unwrap().pop_front().unwrap();
        assert_eq!(frames[0], DISPATCH[..]);
        assert!(frames[1].is_empty());
        frames.split_off(2)
    }

    /// A message there and back again.
    pub fn echo(&mut self, link: LinkId, body: &[u8]) {
        assert!(self.send(link, &[body]));
        let reply = self.receive(link);
        assert_eq!(reply.len(), 1);
        assert!(reply[0] == *body, "{} bytes came back changed", body.len());
    }
}

/// A stock REP in this process that has not received anything yet.
pub fn rep(context: &Context, endpoint: &str) -> Socket {
    let rep = Socket::open(context, Kind::Rep, &Profile::DataLink).unwrap();
    connect(&rep, endpoint);
    rep
}

/// Connects to a rig, with a key of its own if there is one to be shown.
pub fn connect(socket: &Socket, endpoint: &str) {
    let (endpoint, server) = match endpoint.split_once(' ') {
        Some((endpoint, server)) => (endpoint, Some(server)),
        None => (endpoint, None),
    };
    if let Some(server) = server {
        let keys = curve_keypair().unwrap();
        socket
            .set_curve_client(server, &keys.public, &keys.secret)
            .unwrap();
    }
    socket.connect(endpoint).unwrap();
}

/// Answers the next request with itself.
pub fn answer(rep: &Socket) {
    let mut frames = Vec::new();
    assert!(rep.recv_timeout(&mut frames, PATIENCE).unwrap());
    assert_eq!(rep.send_frames(&mut frames).unwrap(), SendOutcome::Sent);
}
