//! Echo through the broker and through libzmq's proxy, by the same clients.

mod pool;

use super::Measured;
use crate::bench::Bench;
use crate::figure::{Aim, Figure, short};
use crate::histogram::Histogram;
use crate::process::RoleProcess;
use crate::role::{Outcome, Shape};
use crate::stats::Summary;
use pool::{Kind, Pool, cpu_s_of};

/// What is in each call.
const TEXT: &str = "\"All that is gold does not glitter\"";

/// What stands for the attachment.
const FRAME: &str = r#"{"$frame":0}"#;

/// Clients and how they call.
struct Load {
    clients: usize,
    req: bool,
    in_flight: usize,
    method: &'static str,
    attachment_bytes: usize,
}

/// What the clients of one side saw in one round.
struct Side {
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
    /// Processor time per call, in µs: broker or proxy, workers, clients.
    cpu_us: [f64; 3],
}

pub fn managed(bench: &Bench) -> anyhow::Result<Measured> {
    let rounds = measure(bench, Kind::Managed, &DEALERS)?;
    Ok(Measured::Figures(vec![rate(
        bench,
        "echo-managed",
        "managed workers",
        1.0,
        &rounds,
    )]))
}

pub fn lanes(bench: &Bench) -> anyhow::Result<Measured> {
    let rounds = measure(bench, Kind::Lanes, &DEALERS)?;
    Ok(Measured::Figures(vec![rate(
        bench,
        "echo-lanes",
        "stock REP lanes",
        0.85,
        &rounds,
    )]))
}

const DEALERS: Load = Load {
    clients: 4,
    req: false,
    in_flight: 100,
    method: "echo",
    attachment_bytes: 0,
};

fn rate(bench: &Bench, row: &str, workers: &str, aim: f64, rounds: &[[Side; 2]]) -> Figure {
    figure(
        bench,
        rounds,
        |side| side.per_second,
        Figure {
            row: row.into(),
            work: format!("echo, 4 DEALER clients × 100 in flight, 4 {workers}"),
            measure: "calls/s ÷ zmq_proxy".into(),
            aim: Aim::AtLeast(aim),
            unit: "calls/s".into(),
            ..Figure::default()
        },
    )
}

/// What keys cost: the same broker over TCP, with CURVE and without.
pub fn keys(bench: &Bench) -> anyhow::Result<Measured> {
    let keyed = Pool::over_tcp(&bench.broker, true)?;
    let plain = Pool::over_tcp(&bench.broker, false)?;
    let rounds = compare(bench, &keyed, &plain, &DEALERS)?;
    let work = "echo over TCP with keys, 4 DEALER clients × 100 in flight, 4 managed workers";
    let figure = Figure {
        measure: "calls/s ÷ the same without keys".into(),
        work: work.into(),
        ..rate(bench, "keys", "", 0.6, &rounds)
    };
    Ok(Measured::Figures(vec![figure]))
}

pub fn req(bench: &Bench, clients: usize) -> anyhow::Result<Measured> {
    let load = Load {
        clients,
        req: true,
        in_flight: 1,
        method: "echo",
        attachment_bytes: 0,
    };
    let rounds = measure(bench, Kind::Managed, &load)?;
    let work = format!(
        "echo, {clients} REQ client{}",
        if clients == 1 { "" } else { "s" }
    );
    let row = |measure: &str, aim, unit: &str| Figure {
        row: format!("req-{clients}"),
        work: work.clone(),
        measure: measure.into(),
        aim,
        unit: unit.into(),
        ..Figure::default()
    };
    Ok(Measured::Figures(vec![
        figure(
            bench,
            &rounds,
            |side| side.per_second,
            row("calls/s ÷ zmq_proxy", Aim::AtLeast(1.0), "calls/s"),
        ),
        figure(
            bench,
            &rounds,
            |side| side.p50_us,
            row("p50 ÷ zmq_proxy", Aim::AtMost(1.1), "µs"),
        ),
        figure(
            bench,
            &rounds,
            |side| side.p99_us,
            row("p99 ÷ zmq_proxy", Aim::None, "µs"),
        ),
    ]))
}

pub fn attachments(bench: &Bench) -> anyhow::Result<Measured> {
    let load = Load {
        clients: 4,
        req: false,
        in_flight: 4,
        method: "blob",
        attachment_bytes: 1 << 20,
    };
    let rounds = measure(bench, Kind::Managed, &load)?;
    let mb = |side: &Side| side.per_second * (1 << 20) as f64 / 1e6;
    Ok(Measured::Figures(vec![figure(
        bench,
        &rounds,
        mb,
        Figure {
            row: "attachments".into(),
            work: "attachments of 1 MiB there and back, 4 DEALER clients × 4 in flight".into(),
            measure: "MB/s ÷ zmq_proxy".into(),
            aim: Aim::AtLeast(0.95),
            unit: "MB/s".into(),
            ..Figure::default()
        },
    )]))
}

fn figure(
    bench: &Bench,
    rounds: &[[Side; 2]],
    of: impl Fn(&Side) -> f64,
    figure: Figure,
) -> Figure {
    let column = |at: usize| {
        rounds
            .iter()
            .map(|round| of(&round[at]))
            .collect::<Vec<_>>()
    };
    let ratios: Vec<f64> = rounds
        .iter()
        .map(|[ours, theirs]| of(ours) / of(theirs))
        .collect();
    let cpu = |at: usize, part: usize| {
        let us = rounds
            .iter()
            .map(|round| round[at].cpu_us[part])
            .collect::<Vec<_>>();
        short(Summary::of(&us).median)
    };
    let parts = ["in the middle", "workers", "clients"].iter().enumerate();
    let parts = parts.map(|(n, part)| format!("{part} {} ({})", cpu(0, n), cpu(1, n)));
    let note = format!(
        "µs of processor time a call, the reference's in brackets: {}{}",
        parts.collect::<Vec<_>>().join(", "),
        match &bench.against {
            Some(other) => format!("; the reference is {}", other.display()),
            None => String::new(),
        }
    );
    Figure {
        value: Summary::of(&ratios),
        muster: Some(Summary::of(&column(0))),
        reference: Some(Summary::of(&column(1))),
        rounds: rounds.len(),
        note,
        ..figure
    }
}

fn measure(bench: &Bench, kind: Kind, load: &Load) -> anyhow::Result<Vec<[Side; 2]>> {
    let folder = tempfile::Builder::new().prefix("mb").tempdir()?;
    let ours = Pool::of_broker(&bench.broker, kind)?;
    let theirs = match &bench.against {
        Some(other) => Pool::of_broker(other, kind)?,
        None => Pool::of_proxy(folder.path())?,
    };
    compare(bench, &ours, &theirs, load)
}

/// The same clients call one pool, then the other.
fn compare(
    bench: &Bench,
    ours: &Pool,
    theirs: &Pool,
    load: &Load,
) -> anyhow::Result<Vec<[Side; 2]>> {
    let mut clients = Vec::new();
    for _ in 0..load.clients {
        let mut args = vec![
            "client",
            "--endpoint",
            &ours.frontend,
            "--endpoint",
            &theirs.frontend,
        ];
        if load.req {
            args.push("--req");
        }
        clients.push(RoleProcess::launch(&args)?);
    }
    for client in &mut clients {
        client.await_ready()?;
    }
    bench.interleaved(true, |_, to| {
        let param = if load.attachment_bytes > 0 {
            FRAME
        } else {
            TEXT
        };
        let mut shape = Shape::all_at_once(load.method, vec![param.into()], u64::MAX);
        shape.to = to;
        shape.in_flight = load.in_flight;
        shape.window_ms = bench.window_ms;
        shape.attachment_bytes = load.attachment_bytes;
        let pool = [ours, theirs][to];
        let ([middle, workers], own) = (pool.cpu_s()?, cpu_s_of(&clients)?);
        for client in &mut clients {
            client.order(&shape)?;
        }
        let mut all = 0;
        let (mut answered, mut latencies) = (0, Histogram::default());
        for client in &mut clients {
            let outcome = client.outcome::<Outcome>()?;
            let missing = outcome.sent - outcome.answered;
            anyhow::ensure!(
                missing == 0,
                "{missing} calls were not answered: {outcome:?}"
            );
            answered += outcome.in_window;
            all += outcome.answered;
            latencies.merge(&outcome.latencies);
        }
        let ([middle_end, workers_end], own_end) = (pool.cpu_s()?, cpu_s_of(&clients)?);
        let spent = [middle_end - middle, workers_end - workers, own_end - own];
        Ok(Side {
            cpu_us: spent.map(|s| s * 1e6 / all as f64),
            per_second: answered as f64 * 1e3 / bench.window_ms as f64,
            p50_us: latencies.quantile_us(0.5),
            p99_us: latencies.quantile_us(0.99),
        })
    })
}
