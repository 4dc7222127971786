//! A client: keeps calls in flight and reads every answer.

use super::ready;
use crate::histogram::Histogram;
use anyhow::{Context as _, bail, ensure};
use muster_proto::connection::Connection;
use muster_proto::rpc;
use muster_proto::socket::{
    Context, Frame, Interest, Kind, PollItem, Profile, SendOutcome, Socket, poll,
};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// What a client is to do: a line of JSON on its standard input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shape {
    /// Which of its endpoints.
    pub to: usize,
    /// The method.
    pub method: String,
    /// The one parameter of each call, as JSON; the calls take turns with them.
    pub params: Vec<String>,
    /// Calls unanswered at a time.
    pub in_flight: usize,
    /// Stops sending after so many calls,
    pub calls_max: u64,
    /// or after so long.
    pub window_ms: u64,
    /// How long it waits for answers once it has stopped sending.
    pub patience_ms: u64,
    /// Bytes of an attachment; 0: none.
    pub attachment_bytes: usize,
    /// A body to send as it is, instead of calls; its answers are not read.
    pub raw: Option<String>,
}

impl Shape {
    /// So many calls as fast as they go, all in flight at once (up to a million), however long it
    /// takes.
    pub fn all_at_once(method: &str, params: Vec<String>, calls: u64) -> Self {
        Shape {
            to: 0,
            method: method.into(),
            params,
            in_flight: calls.min(1_000_000) as usize,
            calls_max: calls,
            window_ms: 600_000,
            patience_ms: 30_000,
            attachment_bytes: 0,
            raw: None,
        }
    }
}

/// What came of it, as a line of JSON.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Calls sent.
    pub sent: u64,
    /// Calls answered with the right result.
    pub answered: u64,
    /// Calls answered with an error.
    pub failed: u64,
    /// Calls answered in the window.
    pub in_window: u64,
    /// From the first call to the last answer, in ns.
    pub elapsed_ns: u64,
    /// From call to answer.
    pub latencies: Histogram,
}

pub fn run(req: bool, endpoints: &[String]) -> anyhow::Result<()> {
    let context = Context::new(1)?;
    let kind = if req { Kind::Req } else { Kind::Dealer };
    let mut sockets = Vec::new();
    for endpoint in endpoints {
        let socket = Socket::open(&context, kind, &Profile::ClientLink)?;
        if endpoint.contains("://") {
            socket.connect(endpoint)?;
        } else {
            // A connection file: its keys are shown.
            let file = Connection::read(Path::new(endpoint))?;
            if let Some(curve) = &file.curve {
                socket.set_curve_client(&curve.server_key, &curve.public_key, &curve.secret_key)?;
            }
            socket.connect(&file.frontend)?;
        }
        sockets.push(socket);
    }
    ready()?;
    for line in io::stdin().lock().lines() {
        let shape: Shape = serde_json::from_str(&line?).context("an order")?;
        let outcome = Driver::new(&sockets[shape.to], &shape).drive()?;
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, &outcome)?;
        writeln!(out)?;
        out.flush()?;
    }
    Ok(())
}

struct Driver<'a> {
    socket: &'a Socket,
    shape: &'a Shape,
    has_delimiter: bool,
    attachment: Option<Frame>,
    /// By place: the id of the call there, and when it was sent.
    places: Vec<(u64, Instant)>,
    free: Vec<usize>,
    outcome: Outcome,
}

impl<'a> Driver<'a> {
    fn new(socket: &'a Socket, shape: &'a Shape) -> Self {
        let attachment =
            (shape.attachment_bytes > 0).then(|| Frame::from(vec![7; shape.attachment_bytes]));
        Driver {
            socket,
            shape,
            has_delimiter: socket.kind() != Kind::Req,
            attachment,
            places: vec![(0, Instant::now()); shape.in_flight],
            free: (0..shape.in_flight).rev().collect(),
            outcome: Outcome::default(),
        }
    }

    fn drive(mut self) -> anyhow::Result<Outcome> {
        let start = Instant::now();
        let window_end = start + Duration::from_millis(self.shape.window_ms);
        let patience = Duration::from_millis(self.shape.patience_ms);
        let mut give_up = None;
        let mut frames = Vec::new();
        loop {
            let now = Instant::now();
            let is_open = now < window_end;
            let is_blocked = is_open && !self.send_all(&mut frames)?;
            if !is_open || self.outcome.sent >= self.shape.calls_max {
                let at = *give_up.get_or_insert(now + patience);
                if self.free.len() == self.places.len() || now >= at {
                    return Ok(self.outcome);
                }
            }
            let interest = if is_blocked {
                Interest::Both
            } else {
                Interest::Read
            };
            let until = give_up.unwrap_or(window_end);
            let left = until.saturating_duration_since(Instant::now());
            poll(&mut [PollItem::socket(self.socket, interest)], Some(left))?;
            // A REQ that waits for nothing may not receive.
            while self.free.len() < self.places.len() && self.socket.recv_into(&mut frames)? {
                let now = Instant::now();
                self.outcome.elapsed_ns = now.duration_since(start).as_nanos() as u64;
                self.outcome.in_window += u64::from(now < window_end);
                self.read(&frames, now)?;
                // The answered call's successor goes out at once, as a pipelining client has it.
                if now < window_end && self.outcome.sent < self.shape.calls_max {
                    self.send_all(&mut frames)?;
                }
            }
        }
    }

    /// Sends what may be in flight. `false`: the socket takes no more for now.
    fn send_all(&mut self, frames: &mut Vec<Frame>) -> anyhow::Result<bool> {
        while let Some(place) = self.free.pop() {
            if self.outcome.sent >= self.shape.calls_max {
                self.free.push(place);
                return Ok(true);
            }
            let turn = self.outcome.sent;
            let id = turn * self.places.len() as u64 + place as u64;
            let param = &self.shape.params[(turn % self.shape.params.len() as u64) as usize];
            let method = &self.shape.method;
            let body = match &self.shape.raw {
                Some(raw) => raw.clone(),
                None => format!(
                    r#"{{"jsonrpc":"2.0","method":"{method}","params":[{param}],"id":{id}}}"#
                ),
            };
            frames.clear();
            if self.has_delimiter {
                frames.push(Frame::empty());
            }
            frames.push(Frame::from(body.as_bytes()));
            frames.extend(self.attachment.as_ref().map(Frame::share));
            match self.socket.send_frames(frames)? {
                SendOutcome::Sent => {}
                _ => {
                    self.free.push(place);
                    return Ok(false);
                }
            }
            self.places[place] = (id, Instant::now());
            self.outcome.sent += 1;
        }
        Ok(true)
    }

    fn read(&mut self, frames: &[Frame], now: Instant) -> anyhow::Result<()> {
        let body = usize::from(self.has_delimiter);
        let reply = frames.get(body).and_then(|body| rpc::read_reply(body));
        let Some(reply) = reply else {
            bail!("not a reply: {frames:?}");
        };
        let id: u64 = reply
            .id
            .unwrap_or_default()
            .parse()
            .context("a reply's id")?;
        let count = self.places.len() as u64;
        let place = (id % count) as usize;
        let (expected, sent_at) = self.places[place];
        if id != expected {
            // A call of an earlier order that was given up.
            return Ok(());
        }
        self.places[place].0 = u64::MAX;
        match reply.outcome {
            Ok(result) => {
                let turn = id / count;
                let param = &self.shape.params[(turn % self.shape.params.len() as u64) as usize];
                ensure!(result == param, "{param} came back as {result}");
                let bytes = frames.get(body + 1).map_or(0, |frame| frame.len());
                let wanted = self.shape.attachment_bytes;
                ensure!(
                    bytes == wanted,
                    "an attachment of {wanted} bytes came back as {bytes}"
                );
                self.outcome.answered += 1;
            }
            Err(_) => self.outcome.failed += 1,
        }
        self.outcome.latencies.add(now.duration_since(sent_at));
        self.free.push(place);
        Ok(())
    }
}
