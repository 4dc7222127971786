//! `POST /rpc`: JSON-RPC 2.0.

use crate::asking::Asking;
use crate::body;
use crate::gateway::Gateway;
use crate::limits::INLINE_BYTES_MAX;
use crate::metrics::{Door, Sample};
use crate::pool::Failure;
use crate::reply::{JSON, Reply, bytes_of, line, no_content, reply};
use crate::request;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Request, StatusCode};
use muster_proto::code::Code;
use muster_proto::rpc::{RpcError, error_reply, read_reply};
use serde_json::json;
use std::sync::Arc;
use std::time::Instant;

/// The types under which JSON-RPC travels.
const TYPES: [&str; 3] = [
    "application/json",
    "application/json-rpc",
    "application/jsonrequest",
];

/// Answers one request.
pub(crate) async fn post(gateway: &Arc<Gateway>, request: Request<Incoming>) -> Reply {
    if !is_of_type(request.headers(), &TYPES) {
        let reason = "send Content-Type: application/json, without a Content-Encoding";
        return line(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason);
    }
    let began = Instant::now();
    let body = request.into_body();
    let held = match body::read(body, gateway).await {
        Ok(held) => held,
        Err(none) => {
            let code = match none {
                body::NoBody::TooLarge { .. } => Code::TooLarge,
                _ => Code::InvalidRequest,
            };
            let error = RpcError::new(code).message(none.reason());
            return reply(none.status(), JSON, error_reply(None, &error));
        }
    };
    let bytes = held.bytes.len();
    let read = if bytes <= INLINE_BYTES_MAX {
        request::read(&held.bytes, gateway.policy, || gateway.key())
    } else {
        let own = Arc::clone(gateway);
        let body = held.bytes.clone();
        off_thread(move || request::read(&body, own.policy, || own.key())).await
    };
    drop(held);
    let request = match read {
        Ok(request) => request,
        Err(refusal) => {
            let code = refusal.error.code;
            gateway.metrics.count_refused(Door::Json, code);
            return reply(status_of(code, true), JSON, refusal.reply());
        }
    };
    let method = request.method.clone();
    let answer = match Asking::start(&*gateway.pool, request) {
        Ok(asking) => asking.await,
        Err(failure) => Err(failure),
    };
    let (code, answer) = match answer {
        Ok(frame) if frame.is_empty() => (None, no_content()),
        Ok(frame) => {
            let error = error_of(&frame);
            if let Some(error) = &error {
                gateway.failures.add(&method, error);
            }
            let code = error.map(|error| error.code);
            let status = code.map_or(StatusCode::OK, |code| status_of(code, false));
            (code, reply(status, JSON, bytes_of(frame)))
        }
        Err(failure) => {
            let (status, error) = explain(&failure);
            (
                Some(error.code),
                reply(status, JSON, error_reply(None, &error)),
            )
        }
    };
    let bytes_out = answer.body().size_hint().exact().unwrap_or(0);
    gateway.metrics.record(&Sample {
        door: Door::Json,
        method: &method,
        code,
        elapsed: began.elapsed(),
        bytes_in: bytes,
        bytes_out: usize::try_from(bytes_out).unwrap_or(usize::MAX),
    });
    with_retry(answer)
}

/// Runs what takes long where it keeps nobody waiting.
pub(crate) async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Whether the body's type is one of these, and is not packed.
pub(crate) fn is_of_type(headers: &HeaderMap, types: &[&str]) -> bool {
    let is_packed = headers
        .get(CONTENT_ENCODING)
        .is_some_and(|encoding| encoding != "identity");
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind.map(|kind| kind.split(';').next().unwrap_or("").trim());
    !is_packed && kind.is_some_and(|kind| types.iter().any(|own| own.eq_ignore_ascii_case(kind)))
}

/// What a missing reply is, in HTTP's words and in JSON-RPC's.
pub(crate) fn explain(failure: &Failure) -> (StatusCode, RpcError) {
    let status = match failure {
        Failure::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        Failure::Unknown => StatusCode::BAD_GATEWAY,
        Failure::Timeout => StatusCode::GATEWAY_TIMEOUT,
    };
    let reason = failure.to_string();
    let error = RpcError::new(Code::InternalError).data(&json!({"reason": reason}));
    (status, error)
}

/// The error, if the reply is one.
pub(crate) fn error_of(reply: &[u8]) -> Option<RpcError> {
    // The broker writes results like this, so most replies need no look inside.
    if reply.starts_with(br#"{"jsonrpc":"2.0","result":"#) || reply.starts_with(b"[") {
        return None;
    }
    read_reply(reply)?.outcome.err()
}

/// A call that was taken on and answered is 200, whatever the answer. Other codes are for what
/// HTTP's own machinery can act on: the request is wrong, is too large, or may be tried again.
fn status_of(code: i64, is_ours: bool) -> StatusCode {
    match Code::from_number(code) {
        Some(Code::ParseError | Code::InvalidRequest) => StatusCode::BAD_REQUEST,
        Some(Code::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
        Some(Code::Overloaded | Code::Draining) => StatusCode::SERVICE_UNAVAILABLE,
        Some(Code::Forbidden) => StatusCode::FORBIDDEN,
        _ if is_ours => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    }
}

fn with_retry(mut reply: Reply) -> Reply {
    if reply.status() == StatusCode::SERVICE_UNAVAILABLE {
        let soon = HeaderValue::from_static("1");
        reply.headers_mut().insert(RETRY_AFTER, soon);
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_found_however_they_are_spelled() {
        let code_of = |reply| error_of(reply).map(|error| error.code);
        assert_eq!(
            code_of(&br#"{"jsonrpc":"2.0","result":1,"id":1}"#[..]),
            None
        );
        assert_eq!(code_of(br#"{"id":1,"result":{"error":{"code":1}}}"#), None);
        let error = br#"{"id":1,"error":{"message":"no","code":-32003}}"#;
        assert_eq!(code_of(error), Some(-32003));
        assert_eq!(status_of(-32003, false), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status_of(-32601, false), StatusCode::OK);
        assert_eq!(status_of(-32700, true), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn types_are_told_apart() {
        let with = |kind: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            headers
        };
        assert!(is_of_type(&with("Application/JSON; charset=utf-8"), &TYPES));
        assert!(!is_of_type(&with("text/plain"), &TYPES));
        assert!(!is_of_type(
            &with("application/x-www-form-urlencoded"),
            &TYPES
        ));
        assert!(!is_of_type(&HeaderMap::new(), &TYPES));
        let mut packed = with("application/json");
        packed.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(!is_of_type(&packed, &TYPES));
    }
}
