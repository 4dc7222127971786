//! The targets, a file for each kind of sender.

mod client;
mod file;
mod stranger;
mod worker;

pub use client::{envelope, json, reply, rpc, xmlrpc};
pub use file::{connection, joblog};
pub use stranger::splice;
pub use worker::{broker_to_worker, worker_to_broker};

/// A target and its name, which is also its corpus' folder.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const ALL: &[Target] = &[
    ("broker_to_worker", broker_to_worker),
    ("connection", connection),
    ("envelope", envelope),
    ("joblog", joblog),
    ("json", json),
    ("reply", reply),
    ("rpc", rpc),
    ("splice", splice),
    ("worker_to_broker", worker_to_broker),
    ("xmlrpc", xmlrpc),
];

/// Cuts bytes into frames: a length of two bytes, then so many. What is missing is left out.
fn frames(mut data: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while let [high, low, rest @ ..] = data {
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (frame, rest) = rest.split_at(len);
        frames.push(frame);
        data = rest;
    }
    frames
}
