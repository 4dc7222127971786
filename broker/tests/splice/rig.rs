//! A splice with the loop's half of it: a DEALER for each link.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use muster_broker::splice::{
    Arrival, GoneReason, LinkId, Listen, Splice, SpliceConfig, SpliceEvent,
};
use muster_proto::socket::{
    Context, Frame, Interest, Kind, PollItem, Profile, SendOutcome, Socket, poll,
};
use tempfile::TempDir;

/// Longer than anything here takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The 20 bytes above the delimiter.
const DISPATCH: [u8; 20] = [7; 20];

pub struct Rig {
    pub splice: Splice,
    pub context: Context,
    pub lanes: BTreeMap<LinkId, Socket>,
    pub arrivals: BTreeMap<LinkId, Arrival>,
    pub ready: BTreeSet<LinkId>,
    pub gone: BTreeMap<LinkId, GoneReason>,
    /// Off: links arrive and no DEALER comes.
    pub joins: bool,
    pub server_secret: Option<String>,
    pub folder: TempDir,
}

impl Rig {
    /// One listener on a TCP port that the system picks.
    pub fn tcp() -> Self {
        Self::with(|_| {})
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
            splice,
            context: Context::new(1).unwrap(),
            lanes: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            ready: BTreeSet::new(),
            gone: BTreeMap::new(),
            joins: true,
            server_secret: None,
            folder,
        }
    }

    pub fn endpoint(&self) -> String {
        self.splice.bound()[0].clone()
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.endpoint().trim_start_matches("tcp://").to_owned()
    }

    /// Waits up to `timeout` for events and acts on them; false: there were none.
    pub fn step(&mut self, timeout: Duration) -> bool {
        let mut items = [PollItem::fd(&self.splice, Interest::Read)];
        if poll(&mut items, Some(timeout)).unwrap() == 0 {
            return false;
        }
        while let Some(event) = self.splice.try_event() {
            match event {
                SpliceEvent::Arrived(arrival) => {
                    if self.joins {
                        self.join(&arrival);
                    }
                    let doubled = self.arrivals.insert(arrival.link, arrival);
                    assert!(doubled.is_none(), "{doubled:?} arrived twice");
                }
                SpliceEvent::Ready { link } => {
                    assert!(self.arrivals.contains_key(&link), "{link} was ready first");
                    assert!(self.ready.insert(link), "{link} was ready twice");
                }
                SpliceEvent::Gone { link, reason } => {
                    assert!(self.arrivals.contains_key(&link), "{link} was gone first");
                    let doubled = self.gone.insert(link, reason);
                    assert!(doubled.is_none(), "{link} was gone twice");
                }
            }
        }
        true
    }

    pub fn join(&mut self, arrival: &Arrival) {
        let profile = Profile::Lane {
            credit: 64,
            heartbeat: arrival.answers_pings,
        };
        let lane = Socket::open(&self.context, Kind::Dealer, &profile).unwrap();
        if let Some(secret) = &self.server_secret {
            lane.set_curve_server(secret).unwrap();
        }
        lane.connect(&arrival.endpoint).unwrap();
        self.lanes.insert(arrival.link, lane);
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

    pub fn send(&self, link: LinkId, body: &[&[u8]]) -> SendOutcome {
        let envelope = [Frame::from(&DISPATCH), Frame::empty()];
        let body = body.iter().map(|frame| Frame::from(*frame));
        self.lanes[&link]
            .send(envelope.into_iter().chain(body))
            .unwrap()
    }

    /// The next message's body, its envelope checked.
    pub fn receive(&self, link: LinkId) -> Vec<Frame> {
        let mut frames = Vec::new();
        assert!(
            self.lanes[&link]
                .recv_timeout(&mut frames, PATIENCE)
                .unwrap(),
            "no reply on link {link}"
        );
        assert_eq!(frames[0], DISPATCH[..]);
        assert!(frames[1].is_empty());
        frames.split_off(2)
    }

    /// A message there and back again.
    pub fn echo(&self, link: LinkId, body: &[u8]) {
        assert_eq!(self.send(link, &[body]), SendOutcome::Sent);
        let reply = self.receive(link);
        assert_eq!(reply.len(), 1);
        assert!(reply[0] == *body, "{} bytes came back changed", body.len());
    }
}

/// A stock REP in this process that has not received anything yet.
pub fn rep(context: &Context, endpoint: &str) -> Socket {
    let rep = Socket::open(context, Kind::Rep, &Profile::DataLink).unwrap();
    rep.connect(endpoint).unwrap();
    rep
}

/// Answers the next request with itself.
pub fn answer(rep: &Socket) {
    let mut frames = Vec::new();
    assert!(rep.recv_timeout(&mut frames, PATIENCE).unwrap());
    assert_eq!(rep.send_frames(&mut frames).unwrap(), SendOutcome::Sent);
}
