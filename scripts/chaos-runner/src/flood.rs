//! What one client's flood costs another client, and the broker's memory afterwards.

use crate::cluster::{Cluster, Plan, launch};
use anyhow::{Context as _, ensure};
use clap::Args;
use muster_bench::process::{RoleProcess, resident_bytes};
use muster_bench::stats::quantile;
use muster_proto::connection::Connection;
use muster_proto::socket::{Context, Frame, Kind, Profile, SendOutcome, Socket};
use serde::Serialize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Longer than a single call ever takes.
const WAIT: Duration = Duration::from_secs(60);
/// Between two calls of the other client.
const PAUSE: Duration = Duration::from_millis(10);

/// The flags.
#[derive(Clone, Copy, Debug, Args)]
pub struct FloodArgs {
    /// Calls of the flood.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub calls: u64,
    /// When the broker's memory is looked at, in seconds after the flood.
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    pub rest: f64,
    /// One JSON object.
    #[arg(long)]
    pub json: bool,
}

/// The figures.
#[derive(Clone, Debug, Serialize)]
pub struct Flooded {
    /// Calls of the flood.
    pub calls: u64,
    /// Those that were answered with a result.
    pub results: u64,
    /// How long the flood lasted.
    pub seconds: f64,
    /// The other client's calls meanwhile.
    pub single_calls: usize,
    /// p99 of a single call without a flood, in ms.
    pub quiet_p99_ms: f64,
    /// p50 of a single call during the flood, in ms.
    pub flood_p50_ms: f64,
    /// p99 of a single call during the flood, in ms.
    pub flood_p99_ms: f64,
    /// p99 of the delay, in ms; the aim is below 20.
    pub delay_p99_ms: f64,
    /// The broker's memory before, in MiB.
    pub idle_mib: f64,
    /// The most it was seen to use during the flood, in MiB.
    pub peak_mib: f64,
    /// Its memory after the rest, in MiB; the aim is at most 32 more than before.
    pub after_mib: f64,
    /// How long it rested.
    pub rest_s: f64,
}

/// Measures it. `None`: interrupted.
///
/// # Errors
/// When a call fails.
pub fn measure(
    args: &FloodArgs,
    folder: &Path,
    interrupted: &AtomicBool,
) -> anyhow::Result<Option<Flooded>> {
    let plan = Plan {
        libraries: 2,
        programs: 0,
        lanes: 0,
    };
    let cluster = Cluster::start(folder, plan)?;
    let endpoint = Connection::read(cluster.connection_path())?.frontend;
    let caller = Caller::connect(&endpoint)?;
    let memory = || -> anyhow::Result<f64> {
        Ok(resident_bytes(cluster.broker_pid())? as f64 / f64::from(1 << 20))
    };
    // Warm, so that idle means what it will mean afterwards.
    let mut quiet = Vec::new();
    for _ in 0..200 {
        quiet.push(caller.call_ms()?);
        std::thread::sleep(PAUSE);
    }
    let idle_mib = memory()?;
    let mut peak_mib = idle_mib;
    let calls = args.calls.to_string();
    let flooder = ["flooder", "--endpoint", &endpoint, "--calls", &calls];
    let mut flooder = launch(folder, &flooder)?;
    flooder.await_ready()?;
    let start = Instant::now();
    let mut flooded = Vec::new();
    while !flooder.has_ended() {
        if interrupted.load(Ordering::Relaxed) {
            return Ok(None);
        }
        flooded.push(caller.call_ms()?);
        peak_mib = peak_mib.max(memory()?);
        std::thread::sleep(PAUSE);
    }
    let seconds = start.elapsed().as_secs_f64();
    let results = results(&mut flooder)?;
    let rest = Instant::now();
    while rest.elapsed().as_secs_f64() < args.rest {
        if interrupted.load(Ordering::Relaxed) {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let after_mib = memory()?;
    cluster.stop()?;
    for list in [&mut quiet, &mut flooded] {
        list.sort_by(f64::total_cmp);
    }
    ensure!(!flooded.is_empty(), "the flood was over at once");
    let (quiet_p99_ms, flood_p99_ms) = (quantile(&quiet, 0.99), quantile(&flooded, 0.99));
    Ok(Some(Flooded {
        calls: args.calls,
        results,
        seconds,
        single_calls: flooded.len(),
        quiet_p99_ms,
        flood_p50_ms: quantile(&flooded, 0.5),
        flood_p99_ms,
        delay_p99_ms: flood_p99_ms - quantile(&quiet, 0.5),
        idle_mib,
        peak_mib,
        after_mib,
        rest_s: args.rest,
    }))
}

impl Flooded {
    /// Whether nothing was lost; how fast it was is for the reader to judge.
    pub fn is_whole(&self) -> bool {
        self.results == self.calls
    }

    /// For people.
    pub fn print(&self) {
        println!(
            "a flood of {} calls from one client: {} results in {:.1} s",
            self.calls, self.results, self.seconds
        );
        println!(
            "another client's single call: p50 {:.2} ms, p99 {:.2} ms ({} calls); \
             without the flood p99 {:.2} ms; delayed at p99 by {:.2} ms (aim < 20)",
            self.flood_p50_ms,
            self.flood_p99_ms,
            self.single_calls,
            self.quiet_p99_ms,
            self.delay_p99_ms
        );
        println!(
            "broker's memory: {:.1} MiB idle, {:.1} MiB at most, {:.1} MiB {:.0} s later: \
             {:+.1} MiB (aim <= +32)",
            self.idle_mib,
            self.peak_mib,
            self.after_mib,
            self.rest_s,
            self.after_mib - self.idle_mib
        );
    }
}

fn results(flooder: &mut RoleProcess) -> anyhow::Result<u64> {
    flooder.hear()?.parse().context("a number of results")
}

/// The other client.
struct Caller(Socket);

impl Caller {
    fn connect(endpoint: &str) -> anyhow::Result<Self> {
        let socket = Socket::open(&Context::new(1)?, Kind::Dealer, &Profile::ClientLink)?;
        socket.connect(endpoint)?;
        Ok(Caller(socket))
    }

    fn call_ms(&self) -> anyhow::Result<f64> {
        let body = r#"{"jsonrpc":"2.0","method":"nothing","id":1}"#;
        let mut frames = vec![Frame::empty(), Frame::from(body)];
        let start = Instant::now();
        let sent = self.0.send_timeout(&mut frames, WAIT)?;
        ensure!(sent == SendOutcome::Sent, "the broker takes no call");
        ensure!(self.0.recv_timeout(&mut frames, WAIT)?, "no answer");
        let ms = start.elapsed().as_secs_f64() * 1e3;
        let text = String::from_utf8_lossy(&frames[1]).into_owned();
        ensure!(text.contains("\"result\""), "{text}");
        Ok(ms)
    }
}
