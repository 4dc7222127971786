//! The program as a process: slots that die and come back, signals, a broker that is not there.

mod common;

use common::{Broker, Program, call, children_of, kill, until};
use muster_proto::code::Code;
use muster_proto::socket::{Context, Frame, Kind, Profile, Socket};
use muster_proto::worker::Command;
use muster_test_support::is_alive;
use rustix::process::Signal;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

#[test]
fn built_in_functions_run_in_slot_processes_that_show_their_names() {
    let mut broker = Broker::start();
    let program = Program::join(&broker, &["-n", "2"]);
    let registration = broker.await_slots(2).clone();
    let names: BTreeSet<&str> = registration
        .methods
        .iter()
        .map(|m| m.name.as_str())
        .collect();
    for name in [
        "hello",
        "echo",
        "sleep",
        "multiply",
        "is_even",
        "is_odd",
        "primes_below",
    ] {
        assert!(names.contains(name), "{name}");
    }
    assert_eq!(broker.ok("hello", ""), "Hello, World!");
    let pids: BTreeSet<u32> = (1..=2).map(|slot| broker.slot_pid(slot)).collect();
    assert_eq!(pids, children_of(program.pid()).into_iter().collect());
    for slot in 1..=2 {
        let pid = broker.slot_pid(slot);
        assert_eq!(broker.run(slot, call("pid", "")).ok(), pid);
        let argv = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        assert_eq!(argv, format!("muster-worker\0slot\0w.{slot}\0"));
    }
}

#[test]
fn a_killed_slot_is_told_and_replaced_alone() {
    let mut broker = Broker::start();
    let program = Program::join(&broker, &["-n", "2"]);
    broker.await_slots(2);
    let (first, second) = (broker.slot_pid(1), broker.slot_pid(2));
    broker.send_calls(1, &[call("sleep", "[1000]")]);
    kill(first, Signal::KILL);
    let lost = broker.lost();
    assert_eq!((lost.slot, lost.pid, lost.signal), (1, first, Some(9)));
    assert!(!lost.on_purpose);
    assert_eq!(lost.backoff_ms, 0, "a crash alone is no loop");
    broker.until("its successor", |broker| broker.slot_pid(1) != first);
    assert_eq!(broker.ok("multiply", "[2,3]"), 6);
    assert_eq!(broker.slot_pid(2), second);
    assert_eq!(broker.run(2, call("pid", "")).ok(), second);
    assert!(!is_alive(first) && is_alive(program.pid()));
}

#[test]
fn crashes_of_a_slot_between_which_calls_are_answered_are_no_loop() {
    let mut broker = Broker::start();
    let _program = Program::join(&broker, &["-n", "1"]);
    broker.await_slots(1);
    for _ in 0..6 {
        let pid = broker.slot_pid(1);
        assert_eq!(broker.ok("multiply", "[2,3]"), 6);
        kill(pid, Signal::KILL);
        let lost = broker.lost();
        assert_eq!((lost.pid, lost.backoff_ms), (pid, 0));
        broker.until("its successor", |broker| broker.slot_pid(1) != pid);
    }
}

#[test]
fn a_slot_that_only_starts_commands_names_no_process() {
    let mut broker = Broker::start();
    let _program = Program::join(&broker, &["-n", "1", "--command", "say=echo {}"]);
    broker.await_slots(1);
    assert_eq!(broker.slot_pid(1), 0);
    assert_eq!(broker.ok("say", r#"["it"]"#), "it");
}

#[test]
fn a_cancelled_function_that_notices_keeps_its_process() {
    let mut broker = Broker::start();
    let _program = Program::join(&broker, &["-n", "1"]);
    broker.await_slots(1);
    let pid = broker.slot_pid(1);
    let sleeping = broker.send_calls(1, &[call("sleep", "[1000]")])[0];
    let name = broker.slot_call(1, 1, sleeping);
    broker.command(Command::Cancel, vec![name]);
    let code = Code::Cancelled.number();
    assert_eq!(broker.reply().error()["code"], code);
    // A chunk is left between two of its items.
    let items = format!("[{}]", vec!["1000000"; 10_000].join(","));
    let busy = broker.send_calls(1, &[common::chunk("primes_below", &items)])[0];
    let name = broker.slot_call(1, 2, busy);
    broker.command(Command::Cancel, vec![name]);
    let answer = broker.reply();
    let last = if answer.is_error {
        answer.error()["code"].clone()
    } else if answer.is_whole {
        answer.ok()["result"][9_999]["error"]["code"].clone()
    } else {
        answer.ok()[9_999]["error"]["code"].clone()
    };
    assert_eq!(last, code);
    assert_eq!(broker.ok("pid", ""), pid);
}

#[test]
fn a_cancelled_call_that_does_not_end_is_ended_with_its_process() {
    let mut broker = Broker::start();
    let _program = Program::join(&broker, &["-n", "1"]);
    broker.await_slots(1);
    let pid = broker.slot_pid(1);
    let sleeping = broker.send_calls(1, &[call("sleep", "[1000]")])[0];
    // A stopped process notices nothing.
    kill(pid, Signal::STOP);
    // On a busy machine a signal takes its time, and the cancel must not overtake it.
    until("it is stopped", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.contains(") T ")
    });
    let name = broker.slot_call(1, 1, sleeping);
    broker.command(Command::Cancel, vec![name]);
    let lost = broker.lost();
    assert_eq!((lost.pid, lost.on_purpose, lost.backoff_ms), (pid, true, 0));
    broker.until("its successor", |broker| broker.slot_pid(1) != pid);
    assert_eq!(broker.ok("multiply", "[2,3]"), 6);
}

#[test]
fn slots_end_with_their_supervisor_even_when_it_is_killed() {
    let mut broker = Broker::start();
    let flags = [
        "-n",
        "2",
        "--python",
        "operator",
        "--prefix",
        "op.",
        "--builtin",
    ];
    let program = Program::join(&broker, &flags);
    broker.await_slots(2);
    let slots = children_of(program.pid());
    let pythons: Vec<u32> = slots.iter().flat_map(|&pid| children_of(pid)).collect();
    assert_eq!((slots.len(), pythons.len()), (2, 2));
    broker.send_calls(1, &[call("sleep", "[1000]")]);
    kill(program.pid(), Signal::KILL);
    let all = [slots, pythons].concat();
    until("all of them ended", || {
        all.iter().all(|&pid| !is_alive(pid))
    });
}

#[test]
fn a_signal_drains_and_the_program_ends_well() {
    let mut broker = Broker::start();
    let mut program = Program::join(&broker, &["-n", "1"]);
    broker.await_slots(1);
    broker.send_calls(1, &[call("sleep", "[0.3]"), call("multiply", "[2,3]")]);
    program.signal(Signal::TERM);
    broker.message(Command::Draining);
    assert_eq!(broker.reply().ok(), 0.3);
    assert_eq!(broker.reply().ok(), 6);
    broker.message(Command::Goodbye);
    assert_eq!(program.wait().code(), Some(0));
    assert!(
        program.log.iter().any(|line| line.contains("draining")),
        "{:?}",
        program.log
    );
}

#[test]
fn a_second_signal_stops_at_once() {
    let mut broker = Broker::start();
    let mut program = Program::join(&broker, &["-n", "1"]);
    broker.await_slots(1);
    let slot = broker.slot_pid(1);
    broker.send_calls(1, &[call("sleep", "[1000]")]);
    program.signal(Signal::INT);
    broker.message(Command::Draining);
    program.signal(Signal::INT);
    assert_eq!(program.wait().code(), Some(0));
    assert!(!is_alive(slot));
}

#[test]
fn the_grace_has_an_end() {
    let mut broker = Broker::start();
    let mut program = Program::join(&broker, &["-n", "1", "--grace", "0.2"]);
    broker.await_slots(1);
    broker.send_calls(1, &[call("sleep", "[1000]")]);
    program.signal(Signal::TERM);
    assert_eq!(program.wait().code(), Some(0));
    assert!(
        program.log.iter().any(|line| line.contains("grace ended")),
        "{:?}",
        program.log
    );
}

#[test]
fn without_a_broker_it_says_so_once_and_waits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let mut program = Program::start(&["--runtime-dir", path, "--name", "w", "-n", "1"]);
    program.await_line("no broker runs in");
    let mut broker = Broker::start_in(folder, 1);
    broker.await_slots(1);
    program.signal(Signal::TERM);
    broker.message(Command::Goodbye);
    assert!(program.wait().success());
    let told = program
        .log
        .iter()
        .filter(|line| line.contains("no broker runs in"))
        .count();
    assert_eq!(told, 1, "{:?}", program.log);
}

#[test]
fn the_frontends_address_is_enough() {
    let mut broker = Broker::start();
    let context = Context::new(1).unwrap();
    let frontend = Socket::open(&context, Kind::Router, &Profile::Inproc).unwrap();
    frontend.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = frontend.last_endpoint().unwrap();
    let _program = Program::start(&["--connect", &endpoint, "--name", "w", "-n", "1"]);
    let mut frames = Vec::new();
    assert!(
        frontend
            .recv_timeout(&mut frames, common::PATIENCE)
            .unwrap()
    );
    let request: serde_json::Value = serde_json::from_slice(&frames[2]).unwrap();
    assert_eq!(request["method"], "broker.endpoints");
    let reply = json!({"jsonrpc": "2.0", "result": {"workers": broker.endpoint}, "id": 1});
    frames[2] = Frame::from(reply.to_string());
    let _ = frontend.send_frames(&mut frames).unwrap();
    assert_eq!(broker.await_slots(1).name, "w");
}

#[test]
fn wrong_usage_ends_with_2_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    for (flags, text) in [
        (&["-n", "0"][..], "--slots"),
        (&["--command", "nothing"], "NAME=COMMAND"),
        (
            &["--command", "a=ls", "--command", "a=ps"],
            "claimed by two",
        ),
        (&["--command", "hello=ls", "--builtin"], "claimed by two"),
        (&["--python", "/nonexistent.py"], "no such file"),
        (
            &[
                "--interpreter",
                "/nonexistent/python",
                "--python",
                "operator",
            ],
            "/nonexistent/python",
        ),
        (&["--no-such-flag"], "--no-such-flag"),
        (&["--cluster", "a/b"], "cluster name"),
    ] {
        let all: Vec<&str> = [&["--runtime-dir", path][..], flags].concat();
        let mut program = Program::start(&all);
        assert_eq!(
            program.wait().code(),
            Some(2),
            "{flags:?}: {:?}",
            program.log
        );
        assert!(
            program.log.iter().any(|line| line.contains(text)),
            "{:?}",
            program.log
        );
    }
}

#[test]
fn an_idle_worker_costs_next_to_nothing() {
    let mut broker = Broker::start();
    let program = Program::join(&broker, &["-n", "2"]);
    broker.await_slots(2);
    let family: Vec<u32> = std::iter::once(program.pid())
        .chain(children_of(program.pid()))
        .collect();
    let before: Vec<u64> = family.iter().map(|&pid| context_switches(pid)).collect();
    let beats = broker.beats;
    let start = Instant::now();
    broker.until("five heartbeats", |broker| broker.beats >= beats + 5);
    let seconds = start.elapsed().as_secs_f64();
    let switches: u64 = family
        .iter()
        .zip(before)
        .map(|(&pid, before)| context_switches(pid) - before)
        .sum();
    // Heartbeats here come five times a second and cost a few switches each; a busy loop, or a
    // poll every few milliseconds, costs hundreds a second.
    assert!(
        (switches as f64) < 100.0 * seconds.max(1.0),
        "{switches} in {seconds} s"
    );
}

/// Voluntary context switches of all threads: how often they woke up.
fn context_switches(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok())
        .filter_map(|status| {
            let line = status
                .lines()
                .find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"));
            line?.trim().parse::<u64>().ok()
        })
        .sum()
}

#[test]
fn a_slot_process_is_not_for_typing() {
    let mut program = Program::start(&["slot", "w.1"]);
    assert_eq!(program.wait().code(), Some(2));
    assert!(
        program.log.iter().any(|line| line.contains("supervisor")),
        "{:?}",
        program.log
    );
    let _ = Duration::ZERO;
}
