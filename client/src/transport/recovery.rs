//! How the broker is lost and found again.

use super::{LINK_TIMEOUT, Phase, RETRY, Transport};
use crate::entry::Sink;
use crate::error::Error;
use crate::ledger::Found;
use crate::link::Link;
use crate::request;
use crate::status::{MethodEntry, Status};
use log::{info, warn};
use std::time::{Duration, Instant};

/// While calls are unanswered the broker is asked this often whether it is there.
const PING: Duration = Duration::from_secs(1);
/// A broker silent for this long is taken for a dead link, whatever TCP says.
const SILENT_MAX: Duration = Duration::from_secs(15);
/// How often a new broker is asked for methods that its workers have not registered yet.
const ASK: Duration = Duration::from_millis(200);
/// How long its workers may take to register them.
const ASK_MAX: Duration = Duration::from_secs(10);

impl Transport {
    pub(super) fn ask_status(&mut self) {
        let id = self.handle.ids(1);
        self.ledger
            .insert(request::own(id, "broker.status", Sink::Status));
        self.ping = Instant::now() + PING;
    }

    pub(super) fn ask_methods(&mut self) {
        let id = self.handle.ids(1);
        self.ledger
            .insert(request::own(id, "broker.methods", Sink::Methods));
    }

    pub(super) fn lose(&mut self, why: &str, pause: Duration) {
        let now = Instant::now();
        if matches!(self.phase, Phase::Ready) {
            self.lost = Some(now);
            let patience = self.patience.as_secs();
            if self.ledger.has_calls() {
                warn!("lost the broker ({why}); waiting up to {patience} s for it");
            } else {
                info!("lost the broker ({why})");
            }
            self.handle.set_presence(None, None);
        }
        self.link = None;
        self.asking = None;
        self.ledger.drop_own();
        self.phase = Phase::Down { retry: now + pause };
    }

    /// The broker has told who it is.
    pub(super) fn found(&mut self, status: Status) {
        if matches!(self.phase, Phase::Opening { .. }) {
            let now = Instant::now();
            self.phase = Phase::Ready;
            let away = self.lost.take().map_or(Duration::ZERO, |lost| now - lost);
            let known = self.epoch.as_ref();
            if known.is_some() {
                info!("the broker is back after {} ms", away.as_millis());
            }
            let is_same = known == Some(&status.epoch) && !status.epoch.is_empty();
            let found = Found {
                is_same,
                away,
                once: &self.once,
            };
            let unknown = self.ledger.resend(&found);
            self.fail(unknown, &Error::UnknownOutcome);
            self.asking = self.ledger.has_asked().then_some((now, now));
        }
        self.epoch = Some(status.epoch.clone());
        self.handle.set_presence(Some(status), None);
    }

    pub(super) fn learn(&mut self, flags: Vec<MethodEntry>) {
        self.once
            .extend(flags.into_iter().map(|method| (method.name, method.once)));
        let found = Found {
            is_same: false,
            away: Duration::ZERO,
            once: &self.once,
        };
        let unknown = self.ledger.resend_asked(&found);
        self.fail(unknown, &Error::UnknownOutcome);
        if !self.ledger.has_asked() {
            self.asking = None;
        }
    }

    pub(super) fn ping(&mut self, now: Instant) {
        if now < self.ping {
            return;
        }
        if !self.ledger.has_calls() {
            // Nobody waits, so nobody cares; and silence counts from the next question.
            self.ping = now + PING;
            self.heard = now;
            return;
        }
        if now - self.heard >= SILENT_MAX {
            self.lose("it is silent", Duration::ZERO);
            return;
        }
        if self.once.is_empty() {
            // Known in advance, calls can go on at once when the broker is restarted.
            self.ask_methods();
        }
        self.ask_status();
    }

    pub(super) fn reopen(&mut self, now: Instant) {
        let opened = self
            .target
            .resolve()
            .and_then(|address| Link::open(&self.context, address).map_err(Error::from));
        match opened {
            Ok(link) => {
                self.link = Some(link);
                self.phase = Phase::Opening {
                    until: now + LINK_TIMEOUT,
                };
            }
            Err(error) => {
                self.handle.set_presence(None, Some(error));
                self.phase = Phase::Down { retry: now + RETRY };
            }
        }
    }

    /// The broker did not come back in time.
    pub(super) fn give_up(&mut self, waited: Duration) {
        for entry in self.ledger.take_all() {
            let error = match entry.is_sent && entry.is_once {
                true => Error::UnknownOutcome,
                false => Error::BrokerLost { waited },
            };
            self.fail(vec![entry], &error);
        }
    }

    /// After a restart: which methods may run twice is known once their workers are back.
    pub(super) fn keep_asking(&mut self, now: Instant) {
        if let Some((since, _)) = self.asking.filter(|(_, next)| *next <= now) {
            if now - since >= ASK_MAX {
                self.asking = None;
                let unknown = self.ledger.take_asked();
                self.fail(unknown, &Error::UnknownOutcome);
            } else {
                self.asking = Some((since, now + ASK));
                self.ask_methods();
            }
        }
    }
}
