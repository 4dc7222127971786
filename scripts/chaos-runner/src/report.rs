//! What a run came to, for people and for programs.

use crate::check::Verdict;
use crate::cluster::{Cluster, Kind};
use crate::redispatch::Redispatch;
use crate::starts::Start;
use crate::storm::{Faults, Storm};
use muster_bench::machine::Machine;
use serde::Serialize;
use std::collections::HashMap;

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// How long the storm lasted.
    pub seconds: f64,
    /// What was done to the cluster.
    pub faults: Faults,
    /// What the clients' logs say.
    pub verdict: Verdict,
    /// Starts of calls that had been started before, by the workers' lists.
    pub retried: u64,
    /// Calls that must not run twice and did.
    pub ran_twice: u64,
    /// How long after the storm every slot was ready, in seconds.
    pub whole_after_s: f64,
    /// Processes that outlived their cluster.
    pub left_over: Vec<u32>,
    /// From SIGKILL of the holder to the next start.
    pub redispatch: Vec<Redispatch>,
    /// Where it ran.
    pub machine: Machine,
}

impl Report {
    /// Whether every promise was kept.
    pub fn is_clean(&self) -> bool {
        self.verdict.is_clean() && self.ran_twice == 0 && self.left_over.is_empty()
    }

    /// For people.
    pub fn print(&self) {
        let Verdict {
            calls,
            answered,
            lost,
            duplicated,
            wrong,
            stuck,
            unknown,
            attempts_used_up,
            abandoned,
            errors,
        } = &self.verdict;
        let Faults {
            worker_kills,
            worker_stops,
            client_kills,
            broker_kills,
        } = self.faults;
        println!(
            "killed: {worker_kills} workers, {client_kills} clients, {broker_kills} brokers; \
             stopped for a while: {worker_stops} workers; in {:.1} s, seed {}",
            self.seconds, self.seed
        );
        let rows = [
            ("calls", *calls, "sent by all clients"),
            ("answered", *answered, "once, with the right result"),
            ("lost", *lost, "no answer, or an error that had no reason"),
            ("duplicated", *duplicated, "answered again"),
            ("wrong", *wrong, "another result, or one to nobody"),
            ("stuck", *stuck, "nothing until the client's patience ended"),
            ("ran twice", self.ran_twice, "though they must not"),
            ("retried", self.retried, "started again, no harm done"),
            (
                "unknown",
                *unknown,
                "must not run twice; broker or worker died",
            ),
            (
                "given up",
                *attempts_used_up,
                "WorkerLost after every attempt",
            ),
            ("abandoned", *abandoned, "their client was killed"),
        ];
        for (name, count, meaning) in rows {
            println!("{name:>12} {count:>10}  {meaning}");
        }
        for (what, count) in errors {
            println!("{:>12} {count:>10}  {what}", "error");
        }
        println!(
            "every slot was ready again {:.1} s after the storm; {} processes left over",
            self.whole_after_s,
            self.left_over.len()
        );
        for Redispatch {
            holder,
            rounds,
            p50_ms,
            p99_ms,
            max_ms,
            aim_ms,
        } in &self.redispatch
        {
            println!(
                "SIGKILL of a {holder} to the next start of its call: p50 {p50_ms:.2} ms, \
                 p99 {p99_ms:.2} ms, max {max_ms:.2} ms ({rounds} rounds; aim {aim_ms:.0} at p99)"
            );
        }
        println!("{}", self.machine);
    }
}

/// Starts after a call's first, and calls that must not run twice and did.
pub fn repeats(storm: &Storm, starts: &HashMap<u64, Vec<Start>>) -> (u64, u64) {
    let again = |starts: &Vec<Start>| starts.len() as u64 - 1;
    let retried = starts.values().map(again).sum();
    let is_once = |n: u64| crate::work::Draw::of(storm.seed, n).is_once;
    let ran_twice = starts
        .iter()
        .filter(|(n, starts)| starts.len() > 1 && is_once(**n))
        .count();
    (retried, ran_twice as u64)
}

/// Names a kind of worker in a plan.
pub fn describe(cluster: &Cluster) -> String {
    let count = |kind| cluster.members.iter().filter(|m| m.kind == kind).count();
    format!(
        "{} workers made with the library, {} muster-worker programs, {} stock REP workers",
        count(Kind::Library),
        count(Kind::Program),
        count(Kind::Lane)
    )
}
