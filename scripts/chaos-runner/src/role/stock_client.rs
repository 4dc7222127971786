//! A client that is a bare DEALER: it writes down every message that comes, and so sees an answer
//! that comes twice. When its connection ends it sends again, under their keys, what is open and
//! may run twice.

use super::{ClientArgs, end_with_parent, ready};
use crate::log::ClientLog;
use crate::work::Draw;
use anyhow::Context as _;
use muster_client::RpcError;
use muster_proto::connection::Connection;
use muster_proto::rpc;
use muster_proto::socket::{
    Context, Frame, Interest, Kind, LinkEvent, Monitor, PollItem, Profile, SendOutcome, Socket,
    Watch, poll,
};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Nothing is late by more than this.
const LOOK: Duration = Duration::from_millis(50);

pub fn run(args: &ClientArgs) -> anyhow::Result<()> {
    let log = ClientLog::open(&args.log)?;
    end_with_parent();
    ready()?;
    let endpoint = Connection::read(&args.connection)?.frontend;
    let context = Context::new(1)?;
    let mut client = StockClient {
        args,
        log,
        link: Link::open(&context, &endpoint)?,
        open: BTreeMap::new(),
        unsent: VecDeque::new(),
        start: Instant::now(),
        next: 0,
    };
    while client.next < args.count || !client.open.is_empty() {
        client.make_calls()?;
        client.send()?;
        client.wait()?;
        client.receive()?;
        if client.link.is_down()? {
            // What the broker said last is still there to be read.
            client.receive()?;
            client.link = Link::open(&context, &endpoint)?;
            client.start_over()?;
        }
        client.give_up()?;
    }
    Ok(client.log.end()?)
}

struct StockClient<'a> {
    args: &'a ClientArgs,
    log: ClientLog,
    link: Link,
    open: BTreeMap<u64, Open>,
    unsent: VecDeque<u64>,
    start: Instant,
    next: u64,
}

struct Open {
    body: String,
    is_once: bool,
    is_sent: bool,
    since: Instant,
}

impl StockClient<'_> {
    fn make_calls(&mut self) -> anyhow::Result<()> {
        while self.next < self.args.count
            && self.open.len() < self.args.in_flight
            && self.args.due(self.next) <= self.start.elapsed()
        {
            let n = self.args.first + self.next;
            self.next += 1;
            let draw = Draw::of(self.args.seed, n);
            let attempts = if draw.is_once {
                r#","attempts_max":1"#
            } else {
                ""
            };
            let (method, nap_ms) = (draw.method(), draw.nap_ms);
            let open = Open {
                body: format!(
                    r#"{{"jsonrpc":"2.0","method":"{method}","params":[{n},{nap_ms}],"id":{n},"meta":{{"key":"k{n}"{attempts}}}}}"#
                ),
                is_once: draw.is_once,
                is_sent: false,
                since: Instant::now(),
            };
            self.log.sent(n, draw)?;
            self.open.insert(n, open);
            self.unsent.push_back(n);
        }
        Ok(())
    }

    fn send(&mut self) -> anyhow::Result<()> {
        while let Some(n) = self.unsent.front() {
            let Some(open) = self.open.get_mut(n) else {
                self.unsent.pop_front();
                continue;
            };
            let mut frames = vec![Frame::empty(), Frame::from(open.body.as_str())];
            if self.link.socket.send_frames(&mut frames)? != SendOutcome::Sent {
                break;
            }
            open.is_sent = true;
            self.unsent.pop_front();
        }
        Ok(())
    }

    fn wait(&self) -> anyhow::Result<()> {
        let mut items = [
            PollItem::socket(&self.link.socket, Interest::Read),
            PollItem::socket(self.link.monitor.socket(), Interest::Read),
        ];
        let has_room = self.open.len() < self.args.in_flight && self.next < self.args.count;
        let due = match has_room {
            true => self
                .args
                .due(self.next)
                .saturating_sub(self.start.elapsed()),
            false => LOOK,
        };
        poll(&mut items, Some(due.min(LOOK)))?;
        Ok(())
    }

    fn receive(&mut self) -> anyhow::Result<()> {
        let mut frames = Vec::new();
        while self.link.socket.recv_into(&mut frames)? {
            let body = frames.get(1).context("an answer has a body")?;
            let reply = rpc::read_reply(body).context("an answer that can't be read")?;
            let n = reply.id.and_then(|id| id.parse().ok());
            let n = n.context("an answer without our id")?;
            match reply.outcome {
                Ok(value) => self.log.answer(n, value)?,
                Err(error) => self.log.error(n, &word(&error))?,
            }
            self.open.remove(&n);
        }
        Ok(())
    }

    /// The connection is new: what may run twice is sent again, the rest has an unknown end.
    fn start_over(&mut self) -> anyhow::Result<()> {
        let unknown: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, open)| open.is_once && open.is_sent)
            .map(|(n, _)| *n)
            .collect();
        for n in unknown {
            self.log.error(n, "unknown")?;
            self.open.remove(&n);
        }
        self.unsent = self.open.keys().copied().collect();
        Ok(())
    }

    fn give_up(&mut self) -> anyhow::Result<()> {
        let patience = self.args.patience();
        let stuck: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, open)| open.since.elapsed() > patience)
            .map(|(n, _)| *n)
            .collect();
        for n in stuck {
            self.log.stuck(n)?;
            self.open.remove(&n);
        }
        Ok(())
    }
}

struct Link {
    socket: Socket,
    monitor: Monitor,
}

impl Link {
    fn open(context: &Context, endpoint: &str) -> anyhow::Result<Self> {
        let socket = Socket::open(context, Kind::Dealer, &Profile::ClientLink)?;
        let monitor = socket.monitor(Watch::Links)?;
        socket.connect(endpoint)?;
        Ok(Link { socket, monitor })
    }

    fn is_down(&mut self) -> anyhow::Result<bool> {
        let mut is_down = false;
        while let Some(event) = self.monitor.next_event()? {
            is_down |= event == LinkEvent::Down;
        }
        Ok(is_down)
    }
}

/// An error object as the log has it.
pub(super) fn word(error: &RpcError) -> String {
    let attempts = error.data.as_ref().and_then(|data| {
        let data: serde_json::Value = serde_json::from_str(data.get()).ok()?;
        Some(data["attempts"].as_array()?.len())
    });
    match attempts {
        Some(attempts) => format!("{}/{attempts}", error.code),
        None => error.code.to_string(),
    }
}
