//! What HTTP costs, and what a page that somebody watches.

use super::{Measured, pool::Managed};
use crate::bench::Bench;
use crate::figure::{Aim, Figure, short};
use crate::gateway::Gateway;
use crate::histogram::Histogram;
use crate::process::{RoleProcess, scheduled_seconds};
use crate::role::{Outcome, Shape};
use crate::stats::Summary;
use anyhow::ensure;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const CLIENTS: usize = 32;
const TEXT: &str = "\"All that is gold does not glitter\"";

/// What the clients of one side saw in one round.
struct Side {
    per_second: f64,
    p50_us: f64,
}

/// The same calls by HTTP connections that are kept and by REQ sockets.
pub fn calls(bench: &Bench) -> anyhow::Result<Measured> {
    let pool = Managed::start(&bench.broker, 4, 1)?;
    let gateway = Gateway::start(&pool.broker)?;
    let address = gateway.address.to_string();
    let frontend = &pool.broker.connection.frontend;
    let mut sides = [Vec::new(), Vec::new()];
    for (side, args) in sides.iter_mut().zip([
        &["http-client", "--address", &address][..],
        &["client", "--req", "--endpoint", frontend],
    ]) {
        for _ in 0..CLIENTS {
            side.push(RoleProcess::launch(args)?);
        }
        for client in side {
            client.await_ready()?;
        }
    }
    let mut gateway_us = Vec::new();
    let rounds = bench.interleaved(true, |_, to| {
        let mut shape = Shape::all_at_once("echo", vec![TEXT.into()], u64::MAX);
        shape.in_flight = 1;
        shape.window_ms = bench.window_ms;
        let spent = scheduled_seconds(gateway.pid)?;
        for client in &mut sides[to] {
            client.order(&shape)?;
        }
        let (mut in_window, mut answered, mut latencies) = (0, 0, Histogram::default());
        for client in &mut sides[to] {
            let outcome = client.outcome::<Outcome>()?;
            ensure!(outcome.sent == outcome.answered, "{outcome:?}");
            in_window += outcome.in_window;
            answered += outcome.answered;
            latencies.merge(&outcome.latencies);
        }
        if to == 0 {
            let spent = scheduled_seconds(gateway.pid)? - spent;
            gateway_us.push(spent * 1e6 / answered as f64);
        }
        Ok(Side {
            per_second: in_window as f64 * 1e3 / bench.window_ms as f64,
            p50_us: latencies.quantile_us(0.5),
        })
    })?;
    let column = |at: usize, of: fn(&Side) -> f64| -> Vec<f64> {
        rounds.iter().map(|round| of(&round[at])).collect()
    };
    let figure = |measure: &str, aim, unit: &str, of: fn(&Side) -> f64| {
        let ratios: Vec<f64> = rounds.iter().map(|[a, b]| of(a) / of(b)).collect();
        Figure {
            row: "gateway".into(),
            work: format!("echo by JSON-RPC over HTTP, {CLIENTS} connections that are kept"),
            measure: measure.into(),
            value: Summary::of(&ratios),
            aim,
            muster: Some(Summary::of(&column(0, of))),
            reference: Some(Summary::of(&column(1, of))),
            unit: unit.into(),
            rounds: rounds.len(),
            note: format!(
                "the reference is {CLIENTS} REQ clients of the same broker; the gateway takes {} µs of \
                 processor time a call",
                short(Summary::of(&gateway_us).median)
            ),
        }
    };
    Ok(Measured::Figures(vec![
        figure("calls/s ÷ REQ", Aim::AtLeast(0.5), "calls/s", |side| {
            side.per_second
        }),
        figure("p50 ÷ REQ", Aim::None, "µs", |side| side.p50_us),
    ]))
}

/// What a page that is open adds, in a small cluster and in a large one.
pub fn dashboard(bench: &Bench) -> anyhow::Result<Measured> {
    let mut figures = Vec::new();
    for (processes, each) in [(4, 1), (10, 50)] {
        let workers = processes * each;
        let pool = Managed::crowd(&bench.broker, processes, each)?;
        let gateway = Gateway::start(&pool.broker)?;
        let pids = [pool.broker.pid(), gateway.pid];
        let share = || -> anyhow::Result<f64> {
            let total = || -> anyhow::Result<f64> {
                Ok(scheduled_seconds(pids[0])? + scheduled_seconds(pids[1])?)
            };
            let (before, start) = (total()?, Instant::now());
            std::thread::sleep(Duration::from_secs(bench.amount(3, 2)));
            Ok((total()? - before) / start.elapsed().as_secs_f64())
        };
        // What the start brought with it is over soon.
        std::thread::sleep(Duration::from_secs(bench.amount(3, 1)));
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..bench.amount(5, 1) {
            without.push(share()?);
            let watcher = Watcher::open(&gateway)?;
            with.push(share()?);
            let snapshots = watcher.close();
            ensure!(snapshots > 0, "the page was told nothing");
        }
        let added: Vec<f64> = with.iter().zip(&without).map(|(a, b)| a - b).collect();
        figures.push(Figure {
            row: "dashboard".into(),
            work: format!("a page that is open, {workers} idle workers"),
            measure: "share of a core that it adds to broker and gateway".into(),
            value: Summary::of(&added),
            aim: Aim::AtMost(0.03),
            muster: Some(Summary::of(&with)),
            reference: Some(Summary::of(&without)),
            unit: "cores".into(),
            rounds: added.len(),
            note: "the reference is the same without the page".into(),
        });
    }
    Ok(Measured::Figures(figures))
}

/// Somebody who looks at the page.
struct Watcher {
    stream: TcpStream,
    snapshots: Arc<AtomicU64>,
    reader: JoinHandle<()>,
}

impl Watcher {
    /// Returns when the first snapshot has come.
    fn open(gateway: &Gateway) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(gateway.address)?;
        write!(stream, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let snapshots = Arc::new(AtomicU64::new(0));
        let (mut input, count) = (stream.try_clone()?, Arc::clone(&snapshots));
        let reader = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 20];
            while let Ok(bytes @ 1..) = input.read(&mut buffer) {
                let starts = buffer[..bytes].windows(6).filter(|part| part == b"data: ");
                count.fetch_add(starts.count() as u64, Ordering::Relaxed);
            }
        });
        let start = Instant::now();
        while snapshots.load(Ordering::Relaxed) == 0 {
            ensure!(start.elapsed() < Duration::from_secs(10), "no snapshot");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Watcher {
            stream,
            snapshots,
            reader,
        })
    }

    /// Gives how many snapshots came.
    fn close(self) -> u64 {
        // The reader ends with the connection.
        let _ = self.stream.shutdown(Shutdown::Both);
        let _ = self.reader.join();
        self.snapshots.load(Ordering::Relaxed)
    }
}
