//! What a waiting call costs the broker in memory.

use super::Measured;
use crate::bench::Bench;
use crate::broker::Broker;
use crate::figure::{Aim, Figure};
use crate::process::{RoleProcess, resident_bytes};
use crate::role::{Outcome, Shape};
use crate::stats::Summary;
use anyhow::ensure;
use std::time::Duration;

/// Nobody is to be refused for want of a worker.
const SETTLE: [&str; 2] = ["--settle", "1h"];

pub fn run(bench: &Bench) -> anyhow::Result<Measured> {
    let calls = bench.amount(1_000_000, 200_000);
    let rounds = bench.amount(3, 1);
    let mut figures = Vec::new();
    for (what, raw) in [
        ("raw bodies of 16 bytes", true),
        ("JSON-RPC calls of 70 bytes", false),
    ] {
        let bytes: Vec<f64> = (0..rounds)
            .map(|_| bytes_per_call(bench, calls, raw))
            .collect::<anyhow::Result<_>>()?;
        figures.push(Figure {
            row: "memory".into(),
            work: format!("{calls} waiting calls, {what}"),
            measure: "resident bytes of the broker a call".into(),
            value: Summary::of(&bytes),
            aim: if raw { Aim::AtMost(400.0) } else { Aim::None },
            unit: "bytes".into(),
            rounds,
            ..Figure::default()
        });
    }
    Ok(Measured::Figures(figures))
}

fn bytes_per_call(bench: &Bench, calls: u64, raw: bool) -> anyhow::Result<f64> {
    let broker = Broker::start(&bench.broker, &SETTLE)?;
    let frontend = broker.connection.frontend.as_str();
    let mut client = RoleProcess::start(&["client", "--endpoint", frontend])?;
    let mut shape = Shape::all_at_once("nobody_has_it", vec!["1".into()], calls);
    shape.patience_ms = 0;
    shape.raw = raw.then(|| "0123456789abcdef".into());
    let before = resident_bytes(broker.pid())?;
    client.order(&shape)?;
    let outcome = client.outcome::<Outcome>()?;
    ensure!(
        outcome.sent == calls,
        "only {} calls were sent",
        outcome.sent
    );
    broker.await_status(Duration::from_secs(120), |status| {
        status["calls"]["queued"].as_u64() == Some(calls)
    })?;
    let after = resident_bytes(broker.pid())?;
    Ok((after - before) as f64 / calls as f64)
}
