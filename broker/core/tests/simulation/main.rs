//! Hundreds of clients and workers on a virtual clock, with every fault they can have: links that
//! die with what is on them, delays, duplicates, reordering between peers, crashes, restarts,
//! stalls, drains, changed offers, lost heartbeats. A second account of what the core does is
//! checked after every event, and the core's own invariants after every thousandth.
//!
//! `SIM_SEED=<n>` repeats a run, `SIM_EVENTS=<n>` sets its length.

mod chance;
mod clients;
#[path = "../shadow/mod.rs"]
mod shadow;
mod workers;
mod world;

use std::time::{Duration, Instant};
use world::World;

/// Says which run it was when it fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let event = world::EVENTS.load(std::sync::atomic::Ordering::Relaxed);
            eprintln!(
                "failed at event {event}: repeat it with SIM_SEED={}",
                self.0
            );
            eprintln!("SIM_CHECK=<n> checks all invariants after every event from the n-th on");
        }
    }
}

/// What this thread has used of a core, where the system says so.
fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanos = text.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_call_has_one_answer_whatever_fails() {
    // A new run every time: what one seed shows is known after the first.
    let chosen = || Instant::now().elapsed().as_nanos() as u64 ^ u64::from(std::process::id());
    let seed = Seed(asked("SIM_SEED").unwrap_or_else(chosen));
    let events = asked("SIM_EVENTS").unwrap_or(2_000_000);
    let start = Instant::now();
    let spent = cpu_time();
    let mut world = World::new(seed.0);
    world.run(events);
    let took = start.elapsed();
    let spent = cpu_time()
        .zip(spent)
        .map_or(took, |(end, start)| end - start);
    let busy = world.busy_share();
    world.wind_down();

    let totals = world.core.status().totals;
    println!("seed {}: {} events", seed.0, world.events);
    let rate = |time: Duration| events as f64 / time.as_secs_f64();
    println!(
        "  {:.0} events/s, {:.0} per second of one core",
        rate(took),
        rate(spent)
    );
    println!(
        "  workers {:.1} % busy over {:.1} s",
        100.0 * busy,
        world.now_s()
    );
    println!(
        "  {} faults, {} replies fenced",
        world.faults, totals.fenced
    );
    println!("  overtaken at most {} times", world.shadow.overtaken);
    println!("  {totals:?}");

    assert_eq!(
        world.shadow.unanswered(),
        [0; 0],
        "requests without an answer"
    );
    assert!(busy >= 0.8, "the workers idle: {busy}");
    assert!(totals.retried > 0 && totals.fenced > 0 && totals.expired > 0 && totals.lost > 0);
    assert!(totals.cancelled > 0 && totals.reattached > 0 && totals.recalled > 0);
    // Each of the others may go first a few times, however much one of them sends.
    let overtaken_max = 4 * world.clients.len() as u64;
    assert!(
        world.shadow.overtaken <= overtaken_max,
        "a flood shuts others out"
    );
}
