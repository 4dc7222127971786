//! Long maps: memory that does not grow, workers that are killed, readers that leave, terminals.

#![allow(clippy::zombie_processes)]

mod place;

use muster_test_support::end_of;
use place::{Place, cluster_pids, kill, numbers, wait_until};
use rustix::process::Signal;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};

/// What a process has had in memory at most, in KiB; 0 when it has ended.
fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    kib.unwrap_or(0)
}

fn start_map(place: &Place, args: &[&str]) -> Child {
    let mut command = place.command("muster");
    command.arg("map").args(args).stdin(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn a_million_items_leave_the_memory_of_every_process_flat() {
    const ITEMS: u64 = 1_000_000;
    const GROWTH_KIB_MAX: u64 = 48 << 10;
    let mut place = Place::new();
    let (_up, _) = place.up(&["-n", "2"]);
    // So much that every buffer has its size.
    let warm = numbers(20_000);
    assert!(
        place
            .muster_with_input(&["map", "is_even", "-q"], warm.as_bytes())
            .status
            .success()
    );
    let before: Vec<(u32, u64)> = cluster_pids(&place)
        .into_iter()
        .map(|pid| (pid, peak_kib(pid)))
        .collect();
    let mut map = start_map(&place, &["is_even", "-q"]);
    let mut stdin = map.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || {
        let input = numbers(ITEMS);
        stdin.write_all(input.as_bytes())
    });
    let mut stdout = BufReader::new(map.stdout.take().unwrap());
    let (mut count, mut peak, mut line) = (0, 0, String::new());
    while stdout.read_line(&mut line).unwrap() > 0 {
        assert_eq!(
            line.trim_end(),
            if count % 2 == 0 { "true" } else { "false" }
        );
        line.clear();
        count += 1;
        if count % 20_000 == 0 {
            peak = peak.max(peak_kib(map.id()));
        }
    }
    assert_eq!(count, ITEMS);
    assert_eq!(end_of(&mut map).code(), Some(0));
    feeder.join().unwrap().unwrap();
    assert!(peak < GROWTH_KIB_MAX, "muster map had {peak} KiB");
    for (pid, kib) in before {
        let growth = peak_kib(pid).saturating_sub(kib);
        assert!(
            growth < GROWTH_KIB_MAX,
            "process {pid}: {growth} KiB more than {kib}"
        );
    }
}

/// Maps 100,000 items; `disturb` comes when half of them are on their way and the first is answered.
fn map_across(place: &mut Place, disturb: impl FnOnce(&mut Place)) {
    let input = numbers(100_000);
    let mut map = start_map(place, &["echo", "-q"]);
    let mut stdin = map.stdin.take().unwrap();
    let mut stdout = BufReader::new(map.stdout.take().unwrap());
    let (first, rest) = input.split_at(input.len() / 2);
    stdin.write_all(first.as_bytes()).unwrap();
    let mut answers = String::new();
    stdout.read_line(&mut answers).unwrap();
    disturb(place);
    let rest = rest.to_owned();
    let feeder = std::thread::spawn(move || stdin.write_all(rest.as_bytes()));
    stdout.read_to_string(&mut answers).unwrap();
    feeder.join().unwrap().unwrap();
    assert_eq!(end_of(&mut map).code(), Some(0));
    assert!(answers == input, "the answers differ from the items");
}

#[test]
fn a_killed_worker_costs_a_map_of_100000_items_nothing() {
    let mut place = Place::new();
    let (_up, _) = place.up(&["-n", "2", "--name", "stays"]);
    let mut leaves = place.start("muster-worker", &["-n", "2", "--name", "leaves"]);
    place.ok(&["wait", "--slots", "4", "--timeout", "60"]);
    map_across(&mut place, |_| {
        leaves.kill().unwrap();
        leaves.wait().unwrap();
    });
}

#[test]
fn a_broker_killed_and_started_again_costs_a_map_of_100000_items_nothing() {
    let mut place = Place::new();
    let mut broker = place.start("muster-broker", &[]);
    let _worker = place.start("muster-worker", &["-n", "2"]);
    place.ok(&["wait", "--slots", "2", "--timeout", "60"]);
    map_across(&mut place, |place| {
        broker.kill().unwrap();
        broker.wait().unwrap();
        place.start("muster-broker", &[]);
    });
}

#[test]
fn a_reader_that_has_enough_ends_the_map_quietly_and_its_calls() {
    let mut place = Place::new();
    let (_up, _) = place.up(&["-n", "2"]);
    let mut map = start_map(&place, &["is_even"]);
    let mut stdin = map.stdin.take().unwrap();
    let mut stdout = BufReader::new(map.stdout.take().unwrap());
    let feeder = std::thread::spawn(move || {
        let input = numbers(1_000_000);
        stdin.write_all(input.as_bytes())
    });
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "true\n");
    drop(stdout);
    let mut stderr = String::new();
    map.stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!((end_of(&mut map).code(), stderr.as_str()), (Some(0), ""));
    let _ = feeder.join().unwrap();
    wait_until("no call to be left", || {
        let status = place.status();
        status["calls"]["queued"] == 0 && status["calls"]["running"] == 0
    });
}

/// On a terminal, which `script` makes.
#[test]
fn a_progress_bar_is_drawn_on_a_terminal_and_nowhere_else() {
    let mut place = Place::new();
    let (_up, _) = place.up(&["-n", "2"]);
    let folder = place.folder.path().to_owned();
    fs::write(folder.join("in"), "0.02\n".repeat(60)).unwrap();
    let muster = place::programs().join("muster");
    let on_terminal = |flags: &str| {
        let line = format!("{} map sleep {flags} in > out", muster.display());
        let mut script = place.command("/usr/bin/script");
        script
            .current_dir(&folder)
            .args(["-qec", &line, "typescript"]);
        script.env("TERM", "xterm").env("SHELL", "/bin/sh");
        let output = script.output().unwrap();
        assert!(output.status.success());
        assert_eq!(
            fs::read_to_string(folder.join("out")).unwrap(),
            "0.02\n".repeat(60)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let drawn = on_terminal("");
    assert!(
        drawn.contains(" items, ") && drawn.contains(" % "),
        "{drawn:?}"
    );
    assert!(drawn.contains("muster: done: 60 items"), "{drawn:?}");
    assert!(!on_terminal("--no-progress").contains(" % "));
    assert_eq!(on_terminal("-q"), "");
    let piped = place.muster(&["map", "sleep", folder.join("in").to_str().unwrap()]);
    let stderr = String::from_utf8_lossy(&piped.stderr);
    assert!(stderr.starts_with("muster: done: 60 items"), "{stderr}");
}

#[test]
fn an_interrupt_ends_a_map_that_nobody_can_run() {
    let mut place = Place::new();
    let (_up, _) = place.up(&["-n", "1"]);
    // It was on offer and is not any more: its calls wait.
    let mut worker = place.start("muster-worker", &["-n", "1", "--command", "gone=true"]);
    wait_until("the method", || {
        place.muster(&["call", "gone"]).status.success()
    });
    kill(worker.id(), Signal::TERM);
    worker.wait().unwrap();
    let mut map = start_map(&place, &["gone"]);
    map.stdin.take().unwrap().write_all(b"1\n2\n").unwrap();
    let mut lines = BufReader::new(map.stderr.take().unwrap()).lines();
    let said = "muster: no worker offers gone now; the map waits for one";
    assert_eq!(lines.next().unwrap().unwrap(), said);
    kill(map.id(), Signal::INT);
    assert_eq!(end_of(&mut map).code(), Some(130));
}
