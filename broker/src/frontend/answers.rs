//! Answers on their way to clients: those of a turn together, those of slow readers kept.

use super::{Frontend, RawErrors};
use crate::answer;
use crate::clock::Clock;
use crate::reply::Reply;
use crate::request::{Extra, Kind, Request};
use crate::streamed::Streamed;
use log::warn;
use muster_core::{ClientId, MonoTime, Outcome, Pushed};
use muster_proto::rpc::RpcError;
use muster_proto::socket::{Frame, SendOutcome};
use muster_proto::worker::StreamKind;
use std::ops::Range;

/// An answer among those of a turn.
pub(super) struct Unsent {
    client: ClientId,
    /// Which of the turn's frames are its own.
    frames: Range<u32>,
}

impl Frontend {
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
            self.tally.end(outcome);
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
        for (request, outcome) in items {
            match (outcome, request.extra()) {
                (Some(outcome), _) => self.tally.end(outcome),
                (
                    None,
                    Some(Extra {
                        answer: Some(answer),
                        ..
                    }),
                ) => self.tally.answer(answer),
                (None, _) => {}
            }
        }
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
    pub(super) fn answer_own(
        &mut self,
        client: ClientId,
        request: &Request,
        answer: &Result<String, RpcError>,
        is_notification: bool,
    ) {
        if is_notification {
            self.acknowledge(client, request);
        } else {
            self.tally.answer(answer);
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
        self.tally.send(&self.unsent[before..]);
        let frames = before as u32..self.unsent.len() as u32;
        self.unsent_of.push(Unsent { client, frames });
    }

    /// Sends the answers of this turn, client by client: libzmq's thread then finds several to write
    /// to one connection at once, and its peer several to read. Gives the clients that have to be
    /// given up.
    pub fn flush(&mut self, clock: &Clock) -> Vec<ClientId> {
        let mut given_up = Vec::new();
        if self.unsent_of.is_empty() {
            return given_up;
        }
        let mut unsent = std::mem::take(&mut self.unsent);
        let mut unsent_of = std::mem::take(&mut self.unsent_of);
        unsent_of.sort_unstable_by_key(|answer| (answer.client, answer.frames.start));
        for Unsent { client, frames } in unsent_of.drain(..) {
            let frames = &mut unsent[frames.start as usize..frames.end as usize];
            if !given_up.contains(&client) && self.send(client, frames, clock) {
                given_up.push(client);
            }
        }
        unsent.clear();
        self.unsent = unsent;
        self.unsent_of = unsent_of;
        given_up
    }

    /// Sends one answer. `true`: the client has to be given up.
    fn send(&mut self, client: ClientId, frames: &mut [Frame], clock: &Clock) -> bool {
        if self.outbox.holds(client) {
            return self.keep(client, frames, clock.now());
        }
        match self.socket.send_slice(frames) {
            Ok(SendOutcome::Sent) => false,
            Ok(SendOutcome::WouldBlock) => self.keep(client, frames, clock.now()),
            // It left; word of that is on its way, and so is the end of its calls.
            Ok(SendOutcome::Unreachable) => false,
            Err(error) => {
                warn!("client={}: {error}", client.0);
                false
            }
        }
    }

    fn keep(&mut self, client: ClientId, frames: &mut [Frame], now: MonoTime) -> bool {
        let frames: Vec<Frame> = frames.iter_mut().map(std::mem::take).collect();
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
