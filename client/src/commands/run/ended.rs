//! How a job ended.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use muster_client::{Answer, Error, Frame, Outcome};
use muster_proto::code::Code;
use serde_json::{Value, json};

/// What is known of a job that is over.
#[derive(Debug)]
pub struct Ended {
    /// The command's exit code; of one that has none the code that `muster call` would end with.
    pub exit: i32,
    /// The signal that ended it, or 0.
    pub signal: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// Where it ran, if that is known.
    pub host: Option<String>,
    pub worker: Option<String>,
    /// What was wrong when the command has no exit of its own.
    pub error: Option<Error>,
}

impl Ended {
    /// Reads a worker's answer, or what came instead of one.
    pub fn read(outcome: Outcome) -> Self {
        match outcome.and_then(|answer| from_answer(&answer)) {
            Ok(ended) => ended,
            Err(error) => from_error(error),
        }
    }

    /// Whether it did what it should.
    pub fn is_well(&self) -> bool {
        self.exit == 0 && self.signal == 0 && self.error.is_none()
    }

    /// Whether the broker refused the job for the time being, so that it was not started.
    pub fn is_refused(&self) -> bool {
        let code = match &self.error {
            Some(Error::Rpc(error)) => error.known_code(),
            _ => None,
        };
        matches!(code, Some(Code::Overloaded | Code::Draining))
    }

    /// Bytes that came back.
    pub fn bytes(&self) -> usize {
        self.stdout.len() + self.stderr.len()
    }

    /// The members of the object that `--json` prints.
    pub fn to_json(&self) -> Value {
        let error = self.error.as_ref().map(|error| match error {
            Error::Rpc(error) => serde_json::from_str(&error.to_json()).unwrap_or(Value::Null),
            error => json!({"message": error.to_string()}),
        });
        json!({
            "exit": self.exit,
            "signal": self.signal,
            "stdout": text_or_bytes(&self.stdout),
            "stderr": text_or_bytes(&self.stderr),
            "host": self.host,
            "worker": self.worker,
            "error": error,
        })
    }
}

/// In words for a person: `exit code 3`.
impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.error, self.signal) {
            (Some(error), _) => write!(f, "{error}"),
            (None, 0) => write!(f, "exit code {}", self.exit),
            (None, signal) => write!(f, "killed by signal {signal}"),
        }
    }
}

fn from_answer(answer: &Answer) -> Result<Ended, Error> {
    let result: Value = answer.json()?;
    let number = |name: &str| result[name].as_i64().and_then(|n| i32::try_from(n).ok());
    let text = |name: &str| result[name].as_str().map(str::to_owned);
    let (exit, signal) = (number("exit_code"), number("signal"));
    if exit.is_none() && signal.is_none() {
        return Err(Error::BadAnswer {
            reason: "it says neither exit code nor signal".into(),
        });
    }
    Ok(Ended {
        exit: exit.unwrap_or(0),
        signal: signal.unwrap_or(0),
        stdout: bytes(&result["stdout"], answer.attachments())?,
        stderr: bytes(&result["stderr"], answer.attachments())?,
        host: text("host"),
        worker: text("worker"),
        error: None,
    })
}

fn from_error(error: Error) -> Ended {
    let data = match &error {
        Error::Rpc(error) => error.data.as_ref().map(|raw| raw.get()),
        _ => None,
    };
    let data: Value = data
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    // Of several attempts the last one is where it ended.
    let last = data["attempts"].as_array().and_then(|all| all.last());
    let place = last.unwrap_or(&data);
    let text = |name: &str| place[name].as_str().map(str::to_owned);
    let stderr = text("stderr").unwrap_or_default();
    Ended {
        exit: error.exit().number(),
        signal: place["signal"]
            .as_i64()
            .and_then(|n| i32::try_from(n).ok())
            .unwrap_or(0),
        stdout: Vec::new(),
        stderr: stderr.into_bytes(),
        host: text("host"),
        worker: text("worker"),
        error: Some(error),
    }
}

/// A string, or bytes that are none: an attachment or base64 (docs/protocol.md, "Attachments").
fn bytes(value: &Value, attachments: &[Frame]) -> Result<Vec<u8>, Error> {
    let bad = || Error::BadAnswer {
        reason: "the output is neither text nor bytes".into(),
    };
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(text.clone().into_bytes()),
        Value::Object(members) => {
            if let Some(place) = members.get("$frame").and_then(Value::as_u64) {
                let frame = usize::try_from(place)
                    .ok()
                    .and_then(|at| attachments.get(at));
                return frame.map(|frame| frame.to_vec()).ok_or_else(bad);
            }
            let text = members
                .get("$base64")
                .and_then(Value::as_str)
                .ok_or_else(bad)?;
            BASE64_STANDARD.decode(text).map_err(|_| bad())
        }
        _ => Err(bad()),
    }
}

fn text_or_bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({"$base64": BASE64_STANDARD.encode(bytes)}),
    }
}
