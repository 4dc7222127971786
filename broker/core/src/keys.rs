//! Keyed calls: found again by a client that lost its connection.

use crate::config::Config;
use crate::time::MonoTime;
use crate::timer::{Due, Timers};
use crate::{Outcome, Reply};
use muster_proto::id::CallId;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// Keys of open calls, and the answers of ended ones.
#[derive(Debug)]
pub(crate) struct Keys<R> {
    by_key: FxHashMap<Box<str>, Keyed<R>>,
    /// Ended ones, oldest first.
    ended: VecDeque<(MonoTime, Box<str>)>,
    bytes: usize,
}

#[derive(Debug)]
enum Keyed<R> {
    Live(CallId),
    Ended { outcome: Outcome<R>, bytes: usize },
}

/// What a key is known for.
pub(crate) enum Found<R> {
    Nothing,
    Live(CallId),
    Ended(Outcome<R>),
}

impl<R> Default for Keys<R> {
    fn default() -> Self {
        Keys {
            by_key: FxHashMap::default(),
            ended: VecDeque::new(),
            bytes: 0,
        }
    }
}

impl<R: Reply> Keys<R> {
    pub fn find(&self, key: &str) -> Found<R> {
        match self.by_key.get(key) {
            None => Found::Nothing,
            Some(Keyed::Live(call)) => Found::Live(*call),
            Some(Keyed::Ended { outcome, .. }) => Found::Ended(outcome.clone()),
        }
    }

    pub fn live(&self, key: &str) -> Option<CallId> {
        match self.by_key.get(key) {
            Some(Keyed::Live(call)) => Some(*call),
            _ => None,
        }
    }

    pub fn open(&mut self, key: Box<str>, call: CallId) {
        self.by_key.insert(key, Keyed::Live(call));
    }

    /// Drops the key of a call that leaves no answer behind.
    pub fn drop_live(&mut self, key: &str) {
        self.by_key.remove(key);
    }

    /// Keeps the answer to a keyed call for a while.
    pub fn end(
        &mut self,
        key: Box<str>,
        outcome: Outcome<R>,
        now: MonoTime,
        timers: &mut Timers,
        config: &Config,
    ) {
        let outcome_bytes = match &outcome {
            Outcome::Replied { reply, .. } => reply.bytes(),
            Outcome::Failed(failure) => failure.bytes(),
        };
        let bytes = outcome_bytes + 2 * key.len() + 128;
        if bytes > config.answers_bytes_max || config.answers_max == 0 {
            // It must not push out all the others and then itself.
            self.drop_live(&key);
            return;
        }
        if self.ended.is_empty() {
            timers.arm(now.after(config.answer_kept), Due::KeptAnswers);
        }
        self.bytes += bytes;
        self.by_key
            .insert(key.clone(), Keyed::Ended { outcome, bytes });
        self.ended.push_back((now, key));
        while self.ended.len() > config.answers_max || self.bytes > config.answers_bytes_max {
            self.forget_oldest();
        }
    }

    /// Forgets what has been kept long enough, and arms the timer for the next.
    pub fn forget(&mut self, now: MonoTime, timers: &mut Timers, config: &Config) {
        while let Some(&(since, _)) = self.ended.front() {
            let until = since.after(config.answer_kept);
            if until > now {
                timers.arm(until, Due::KeptAnswers);
                return;
            }
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, key)) = self.ended.pop_front() else {
            return;
        };
        if let Some(Keyed::Ended { bytes, .. }) = self.by_key.get(&key) {
            self.bytes -= bytes;
            self.by_key.remove(&key);
        }
    }
}
