//! `POST /RPC2`: XML-RPC, for the whole pool.

mod document;
mod fault;
mod read;
mod scalar;
mod write;

use crate::asking::Asking;
use crate::body::{self, Held};
use crate::broker;
use crate::gateway::Gateway;
use crate::jsonrpc::{error_of, is_of_type, off_thread};
use crate::limits::INLINE_BYTES_MAX;
use crate::metrics::{Door, Sample};
use crate::pool;
use crate::reply::{Reply, XML, line, reply};
use crate::request;
use fault::Fault;
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use muster_proto::code::Code;
use muster_proto::rpc::read_reply;
use muster_proto::socket::Frame;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use std::time::Instant;

/// The types under which XML-RPC travels.
const TYPES: [&str; 2] = ["text/xml", "application/xml"];

/// A type that is not declared, as introspection writes it.
const UNDECLARED: &str = "undef";

/// The reader alone.
pub(crate) fn parse(body: &[u8]) -> Option<(String, String)> {
    let call = read::read(body).ok()?;
    Some((call.method, call.params))
}

/// Answers one request. Faults are answered 200, as the specification says.
pub(crate) async fn post(gateway: &Arc<Gateway>, request: Request<Incoming>) -> Reply {
    if !is_of_type(request.headers(), &TYPES) {
        let reason = "send Content-Type: text/xml, without a Content-Encoding";
        return line(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason);
    }
    let began = Instant::now();
    let body = request.into_body();
    let held = match body::read(body, gateway).await {
        Ok(held) => held,
        Err(none) => {
            let fault = Fault {
                code: Code::TooLarge.number(),
                text: none.reason(),
            };
            return reply(none.status(), XML, fault.to_xml());
        }
    };
    let bytes_in = held.bytes.len();
    let (method, outcome) = answer(gateway, held).await;
    let (code, body) = match outcome {
        Ok(xml) => (None, xml),
        Err(fault) => (Some(fault.code), fault.to_xml()),
    };
    match method {
        Some(method) => gateway.metrics.record(&Sample {
            door: Door::Xml,
            method: &method,
            code,
            elapsed: began.elapsed(),
            bytes_in,
            bytes_out: body.len(),
        }),
        None => gateway.metrics.count_refused(Door::Xml, code.unwrap_or(0)),
    }
    reply(StatusCode::OK, XML, body)
}

/// The method, once it is known, and the answer.
async fn answer(gateway: &Arc<Gateway>, held: Held) -> (Option<String>, Result<Vec<u8>, Fault>) {
    let is_small = held.bytes.len() <= INLINE_BYTES_MAX;
    let reader = {
        let gateway = Arc::clone(gateway);
        move || translate(&gateway, &held.bytes)
    };
    let translated = match is_small {
        true => reader(),
        false => off_thread(reader).await,
    };
    let (request, described) = match translated {
        Ok(translated) => translated,
        Err(fault) => return (None, Err(fault)),
    };
    let method = request.method.clone();
    let frame = match ask(gateway, request).await {
        Ok(frame) => frame,
        Err(fault) => return (Some(method), Err(fault)),
    };
    if let Some(mut error) = error_of(&frame) {
        if error.data.is_none() && error.code == Code::MethodNotFound.number() {
            error.message = format!("{}: {method}", error.message);
        }
        gateway.failures.add(&method, &error);
        return (Some(method), Err(Fault::of_error(&error)));
    }
    if let Some(described) = described {
        let names: Vec<String> = result_of(&frame).unwrap_or_default();
        drop(frame);
        return (Some(method), signature(gateway, &described, &names).await);
    }
    let outcome = match frame.len() <= INLINE_BYTES_MAX {
        true => write_result(&frame),
        false => off_thread(move || write_result(&frame)).await,
    };
    (Some(method), outcome)
}

/// The call as the broker takes it, and the method whose signature it asks for, if it does.
fn translate(gateway: &Gateway, body: &[u8]) -> Result<(pool::Request, Option<String>), Fault> {
    let call = read::read(body)?;
    let method = Value::from(call.method.as_str());
    let params = call.params;
    let text = format!(r#"{{"jsonrpc":"2.0","method":{method},"params":{params},"id":1}}"#);
    let request = request::read(text.as_bytes(), gateway.policy, || gateway.key())
        .map_err(|refusal| Fault::of_error(&refusal.error))?;
    let described = match &*call.method {
        "system.methodSignature" => serde_json::from_str(&params)
            .ok()
            .map(|[name]: [String; 1]| name),
        _ => None,
    };
    Ok((request, described))
}

async fn ask(gateway: &Gateway, request: pool::Request) -> Result<Frame, Fault> {
    let asking = Asking::start(&*gateway.pool, request);
    let outcome = match asking {
        Ok(asking) => asking.await,
        Err(failure) => Err(failure),
    };
    outcome.map_err(|failure| Fault::of_failure(&failure))
}

fn write_result(frame: &Frame) -> Result<Vec<u8>, Fault> {
    let Some(view) = read_reply(frame) else {
        return Err(Fault::bad_result("it is no JSON-RPC reply"));
    };
    match view.outcome {
        Ok(result) => write::response(result),
        Err(error) => Err(Fault::of_error(&error)),
    }
}

fn result_of<T: for<'a> Deserialize<'a>>(frame: &Frame) -> Option<T> {
    serde_json::from_str(read_reply(frame)?.outcome.ok()?).ok()
}

/// Puts parameter names into what XML-RPC's introspection wants: a list of signatures, each the
/// result's type and the parameters' types. The pool's functions declare names and which of them
/// may be left out, but no types; so there is a signature for each number of arguments.
async fn signature(gateway: &Gateway, method: &str, names: &[String]) -> Result<Vec<u8>, Fault> {
    #[derive(Deserialize)]
    struct Param {
        #[serde(default)]
        optional: bool,
    }
    #[derive(Deserialize)]
    struct Method {
        name: String,
        params: Option<Vec<Param>>,
    }
    let methods: Vec<Method> = broker::ask(&*gateway.pool, "broker.methods")
        .await
        .map_err(|failure| Fault::of_failure(&failure))?;
    let undeclared = format!("\"{UNDECLARED}\"");
    let found = methods.into_iter().find(|found| found.name == method);
    let counts = match found.map(|found| found.params) {
        // It takes whatever its function makes of it, such as Python's `*args`.
        _ if names.iter().any(|name| name.starts_with('*')) => return write::response(&undeclared),
        Some(None) => return write::response(&undeclared),
        Some(Some(params)) => {
            let required = params.iter().filter(|param| !param.optional).count();
            required..=params.len()
        }
        // One of the broker's own.
        None => names.len()..=names.len(),
    };
    let signatures: Vec<Vec<&str>> = counts.map(|count| vec![UNDECLARED; 1 + count]).collect();
    write::response(&serde_json::json!(signatures).to_string())
}
