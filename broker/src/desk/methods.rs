//! Methods on offer: listed, described, in numbers, as OpenRPC.

use super::{Answer, Front, NameParams};
use crate::introspect::LOCALS;
use muster_core::{BUCKETS, Histogram, MethodStatus};
use muster_proto::code::Code;
use muster_proto::rpc::RpcError;
use muster_proto::worker::{Method, Param};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

impl Front<'_> {
    /// Methods on offer by name, with how many workers and slots offer each. One of them that does
    /// not take attachments from the shelf is enough for none to be put there.
    fn offered(&self) -> BTreeMap<&str, Offered<'_>> {
        let mut offered = BTreeMap::new();
        for registration in self.workers.registrations() {
            for method in &registration.methods {
                let entry = offered
                    .entry(method.name.as_str())
                    .or_insert(Offered::of(method));
                // Of several descriptions the smallest: the same whatever the order of workers.
                entry.method = entry.method.min(method);
                entry.is_shared &= method.shared;
                entry.workers += 1;
                entry.slots += registration.slots;
            }
        }
        offered
    }

    fn method(&self, name: &str) -> Result<Method, RpcError> {
        if let Some(offered) = self.offered().get(name) {
            return Ok(offered.method.clone());
        }
        let own = LOCALS.iter().find(|(own, ..)| *own == name);
        let Some((_, _, params, doc)) = own else {
            return Err(RpcError::new(Code::MethodNotFound).data(&json!({"method": name})));
        };
        let params = params.iter().map(|p| Param {
            name: (*p).into(),
            optional: true,
        });
        Ok(Method {
            name: name.into(),
            params: Some(params.collect()),
            doc: (*doc).into(),
            once: false,
            chunks: false,
            shared: false,
        })
    }

    pub(super) fn list_methods(&self) -> Value {
        let mut names: Vec<&str> = self.offered().into_keys().collect();
        names.extend(LOCALS.iter().map(|(name, ..)| *name));
        names.sort_unstable();
        json!(names)
    }

    pub(super) fn signature(&self, params: &NameParams) -> Answer {
        let method = self.method(&params.name)?;
        let names = method.params.unwrap_or_default();
        Ok(names
            .into_iter()
            .map(|param| Value::from(param.name))
            .collect())
    }

    pub(super) fn help(&self, params: &NameParams) -> Answer {
        Ok(self.method(&params.name)?.doc.into())
    }

    pub(super) fn methods_json(&self) -> Value {
        let known = self.core.methods();
        let of_lanes: Vec<Method> = self.core.served_by_lanes().map(of_stock_workers).collect();
        let mut offered = self.offered();
        for method in &of_lanes {
            offered.entry(&method.name).or_insert(Offered::of(method));
        }
        offered
            .into_iter()
            .map(|(name, offered)| {
                let method = offered.method;
                let status = known.get(name);
                let service_ns = status.and_then(|status| status.service_ns);
                json!({
                    "name": name,
                    "params": method.params,
                    "doc": method.doc,
                    "once": method.once,
                    "chunks": method.chunks,
                    "shared": offered.is_shared,
                    "workers": offered.workers,
                    "slots": offered.slots,
                    "queued": status.map_or(0, |status| status.queued),
                    "calls": status.map_or(0, |status| status.latency.calls()),
                    "failures": status.map_or(0, |status| status.failures),
                    "service_us": service_ns.map(|ns| ns as f64 / 1e3),
                    "service_s": status.map_or(0.0, |status| status.total_ns as f64 / 1e9),
                    "latency": latency_json(status),
                })
            })
            .collect()
    }

    /// Source: OpenRPC 1.3.2.
    pub(super) fn discover(&self) -> Value {
        let methods: Vec<Value> = self
            .offered()
            .into_values()
            .map(|Offered { method, .. }| {
                let params = method.params.iter().flatten().map(|param| {
                    json!({"name": param.name, "required": !param.optional, "schema": true})
                });
                let mut object = Map::new();
                object.insert("name".into(), json!(method.name));
                if let Some(line) = method.doc.lines().next() {
                    object.insert("summary".into(), json!(line));
                    object.insert("description".into(), json!(method.doc));
                }
                object.insert("params".into(), params.collect());
                object.insert("result".into(), json!({"name": "result", "schema": true}));
                Value::Object(object)
            })
            .collect();
        json!({
            "openrpc": "1.3.2",
            "info": {"title": self.about.local.name, "version": env!("CARGO_PKG_VERSION")},
            "methods": methods,
        })
    }
}

/// A method, and who offers it.
struct Offered<'a> {
    method: &'a Method,
    is_shared: bool,
    workers: u32,
    slots: u32,
}

impl<'a> Offered<'a> {
    fn of(method: &'a Method) -> Self {
        Offered {
            method,
            is_shared: method.shared,
            workers: 0,
            slots: 0,
        }
    }
}

/// How long calls took, from admission to answer: each bucket's upper end with how many took at
/// most so long.
fn latency_json(status: Option<&MethodStatus>) -> Value {
    let latency = status.map_or_else(Histogram::default, |status| status.latency);
    let mut below = 0;
    let buckets: Vec<(f64, u64)> = (0..BUCKETS)
        .filter_map(|bucket| {
            below += latency.counts[bucket];
            let upper_us = Histogram::upper_us(bucket)?;
            Some((upper_us as f64 / 1e6, below))
        })
        .collect();
    json!({"buckets": buckets, "sum_s": latency.sum_us as f64 / 1e6, "count": latency.calls()})
}

/// A method that stock workers have answered, which register nothing. It may run twice, or the
/// broker would not have given it to them.
fn of_stock_workers(name: &str) -> Method {
    Method {
        name: name.into(),
        params: None,
        doc: "Answered by stock workers, which describe nothing.".into(),
        once: false,
        chunks: false,
        shared: false,
    }
}
