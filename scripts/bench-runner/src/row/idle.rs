//! What doing nothing costs.

use super::{Measured, pool::Managed};
use crate::bench::Bench;
use crate::broker::Broker;
use crate::figure::{Aim, Figure};
use crate::process::{RoleProcess, scheduled_seconds};
use crate::role::{Outcome, Shape};
use crate::stats::Summary;
use std::time::{Duration, Instant};

pub fn run(bench: &Bench) -> anyhow::Result<Measured> {
    let mut figures = Vec::new();
    let idle = {
        let pool = Managed::start(&bench.broker, 4, 1)?;
        shares(bench, &[pool.broker.pid()])?
    };
    figures.push(figure("an idle broker with 4 workers", &idle, None));
    let workers = {
        let pool = Managed::start(&bench.broker, 4, 1)?;
        let pids: Vec<u32> = pool.workers.iter().map(RoleProcess::pid).collect();
        shares(bench, &pids)?
    };
    figures.push(figure("4 idle workers together", &workers, None));
    let waiting = {
        let broker = Broker::start(&bench.broker, &["--settle", "1h"])?;
        let _client = leave_calls(&broker.connection.frontend)?;
        broker.await_status(Duration::from_secs(10), |status| {
            status["calls"]["queued"].as_u64() == Some(CALLS)
        })?;
        shares(bench, &[broker.pid()])?
    };
    let folder = tempfile::Builder::new().prefix("mb").tempdir()?;
    let proxy = {
        let endpoint = |name: &str| format!("ipc://{}/{name}", folder.path().display());
        let (frontend, backend) = (endpoint("front"), endpoint("back"));
        let args = ["proxy", "--frontend", &frontend, "--backend", &backend];
        let proxy = RoleProcess::start(&args)?;
        let _client = leave_calls(&frontend)?;
        shares(bench, &[proxy.pid()])?
    };
    figures.push(figure(
        "a broker with calls waiting and no worker",
        &waiting,
        Some(&proxy),
    ));
    Ok(Measured::Figures(figures))
}

const CALLS: u64 = 10;

/// Sends calls that nobody will answer.
fn leave_calls(frontend: &str) -> anyhow::Result<RoleProcess> {
    let mut client = RoleProcess::start(&["client", "--endpoint", frontend])?;
    let mut shape = Shape::all_at_once("nobody_has_it", vec!["1".into()], CALLS);
    shape.patience_ms = 100;
    client.order(&shape)?;
    client.outcome::<Outcome>()?;
    Ok(client)
}

/// The share of a core that processes take, second by second.
fn shares(bench: &Bench, pids: &[u32]) -> anyhow::Result<Vec<f64>> {
    let total = || {
        pids.iter()
            .map(|&pid| scheduled_seconds(pid))
            .sum::<anyhow::Result<f64>>()
    };
    // What the start brought with it is over soon.
    std::thread::sleep(Duration::from_secs(bench.amount(2, 1)));
    (0..bench.amount(8, 1))
        .map(|_| {
            let (before, start) = (total()?, Instant::now());
            std::thread::sleep(Duration::from_secs(1));
            Ok((total()? - before) / start.elapsed().as_secs_f64())
        })
        .collect()
}

fn figure(work: &str, shares: &[f64], reference: Option<&[f64]>) -> Figure {
    Figure {
        row: "idle".into(),
        work: work.into(),
        measure: "share of a core".into(),
        value: Summary::of(shares),
        aim: Aim::AtMost(0.005),
        muster: Some(Summary::of(shares)),
        reference: reference.map(Summary::of),
        unit: "cores".into(),
        rounds: shares.len(),
        note: match reference {
            Some(_) => "the reference is zmq_proxy without a worker".into(),
            None => String::new(),
        },
    }
}
