//! Which handler answers what.

use crate::broker;
use crate::events;
use crate::gate::Denied;
use crate::gateway::Gateway;
use crate::jsonrpc::{self, explain};
use crate::metrics;
use crate::page;
use crate::reply::{JSON, Payload, Reply, TEXT, line, reply};
use crate::xmlrpc;
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, StatusCode};
use serde::Deserialize;
use std::sync::Arc;

const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers one request.
pub(crate) async fn route(gateway: Arc<Gateway>, request: Request<Incoming>) -> Reply {
    let (head, body) = request.into_parts();
    let is_open = matches!(head.uri.path(), "/healthz" | "/readyz");
    if let Err(denied) = gateway.gate.check(&head, is_open) {
        return deny(denied);
    }
    let path = head.uri.path().to_owned();
    let method = head.method.clone();
    let request = Request::from_parts(head, body);
    let is_get = method == Method::GET || method == Method::HEAD;
    match &*path {
        "/rpc" if method == Method::POST => jsonrpc::post(&gateway, request).await,
        // Python's ServerProxy asks for `/` when its address ends with a slash.
        "/RPC2" | "/" if method == Method::POST => xmlrpc::post(&gateway, request).await,
        "/healthz" if is_get => line(StatusCode::OK, "ok"),
        "/readyz" if is_get => ready(&gateway).await,
        "/metrics" if is_get => reply(StatusCode::OK, METRICS, metrics::scrape(&gateway).await),
        "/openrpc.json" if is_get => openrpc(&gateway).await,
        "/events" if method == Method::GET => events::get(&gateway),
        "/rpc" | "/RPC2" => not_allowed("POST"),
        "/" if !is_get => not_allowed("GET, HEAD, POST"),
        "/events" => not_allowed("GET"),
        "/healthz" | "/readyz" | "/metrics" | "/openrpc.json" => not_allowed("GET, HEAD"),
        path => match page::get(path) {
            Some(file) if is_get => file,
            Some(_) => not_allowed("GET, HEAD"),
            None => line(StatusCode::NOT_FOUND, "there is nothing here"),
        },
    }
}

fn deny(denied: Denied) -> Reply {
    let mut reply = line(denied.status(), denied.reason());
    if denied == Denied::Token {
        // Basic makes a browser ask for it.
        let schemes = HeaderValue::from_static(r#"Basic realm="muster", charset="UTF-8", Bearer"#);
        reply.headers_mut().insert(WWW_AUTHENTICATE, schemes);
    }
    reply
}

fn not_allowed(methods: &'static str) -> Reply {
    let mut reply = line(StatusCode::METHOD_NOT_ALLOWED, &format!("use {methods}"));
    let methods = HeaderValue::from_static(methods);
    reply.headers_mut().insert(ALLOW, methods);
    reply
}

/// Whether calls would be answered: a broker is there and some slot of it.
async fn ready(gateway: &Gateway) -> Reply {
    #[derive(Deserialize)]
    struct Status {
        draining: bool,
        slots: Slots,
    }
    #[derive(Deserialize)]
    struct Slots {
        ready: u64,
        busy: u64,
    }
    let reason = match broker::ask::<Status>(&*gateway.pool, "broker.status").await {
        Err(failure) => failure.to_string(),
        Ok(status) if status.draining => "the broker is leaving".into(),
        Ok(status) if status.slots.ready + status.slots.busy == 0 => "no slot is ready".into(),
        Ok(_) => return line(StatusCode::OK, "ready"),
    };
    line(StatusCode::SERVICE_UNAVAILABLE, &reason)
}

async fn openrpc(gateway: &Gateway) -> Reply {
    match broker::ask_text(&*gateway.pool, "rpc.discover").await {
        Ok(document) => reply(StatusCode::OK, JSON, document),
        Err(failure) => line(explain(&failure).0, &failure.to_string()),
    }
}

/// What a connection beyond the limit gets.
pub(crate) fn full() -> hyper::Response<Payload> {
    reply(
        StatusCode::SERVICE_UNAVAILABLE,
        TEXT,
        "too many connections\n",
    )
}
