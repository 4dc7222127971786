//! Workers that are killed: what is lost, and how soon the held call runs again.

use super::{Measured, pool::Managed};
use crate::bench::Bench;
use crate::figure::{Aim, Figure};
use crate::process::RoleProcess;
use crate::role::{Outcome, Shape, monotonic_ns};
use crate::stats::Summary;
use anyhow::{Context as _, ensure};
use std::path::Path;
use std::time::{Duration, Instant};

const WORKERS: usize = 4;

/// One of four killed.
pub fn one(bench: &Bench) -> anyhow::Result<Measured> {
    let rounds = bench.amount(5, 1);
    let outcomes: Vec<Outcome> = (0..rounds)
        .map(|_| killed(bench, 1, Duration::from_secs(1), None))
        .collect::<anyhow::Result<_>>()?;
    let lost: Vec<f64> = outcomes
        .iter()
        .map(|o| (o.sent - o.answered) as f64)
        .collect();
    let ms = redispatch_ms(bench, bench.amount(40, 8))?;
    Ok(Measured::Figures(vec![
        Figure {
            row: "kill-one".into(),
            work: "200 × 50 ms on 4 workers, one killed at 1 s".into(),
            measure: "calls lost".into(),
            value: Summary::of(&lost),
            aim: Aim::AtMost(0.0),
            unit: "calls".into(),
            rounds,
            ..Figure::default()
        },
        Figure {
            row: "kill-one".into(),
            work: "a worker killed while it holds a call, another one idle".into(),
            measure: "ms until the call runs again, p99".into(),
            value: Summary {
                median: quantile_99(&ms),
                ..Summary::of(&ms)
            },
            aim: Aim::AtMost(10.0),
            muster: Some(Summary::of(&ms)),
            unit: "ms".into(),
            rounds: ms.len(),
            ..Figure::default()
        },
    ]))
}

/// All four killed, one back later.
pub fn all(bench: &Bench) -> anyhow::Result<Measured> {
    if bench.is_quick {
        return Ok(Measured::Skipped(
            "takes 12 s a round; not in a quick run".into(),
        ));
    }
    let rounds = 3;
    let back = Some(Duration::from_secs(6));
    let outcomes: Vec<Outcome> = (0..rounds)
        .map(|_| killed(bench, WORKERS, Duration::from_secs(1), back))
        .collect::<anyhow::Result<_>>()?;
    let figure = |measure: &str, unit: &str, aim, of: fn(&Outcome) -> f64| Figure {
        row: "kill-all".into(),
        work: "200 × 50 ms on 4 workers, all killed at 1 s, one back at 6 s".into(),
        measure: measure.into(),
        value: Summary::of(&outcomes.iter().map(of).collect::<Vec<_>>()),
        aim,
        unit: unit.into(),
        rounds,
        ..Figure::default()
    };
    Ok(Measured::Figures(vec![
        figure("calls lost", "calls", Aim::AtMost(0.0), |o| {
            (o.sent - o.answered) as f64
        }),
        figure("end, s", "s", Aim::AtMost(12.4), |o| {
            o.elapsed_ns as f64 / 1e9
        }),
    ]))
}

/// Has 200 sleeps run while so many workers are killed, and one comes back.
fn killed(
    bench: &Bench,
    count: usize,
    at: Duration,
    back: Option<Duration>,
) -> anyhow::Result<Outcome> {
    let mut pool = Managed::start(&bench.broker, WORKERS, 1)?;
    let frontend = pool.broker.connection.frontend.clone();
    let mut client = RoleProcess::start(&["client", "--endpoint", &frontend])?;
    let mut shape = Shape::all_at_once("sleep", vec!["0.05".into()], 200);
    shape.patience_ms = 60_000;
    client.order(&shape)?;
    let start = Instant::now();
    std::thread::sleep(at);
    for worker in &mut pool.workers[..count] {
        worker.kill();
    }
    if let Some(back) = back {
        std::thread::sleep(back.saturating_sub(start.elapsed()));
        pool.add(1)?;
    }
    client.outcome::<Outcome>()
}

/// Kills the worker that holds a call, again and again; ms from each kill to the second start.
fn redispatch_ms(bench: &Bench, rounds: usize) -> anyhow::Result<Vec<f64>> {
    let folder = tempfile::tempdir()?;
    let mut pool = Managed::start(&bench.broker, 2, 1)?;
    let frontend = pool.broker.connection.frontend.clone();
    let mut client = RoleProcess::start(&["client", "--endpoint", &frontend])?;
    let mut found = Vec::new();
    for round in 0..rounds {
        let path = folder.path().join(round.to_string());
        let text = serde_json::to_string(path.to_str().context("a path")?)?;
        client.order(&Shape::all_at_once("hold", vec![text], 1))?;
        let (pid, _) = await_start(&path, 0)?;
        let at = pool.workers.iter().position(|worker| worker.pid() == pid);
        let mut worker = pool
            .workers
            .swap_remove(at.context("an unknown worker runs it")?);
        let killed_ns = monotonic_ns();
        worker.kill();
        let (_, started_ns) = await_start(&path, 1)?;
        found.push(started_ns.saturating_sub(killed_ns) as f64 / 1e6);
        let outcome = client.outcome::<Outcome>()?;
        ensure!(outcome.answered == 1, "the call was lost: {outcome:?}");
        pool.add(1)?;
        pool.broker.await_slots(2, Duration::from_secs(10))?;
    }
    Ok(found)
}

/// Waits for line `number` that `hold` writes: who started it and when.
fn await_start(path: &Path, number: usize) -> anyhow::Result<(u32, u64)> {
    let start = Instant::now();
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text
            .split_inclusive('\n')
            .nth(number)
            .filter(|line| line.ends_with('\n'));
        if let Some((pid, ns)) = line.and_then(|line| line.trim_end().split_once(' ')) {
            return Ok((pid.parse()?, ns.parse()?));
        }
        ensure!(
            start.elapsed() < Duration::from_secs(20),
            "the call does not start"
        );
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn quantile_99(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    crate::stats::quantile(&sorted, 0.99)
}
