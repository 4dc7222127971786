//! What a crowd that does nothing costs the others: five hundred idle lanes, five thousand idle
//! connections.

use super::{Measured, pool::Managed};
use crate::bench::Bench;
use crate::figure::{Aim, Figure};
use crate::histogram::Histogram;
use crate::process::RoleProcess;
use crate::role::{Outcome, Shape};
use crate::stats::Summary;
use std::time::Duration;

const CLIENTS: usize = 8;
/// Processes that the crowd comes from.
pub const CROWD_PROCESSES: usize = 4;

pub fn lanes(bench: &Bench) -> anyhow::Result<Measured> {
    let lanes = bench.amount(500, 200);
    let crowded = Managed::start(&bench.broker, 4, 1)?;
    let backend = crowded.broker.connection.backend.as_str();
    let each = (lanes / CROWD_PROCESSES).to_string();
    let args = ["rep-worker", "--endpoint", backend, "--sockets", &each];
    let _lanes = (0..CROWD_PROCESSES)
        .map(|_| RoleProcess::start(&args))
        .collect::<anyhow::Result<Vec<_>>>()?;
    crowded
        .broker
        .await_slots(4 + lanes as u64, Duration::from_secs(60))?;
    compare(
        bench,
        &crowded,
        "idle-lanes",
        &format!("{lanes} idle lanes"),
    )
}

pub fn connections(bench: &Bench) -> anyhow::Result<Measured> {
    let connections = bench.amount(5_000, 1_000);
    let crowded = Managed::start(&bench.broker, 4, 1)?;
    let _crowd = idle_clients(&crowded.broker.connection.frontend, connections)?;
    let crowd = format!("{connections} idle connections");
    compare(bench, &crowded, "idle-connections", &crowd)
}

/// So many connections whose first call has been answered.
pub fn idle_clients(frontend: &str, connections: usize) -> anyhow::Result<Vec<RoleProcess>> {
    let each = (connections / CROWD_PROCESSES).to_string();
    let args = ["idle-clients", "--endpoint", frontend, "--sockets", &each];
    (0..CROWD_PROCESSES)
        .map(|_| RoleProcess::start(&args))
        .collect()
}

/// Eight REQ clients beside the crowd, and beside nobody.
fn compare(bench: &Bench, crowded: &Managed, row: &str, crowd: &str) -> anyhow::Result<Measured> {
    let lonely = Managed::start(&bench.broker, 4, 1)?;
    let frontends = [crowded, &lonely].map(|pool| pool.broker.connection.frontend.clone());
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
        row: row.into(),
        work: format!("echo, 8 REQ clients, 4 managed workers beside {crowd}"),
        measure: "p50 ÷ the same without them".into(),
        value: Summary::of(&ratios),
        aim: Aim::AtMost(1.1),
        muster: column(0),
        reference: column(1),
        unit: "µs".into(),
        rounds: rounds.len(),
        note: String::new(),
    }]))
}
