//! What five hundred idle lanes cost the others.

use super::{Measured, pool::Managed};
use crate::bench::Bench;
use crate::figure::{Aim, Figure};
use crate::histogram::Histogram;
use crate::process::RoleProcess;
use crate::role::{Outcome, Shape};
use crate::stats::Summary;
use std::time::Duration;

const CLIENTS: usize = 8;
const LANE_PROCESSES: usize = 4;

pub fn run(bench: &Bench) -> anyhow::Result<Measured> {
    let lanes = bench.amount(500, 200);
    let crowded = Managed::start(&bench.broker, 4, 1)?;
    let lonely = Managed::start(&bench.broker, 4, 1)?;
    let backend = crowded.broker.connection.backend.as_str();
    if !crowded.broker.has_backend() {
        return Ok(Measured::Skipped(
            "this broker does not open its backend".into(),
        ));
    }
    let each = (lanes / LANE_PROCESSES).to_string();
    let args = ["rep-worker", "--endpoint", backend, "--sockets", &each];
    let _lanes = (0..LANE_PROCESSES)
        .map(|_| RoleProcess::start(&args))
        .collect::<anyhow::Result<Vec<_>>>()?;
    crowded
        .broker
        .await_slots(4 + lanes as u64, Duration::from_secs(60))?;
    let frontends = [&crowded, &lonely].map(|pool| pool.broker.connection.frontend.clone());
    let args = [
        "client",
        "--req",
        "--endpoint",
        &frontends[0],
        "--endpoint",
        &frontends[1],
    ];
    let mut clients = (0..CLIENTS)
        .map(|_| RoleProcess::start(&args))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let rounds = bench.interleaved(true, |_, to| {
        let mut shape = Shape::all_at_once("echo", vec!["1".into()], u64::MAX);
        (shape.to, shape.in_flight, shape.window_ms) = (to, 1, bench.window_ms);
        for client in &mut clients {
            client.order(&shape)?;
        }
        let mut latencies = Histogram::default();
        for client in &mut clients {
            latencies.merge(&client.outcome::<Outcome>()?.latencies);
        }
        Ok(latencies.quantile_us(0.5))
    })?;
    let ratios: Vec<f64> = rounds.iter().map(|[ours, theirs]| ours / theirs).collect();
    let column = |at: usize| {
        Some(Summary::of(
            &rounds.iter().map(|r| r[at]).collect::<Vec<_>>(),
        ))
    };
    Ok(Measured::Figures(vec![Figure {
        row: "idle-lanes".into(),
        work: format!("echo, 8 REQ clients, 4 managed workers beside {lanes} idle lanes"),
        measure: "p50 ÷ the same without lanes".into(),
        value: Summary::of(&ratios),
        aim: Aim::AtMost(1.1),
        muster: column(0),
        reference: column(1),
        unit: "µs".into(),
        rounds: rounds.len(),
        note: String::new(),
    }]))
}
