//! Four hundred sleeps of very different length, against threads that take them in order.

use super::{Measured, pool::Managed};
use crate::bench::Bench;
use crate::figure::{Aim, Figure};
use crate::process::RoleProcess;
use crate::role::{Outcome, Shape};
use crate::stats::Summary;
use anyhow::ensure;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const WORKERS: usize = 4;

pub fn run(bench: &Bench) -> anyhow::Result<Measured> {
    let pool = Managed::start(&bench.broker, WORKERS, 1)?;
    let frontend = &pool.broker.connection.frontend;
    let mut client = RoleProcess::start(&["client", "--endpoint", frontend])?;
    let share = bench.amount(1, 6);
    let bench = Bench {
        rounds: bench.amount(bench.rounds.min(7), 2),
        ..bench.clone()
    };
    let rounds = bench.interleaved(false, |round, side| {
        let sleeps = shuffled(round as u64, share);
        if side == 0 {
            through_broker(&mut client, &sleeps)
        } else {
            Ok(in_threads(&sleeps))
        }
    })?;
    let ratios: Vec<f64> = rounds.iter().map(|[ours, theirs]| ours / theirs).collect();
    let column = |at: usize| {
        Some(Summary::of(
            &rounds.iter().map(|r| r[at]).collect::<Vec<_>>(),
        ))
    };
    Ok(Measured::Figures(vec![Figure {
        row: "sleeps".into(),
        work: format!(
            "{} sleeps of 5, 50 and 800 ms, shuffled, 4 workers",
            400 / share
        ),
        measure: "makespan ÷ 4 threads in this process".into(),
        value: Summary::of(&ratios),
        aim: Aim::AtMost(1.05),
        muster: column(0),
        reference: column(1),
        unit: "s".into(),
        rounds: rounds.len(),
        note: String::new(),
    }]))
}

/// The heavy-tailed set in ms, divided by `share`, in an order of its own for each seed.
fn shuffled(seed: u64, share: usize) -> Vec<u64> {
    let mut sleeps = Vec::new();
    for (count, ms) in [(360, 5), (36, 50), (4, 800)] {
        sleeps.extend(std::iter::repeat_n(ms, (count / share).max(1)));
    }
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for at in (1..sleeps.len()).rev() {
        // Knuth's linear congruential generator; the high bits are good enough for a shuffle.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        sleeps.swap(at, (state >> 33) as usize % (at + 1));
    }
    sleeps
}

fn through_broker(client: &mut RoleProcess, sleeps: &[u64]) -> anyhow::Result<f64> {
    let params = sleeps
        .iter()
        .map(|ms| (*ms as f64 / 1e3).to_string())
        .collect();
    let shape = Shape::all_at_once("sleep", params, sleeps.len() as u64);
    client.order(&shape)?;
    let outcome = client.outcome::<Outcome>()?;
    ensure!(
        outcome.answered == sleeps.len() as u64,
        "calls are missing: {outcome:?}"
    );
    Ok(outcome.elapsed_ns as f64 / 1e9)
}

fn in_threads(sleeps: &[u64]) -> f64 {
    let queue = Mutex::new(sleeps.iter());
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no thread panics").next();
                    let Some(ms) = next else { return };
                    std::thread::sleep(Duration::from_millis(*ms));
                }
            });
        }
    });
    start.elapsed().as_secs_f64()
}
