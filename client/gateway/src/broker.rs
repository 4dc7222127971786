//! The gateway's own questions to the broker.

use crate::asking::Asking;
use crate::limits::ASK_TIMEOUT;
use crate::pool::{Failure, Pool, Request};
use muster_proto::rpc::{read_replies, read_reply};
use muster_proto::socket::Frame;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Asks one thing, without parameters.
pub(crate) async fn ask<T: DeserializeOwned>(pool: &dyn Pool, method: &str) -> Result<T, Failure> {
    let reply = ask_raw(pool, method).await?;
    let result = read_reply(&reply).and_then(|view| view.outcome.ok());
    result
        .and_then(|result| serde_json::from_str(result).ok())
        .ok_or_else(|| Failure::Unavailable(format!("the broker does not answer {method}")))
}

/// The same, as the JSON that came.
pub(crate) async fn ask_text(pool: &dyn Pool, method: &str) -> Result<String, Failure> {
    let reply = ask_raw(pool, method).await?;
    let result = read_reply(&reply).and_then(|view| view.outcome.ok());
    result
        .map(str::to_owned)
        .ok_or_else(|| Failure::Unavailable(format!("the broker does not answer {method}")))
}

async fn ask_raw(pool: &dyn Pool, method: &str) -> Result<Frame, Failure> {
    let body = format!(r#"{{"jsonrpc":"2.0","method":"{method}","id":0}}"#);
    send(pool, body, method).await
}

/// Asks several things in one message. Each is a method with its parameters as JSON; one that fails
/// is `None`, since brokers may know less than this gateway.
pub(crate) async fn ask_all(
    pool: &dyn Pool,
    questions: &[(&str, &str)],
) -> Result<Vec<Option<String>>, Failure> {
    let calls: Vec<String> = questions
        .iter()
        .enumerate()
        .map(|(id, (method, params))| {
            format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params},"id":{id}}}"#)
        })
        .collect();
    let reply = send(pool, format!("[{}]", calls.join(",")), "broker.status").await?;
    let mut answers = vec![None; questions.len()];
    for view in read_replies(&reply).unwrap_or_default() {
        let place = view.id.and_then(|id| id.parse::<usize>().ok());
        if let Some(answer) = place.and_then(|place| answers.get_mut(place)) {
            *answer = view.outcome.ok().map(str::to_owned);
        }
    }
    Ok(answers)
}

async fn send(pool: &dyn Pool, body: String, method: &str) -> Result<Frame, Failure> {
    if !pool.is_connected() {
        return Err(Failure::Unavailable("the broker is away".into()));
    }
    let request = Request {
        body: body.into_bytes(),
        method: method.to_owned(),
        key: None,
        is_once: false,
        timeout: Duration::ZERO,
    };
    let asking = Asking::start(pool, request)?;
    let answer = tokio::time::timeout(ASK_TIMEOUT, asking).await;
    answer.unwrap_or(Err(Failure::Timeout))
}
