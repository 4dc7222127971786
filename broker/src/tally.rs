//! What went through the clients' door, counted for those who ask.

use crate::answer::code_of;
use crate::reply::{Form, Reply};
use muster_core::Outcome;
use muster_proto::rpc::{self, RpcError};
use muster_proto::socket::Frame;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Codes that are told apart: workers can make up any number of them.
const CODES_MAX: usize = 64;

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Tally {
    bytes_in: u64,
    bytes_out: u64,
    errors: BTreeMap<i64, u64>,
    /// Errors whose code came when there were too many codes.
    other_errors: u64,
}

impl Tally {
    /// Counts a client's message with all its frames.
    pub fn receive(&mut self, frames: &[&[u8]]) {
        self.bytes_in += bytes_of(frames);
    }

    /// Counts an answer with all its frames, whether its client reads it or not.
    pub fn send(&mut self, frames: &[Frame]) {
        self.bytes_out += bytes_of(frames);
    }

    /// Counts how a call ended, if that is an error.
    pub fn end(&mut self, outcome: &Outcome<Reply>) {
        match outcome {
            Outcome::Replied {
                is_error: false, ..
            } => {}
            Outcome::Replied { reply, .. } => {
                if let Some(code) = code_in(reply) {
                    self.error(code);
                }
            }
            Outcome::Failed(failure) => self.error(code_of(failure).number()),
        }
    }

    /// Counts an answer that needed no worker, if it is an error.
    pub fn answer(&mut self, answer: &Result<String, RpcError>) {
        if let Err(error) = answer {
            self.error(error.code);
        }
    }

    fn error(&mut self, code: i64) {
        if self.errors.len() < CODES_MAX || self.errors.contains_key(&code) {
            *self.errors.entry(code).or_default() += 1;
        } else {
            self.other_errors += 1;
        }
    }

    /// Bytes that came in and went out.
    pub fn bytes(&self) -> (u64, u64) {
        (self.bytes_in, self.bytes_out)
    }

    /// Error answers by their code.
    pub fn errors_json(&self) -> Value {
        let codes = self.errors.iter();
        let mut object: Map<String, Value> = codes
            .map(|(code, count)| (code.to_string(), Value::from(*count)))
            .collect();
        if self.other_errors > 0 {
            object.insert("other".into(), self.other_errors.into());
        }
        object.into()
    }
}

fn bytes_of(frames: &[impl AsRef<[u8]>]) -> u64 {
    frames.iter().map(|frame| frame.as_ref().len() as u64).sum()
}

/// The code of an answer that is an error.
fn code_in(reply: &Reply) -> Option<i64> {
    #[derive(Deserialize)]
    struct Coded {
        code: i64,
    }
    match reply.form() {
        Form::Value => serde_json::from_slice::<Coded>(reply.bytes())
            .ok()
            .map(|error| error.code),
        Form::Whole => rpc::read_reply(reply.bytes())?
            .outcome
            .err()
            .map(|error| error.code),
        Form::Raw => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::Failure;
    use muster_proto::code::Code;

    #[test]
    fn errors_are_counted_by_their_code_and_results_are_not() {
        let mut tally = Tally::default();
        tally.end(&Outcome::Failed(Failure::Draining));
        tally.end(&Outcome::Failed(Failure::Draining));
        tally.answer(&Ok("1".into()));
        tally.answer(&Err(RpcError::new(Code::InvalidParams)));
        assert_eq!(
            tally.errors_json(),
            serde_json::json!({"-32007": 2, "-32602": 1})
        );
    }

    #[test]
    fn made_up_codes_cannot_fill_the_memory() {
        let mut tally = Tally::default();
        for code in 0..1_000 {
            tally.error(code);
        }
        tally.error(3);
        let errors = tally.errors_json();
        assert_eq!(errors.as_object().unwrap().len(), CODES_MAX + 1);
        assert_eq!((&errors["3"], &errors["other"]), (&2.into(), &936.into()));
    }
}
