//! Many slots, long queues: what a call costs the broker must not grow with them.

use super::{Measured, crowd::idle_clients, pool::Managed};
use crate::bench::Bench;
use crate::figure::{Aim, Curve, Figure};
use crate::process::{RoleProcess, scheduled_seconds};
use crate::role::{Outcome, Shape};
use crate::stats::Summary;
use anyhow::bail;
use serde_json::json;

const CLIENTS: u64 = 4;
const WORKERS: usize = 4;

/// What a load came to.
struct Spent {
    per_second: f64,
    /// Processor time of the broker per call.
    broker_us: f64,
}

pub fn slots(bench: &Bench) -> anyhow::Result<Measured> {
    let (many, calls) = (bench.amount(1_000, 200), bench.amount(100_000, 20_000));
    let ours = Loaded::start(bench, many)?;
    let theirs = Loaded::start(bench, WORKERS)?;
    let mut sides = [ours, theirs];
    let rounds = bench.interleaved(true, |_, side| sides[side].load(calls, calls))?;
    let ratios: Vec<f64> = rounds
        .iter()
        .map(|[a, b]| a.per_second / b.per_second)
        .collect();
    let column = |at: usize| {
        Some(Summary::of(
            &rounds.iter().map(|r| r[at].per_second).collect::<Vec<_>>(),
        ))
    };
    Ok(Measured::Figures(vec![Figure {
        row: "slots".into(),
        work: format!("{calls} queued calls, {many} slots in 4 processes"),
        measure: "calls/s ÷ the same with 4 slots".into(),
        value: Summary::of(&ratios),
        aim: Aim::AtLeast(0.8),
        muster: column(0),
        reference: column(1),
        unit: "calls/s".into(),
        rounds: rounds.len(),
        note: String::new(),
    }]))
}

pub fn curve(bench: &Bench) -> anyhow::Result<Measured> {
    let rounds = bench.amount(5, 1);
    let lengths: &[u64] = bench.amount(
        &[100, 1_000, 10_000, 100_000, 1_000_000][..],
        &[100, 10_000, 100_000][..],
    );
    let counts: &[usize] = bench.amount(&[1, 4, 16, 64, 256, 1_000][..], &[1, 16, 200][..]);
    let mut queue = Curve::new("queue", "calls waiting", "µs of the broker a call");
    let mut pool = Loaded::start(bench, WORKERS)?;
    pool.load(10_000, 100)?;
    for &length in lengths {
        let calls = length.max(bench.amount(200_000, 20_000));
        let us = (0..rounds).map(|_| Ok(pool.load(calls, length)?.broker_us));
        let us = us.collect::<anyhow::Result<Vec<_>>>()?;
        queue.points.push((length as f64, Summary::of(&us)));
    }
    // Beside connections that do nothing, with a thousand calls waiting.
    let mut beside = Curve::new("connections", "idle connections", "µs of the broker a call");
    let crowds: &[usize] = bench.amount(&[0, 100, 1_000, 5_000][..], &[0, 1_000][..]);
    let mut crowd = Vec::new();
    let mut connected = 0;
    for &connections in crowds {
        let frontend = &pool.pool.broker.connection.frontend;
        crowd.extend(idle_clients(frontend, connections - connected)?);
        connected = connections;
        let calls = bench.amount(200_000, 20_000);
        let us = (0..rounds).map(|_| Ok(pool.load(calls, 1_000)?.broker_us));
        let us = us.collect::<anyhow::Result<Vec<_>>>()?;
        beside.points.push((connections as f64, Summary::of(&us)));
    }
    drop((pool, crowd));
    let mut slots = Curve::new("slots", "slots", "µs of the broker a call");
    for &count in counts {
        let mut pool = Loaded::start(bench, count)?;
        pool.load(10_000, 400)?;
        let calls = bench.amount(100_000, 20_000);
        let us = (0..rounds).map(|_| Ok(pool.load(calls, 2_000)?.broker_us));
        let us = us.collect::<anyhow::Result<Vec<_>>>()?;
        slots.points.push((count as f64, Summary::of(&us)));
    }
    Ok(Measured::Curves(vec![queue, beside, slots]))
}

struct Loaded {
    pool: Managed,
    clients: Vec<RoleProcess>,
}

impl Loaded {
    fn start(bench: &Bench, slots: usize) -> anyhow::Result<Self> {
        let workers = slots.min(WORKERS);
        let pool = Managed::start(&bench.broker, workers, slots / workers)?;
        let frontend = pool.broker.connection.frontend.clone();
        let clients = (0..CLIENTS)
            .map(|_| RoleProcess::start(&["client", "--endpoint", &frontend]))
            .collect::<anyhow::Result<_>>()?;
        Ok(Loaded { pool, clients })
    }

    /// Has `calls` echoed, `in_flight` of them at a time.
    fn load(&mut self, calls: u64, in_flight: u64) -> anyhow::Result<Spent> {
        let pid = self.pool.broker.pid();
        let before = scheduled_seconds(pid)?;
        let mut shape = Shape::all_at_once("echo", vec!["[1,2,3]".into()], calls / CLIENTS);
        shape.in_flight = (in_flight / CLIENTS) as usize;
        for client in &mut self.clients {
            client.order(&shape)?;
        }
        let (mut answered, mut elapsed_ns) = (0, 0);
        for client in &mut self.clients {
            let outcome = client.outcome::<Outcome>()?;
            if outcome.answered != calls / CLIENTS {
                let missing = calls / CLIENTS - outcome.answered;
                let status = self.pool.broker.ask("broker.status", &json!([]))?;
                let open = self.pool.broker.ask("broker.calls", &json!({"limit": 3}))?;
                bail!("{missing} calls are not answered: {status}, for instance {open}");
            }
            answered += outcome.answered;
            elapsed_ns = elapsed_ns.max(outcome.elapsed_ns);
        }
        Ok(Spent {
            per_second: answered as f64 * 1e9 / elapsed_ns as f64,
            broker_us: (scheduled_seconds(pid)? - before) * 1e6 / answered as f64,
        })
    }
}
