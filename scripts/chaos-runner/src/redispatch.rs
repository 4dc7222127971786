//! How soon a call runs again when the process that holds it is killed and another slot is idle.

use crate::clock::now_ns;
use crate::cluster::{Cluster, Kind, Plan, SLOTS, method, signal};
use crate::starts;
use anyhow::{Context as _, ensure};
use muster_bench::stats::quantile;
use muster_client::Call;
use rustix::process::Signal;
use serde::Serialize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long the held call takes: it is found and killed long before.
const NAP_MS: u64 = 200;
/// So many children are killed before their worker is started anew: it takes more for a crash loop
/// and holds the next one back.
const CHILDREN: u64 = 3;
const WAIT: Duration = Duration::from_secs(30);

/// From SIGKILL to the next start, by the clock of this machine.
#[derive(Clone, Debug, Serialize)]
pub struct Redispatch {
    /// What is killed.
    pub holder: &'static str,
    /// How often.
    pub rounds: usize,
    /// Half take no longer.
    pub p50_ms: f64,
    /// All but one in a hundred.
    pub p99_ms: f64,
    /// The worst.
    pub max_ms: f64,
    /// What p99 shall be at most.
    pub aim_ms: f64,
}

impl Redispatch {
    /// Of these times.
    pub fn of(holder: &'static str, aim_ms: f64, mut ms: Vec<f64>) -> Option<Self> {
        ms.sort_by(f64::total_cmp);
        Some(Redispatch {
            holder,
            rounds: ms.len(),
            p50_ms: quantile(ms.get(..)?, 0.5),
            p99_ms: quantile(&ms, 0.99),
            max_ms: *ms.last()?,
            aim_ms,
        })
        .filter(|found| found.rounds > 0)
    }
}

/// Kills the holder of a call, again and again. `None`: interrupted.
///
/// # Errors
/// When a call does not come back.
pub fn measure(
    folder: &Path,
    kind: Kind,
    rounds: usize,
    interrupted: &AtomicBool,
) -> anyhow::Result<Option<Redispatch>> {
    let (holder, aim_ms, plan) = match kind {
        Kind::Library => ("worker process", 10.0, plan(2, 0, 0)),
        Kind::Program => ("child of a slot", 10.0, plan(0, 1, 0)),
        Kind::Lane => ("stock REP worker", 50.0, plan(0, 0, 2)),
    };
    let mut cluster = Cluster::start(folder, plan)?;
    let client = cluster.client()?;
    let mut found = Vec::new();
    for n in 0..rounds as u64 {
        if interrupted.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let call = client.submit(Call::new(method(kind), &(n, NAP_MS))?)?;
        let first = await_start(folder, n, 0, || false)?.context("it starts")?;
        let place = match kind {
            Kind::Program => None,
            Kind::Library | Kind::Lane => {
                let members = cluster.members.iter();
                let pids: Vec<_> = members.map(crate::cluster::Member::pid).collect();
                Some(pids.iter().position(|pid| *pid == Some(first.pid)))
            }
        };
        let killed_ns = now_ns();
        match place {
            None => signal(first.pid, Signal::KILL),
            Some(place) => {
                cluster.kill_member(place.context("a stranger runs it")?, Duration::ZERO);
            }
        }
        // `None`: on a busy machine it may have ended before it could be killed.
        if let Some(second) = await_start(folder, n, 1, || call.is_done())? {
            ensure!(second.pid != first.pid, "the dead run it again");
            found.push(second.at_ns.saturating_sub(killed_ns) as f64 / 1e6);
        }
        let answer = call.wait_timeout(WAIT).context("the call is stuck")??;
        ensure!(
            answer.text() == crate::work::mix(n).to_string(),
            "wrong answer"
        );
        if kind == Kind::Program && n % CHILDREN == CHILDREN - 1 {
            cluster.kill_member(0, Duration::ZERO);
        }
        cluster.tend()?;
        cluster.await_slots(plan.slots(), WAIT)?;
    }
    drop(client);
    cluster.stop()?;
    Ok(Redispatch::of(holder, aim_ms, found))
}

fn plan(libraries: usize, programs: usize, lanes: usize) -> Plan {
    const { assert!(SLOTS > 1, "a program alone has a second slot") };
    Plan {
        libraries,
        programs,
        lanes,
    }
}

/// Waits for start number `number` of a call. `None`: it is over without that.
fn await_start(
    folder: &Path,
    n: u64,
    number: usize,
    is_over: impl Fn() -> bool,
) -> anyhow::Result<Option<starts::Start>> {
    let start = Instant::now();
    loop {
        let was_over = is_over();
        let starts = starts::read(folder)?;
        if let Some(found) = starts.get(&n).and_then(|starts| starts.get(number)) {
            return Ok(Some(*found));
        }
        if was_over {
            return Ok(None);
        }
        ensure!(start.elapsed() < WAIT, "call {n} does not start");
        std::thread::sleep(Duration::from_millis(1));
    }
}
