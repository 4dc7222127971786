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

    /// Bytes of the answers that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Value(usize);

    impl Reply for Value {
        fn bytes(&self) -> usize {
            self.0
        }
    }

    fn at(s: u64) -> MonoTime {
        MonoTime::from_micros(s * 1_000_000)
    }

    fn reply(bytes: usize) -> Outcome<Value> {
        Outcome::Replied {
            reply: Value(bytes),
            is_error: false,
        }
    }

    fn config() -> Config {
        Config {
            answers_max: 3,
            answers_bytes_max: 2_000,
            ..Config::default()
        }
    }

    /// Keys that end in this order, one a second, with answers of these bytes.
    fn ended(answers: &[(&str, usize)]) -> (Keys<Value>, Timers) {
        let (mut keys, mut timers) = (Keys::default(), Timers::default());
        for (second, (key, bytes)) in answers.iter().enumerate() {
            keys.open((*key).into(), CallId(1));
            let now = at(second as u64);
            keys.end((*key).into(), reply(*bytes), now, &mut timers, &config());
        }
        (keys, timers)
    }

    fn is_kept(keys: &Keys<Value>, key: &str) -> bool {
        matches!(keys.find(key), Found::Ended(_))
    }

    #[test]
    fn a_key_leads_to_its_call_and_then_to_its_answer() {
        let (mut keys, mut timers) = (Keys::default(), Timers::default());
        assert!(matches!(keys.find("a"), Found::Nothing));
        keys.open("a".into(), CallId(7));
        assert_eq!(keys.live("a"), Some(CallId(7)));
        keys.end("a".into(), reply(1), at(0), &mut timers, &config());
        assert_eq!(keys.live("a"), None);
        // The answer, its key in two tables, and what the tables take.
        assert_eq!(keys.bytes(), 1 + 2 + 128);
        assert!(matches!(keys.find("a"), Found::Ended(outcome) if outcome == reply(1)));
        keys.open("b".into(), CallId(8));
        keys.drop_live("b");
        assert!(matches!(keys.find("b"), Found::Nothing));
    }

    #[test]
    fn answers_are_forgotten_a_minute_after_they_came() {
        let (mut keys, mut timers) = ended(&[("a", 1), ("b", 1)]);
        assert_eq!(timers.next(), Some(at(60)));
        assert_eq!(timers.pop(at(60)), Some(Due::KeptAnswers));
        keys.forget(at(60), &mut timers, &config());
        assert!(!is_kept(&keys, "a") && is_kept(&keys, "b"));
        assert_eq!(timers.next(), Some(at(61)));
        timers.pop(at(61));
        keys.forget(at(61), &mut timers, &config());
        assert!(!is_kept(&keys, "b") && timers.next().is_none());
        assert_eq!((keys.bytes, keys.by_key.len()), (0, 0));
    }

    #[test]
    fn the_oldest_answers_make_room_by_count_and_by_bytes() {
        let (keys, _) = ended(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
        assert!(!is_kept(&keys, "a") && is_kept(&keys, "b") && is_kept(&keys, "d"));
        let (keys, _) = ended(&[("a", 900), ("b", 900), ("c", 900)]);
        assert!(!is_kept(&keys, "a") && !is_kept(&keys, "b") && is_kept(&keys, "c"));
    }

    #[test]
    fn an_answer_that_can_not_be_kept_leaves_the_others_alone() {
        let (keys, _) = ended(&[("a", 900), ("huge", 5_000)]);
        assert!(is_kept(&keys, "a") && matches!(keys.find("huge"), Found::Nothing));
    }

    #[test]
    fn an_answer_that_just_fits_is_kept() {
        let (keys, _) = ended(&[("a", 2_000 - 130)]);
        assert!(is_kept(&keys, "a"));
        assert_eq!(keys.bytes(), 2_000);
        let (keys, _) = ended(&[("a", 2_000 - 129)]);
        assert!(!is_kept(&keys, "a"));
    }
}
