//! The `muster` program with a real broker and real workers.

// A place ends and reaps what it started.
#![allow(clippy::zombie_processes)]

mod place;

use muster_test_support::{end_of, is_alive};
use place::{EXAMPLES, Place, cluster_pids, kill, numbers, wait_until};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

#[test]
fn up_serves_until_it_is_interrupted_and_leaves_nothing() {
    let mut place = Place::new();
    let (mut up, line) = place.up(&["-n", "2"]);
    assert!(line.starts_with("ready: 2 slots, "), "{line}");
    assert!(
        line.contains("try: muster call multiply 5 3 --cluster test"),
        "{line}"
    );
    assert_eq!(place.ok(&["call", "multiply", "5", "3"]), "15\n");
    let again = place.muster(&["up"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("is up already"));
    let pids = cluster_pids(&place);
    assert!(
        pids.len() >= 4 && pids.iter().all(|pid| is_alive(*pid)),
        "{pids:?}"
    );
    kill(up.id(), rustix::process::Signal::INT);
    assert_eq!(end_of(&mut up).code(), Some(0));
    wait_until("every process to end", || {
        !pids.iter().any(|pid| is_alive(*pid))
    });
    assert!(!place.runtime().join("test").exists());
}

#[test]
fn an_interrupted_up_has_nothing_to_complain_of() {
    let place = Place::new();
    let mut up = place.command("muster").args(["up", "-n", "1"]).spawn();
    let up = up.as_mut().unwrap();
    let mut line = String::new();
    let stdout = up.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    kill(up.id(), rustix::process::Signal::INT);
    assert_eq!(end_of(up).code(), Some(0));
    let mut text = String::new();
    up.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "");
}

#[test]
fn a_start_in_the_background_that_is_interrupted_leaves_nothing() {
    let place = Place::new();
    let file = place.folder.path().join("slow.py");
    std::fs::write(&file, "import time\ntime.sleep(60)\n").unwrap();
    let mut starter = place.command("muster");
    starter.args(["up", "--detach", "--python", file.to_str().unwrap()]);
    let mut starter = starter.spawn().unwrap();
    wait_until("the broker to serve", || {
        place.muster(&["status"]).status.success()
    });
    let status = place.status();
    kill(starter.id(), rustix::process::Signal::INT);
    assert_eq!(end_of(&mut starter).code(), Some(130));
    assert!(!is_alive(status["pid"].as_u64().unwrap() as u32));
    assert!(!place.runtime().join("test").exists());
}

#[test]
fn down_ends_an_up_that_was_stopped() {
    let mut place = Place::new();
    let (mut up, _) = place.up(&["-n", "1"]);
    kill(up.id(), rustix::process::Signal::STOP);
    place.ok(&["down"]);
    // It went on, ended what it had started, and was not killed.
    assert_eq!(end_of(&mut up).code(), Some(0));
    assert!(!place.runtime().join("test").exists());
}

#[test]
fn workers_and_slots_are_listed_as_people_count() {
    let mut place = Place::new();
    let (_up, _) = place.up(&["-n", "11", "--name", "w10"]);
    let _second = place.start("muster-worker", &["-n", "1", "--name", "w2"]);
    place.ok(&["wait", "--slots", "12", "--timeout", "60"]);
    let names = |args: &[&str]| -> Vec<String> {
        let text = place.ok(args);
        let first = |line: &str| line.split_whitespace().next().unwrap_or("").to_owned();
        text.lines().skip(1).map(first).collect()
    };
    assert_eq!(names(&["workers"]), ["w2", "w10"]);
    let mut slots = vec!["w2.1".to_owned()];
    slots.extend((1..=11).map(|number| format!("w10.{number}")));
    assert_eq!(names(&["workers", "--slots"]), slots);
}

#[test]
fn a_detached_cluster_is_listed_and_ended_by_down() {
    let place = Place::new();
    let line = place.ok(&["up", "--detach", "-n", "2", "--name", "w", "--json"]);
    let ready: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&ready["cluster"], &ready["slots"]),
        (&"test".into(), &2.into())
    );
    assert!(
        place
            .ok(&["ls"])
            .lines()
            .nth(1)
            .unwrap()
            .starts_with("test")
    );
    let worker: Value = serde_json::from_str(&place.ok(&["workers", "--json"])).unwrap();
    assert_eq!(
        (&worker["name"], &worker["kind"]),
        (&"w".into(), &"managed".into())
    );
    assert!(place.ok(&["doctor"]).contains("ok   ping"));
    let pids = cluster_pids(&place);
    place.ok(&["down"]);
    wait_until("every process to end", || {
        !pids.iter().any(|pid| is_alive(*pid))
    });
    assert!(!place.runtime().join("test").exists());
    place.ok(&["down"]);
    assert_eq!(place.muster(&["doctor"]).status.code(), Some(69));
    assert_eq!(place.ok(&["ls", "-q"]), "");
}

#[test]
fn down_ends_what_was_started_by_hand_and_cleans_up_after_a_dead_broker() {
    let mut place = Place::new();
    let mut broker = place.start("muster-broker", &[]);
    let mut worker = place.start("muster-worker", &["-n", "1"]);
    place.ok(&["wait", "--slots", "1", "--timeout", "60"]);
    place.ok(&["down"]);
    assert_eq!(end_of(&mut broker).code(), Some(0));
    assert_eq!(end_of(&mut worker).code(), Some(0));
    let mut broker = place.start("muster-broker", &[]);
    place.ok(&["wait", "--slots", "0", "--timeout", "60"]);
    broker.kill().unwrap();
    broker.wait().unwrap();
    let list = place.ok(&["ls", "--json"]);
    assert!(list.contains(r#""state":"stale""#), "{list}");
    place.ok(&["down"]);
    assert!(!place.runtime().join("test").exists());
}

#[test]
fn a_start_that_fails_says_why_and_ends_everything() {
    let place = Place::new();
    let file = place.folder.path().join("broken.py");
    std::fs::write(&file, "def f(:\n").unwrap();
    for mode in [&["up"][..], &["up", "--detach"]] {
        let mut args = mode.to_vec();
        args.extend(["--python", file.to_str().unwrap()]);
        let output = place.muster(&args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains("broken.py"), "{stderr}");
        assert!(
            matches!(output.status.code(), Some(1 | 2)),
            "{:?}",
            output.status
        );
        assert!(!place.runtime().join("test").exists());
    }
}

#[test]
fn python_functions_are_described_called_and_blamed() {
    let mut place = Place::new();
    let (_up, line) = place.up(&["-n", "4", "--python", EXAMPLES]);
    assert!(line.starts_with("ready: 4 slots, 5 methods"), "{line}");
    assert_eq!(
        place.ok(&["methods", "--long"]),
        "Method -- count_slowly\n  Signature: ['n']\n  Help : Yield 0 to n - 1.\n\
         Method -- f1\n  Signature: ['t', 'x', 'y']\n  Help : Sleep t seconds, then return x + y + 3.\n\
         Method -- is_even\n  Signature: ['n']\n  Help : Return True if n is even.\n\
         Method -- is_odd\n  Signature: ['n']\n  Help : Return True if n is odd.\n\
         Method -- multiply\n  Signature: ['x', 'y']\n  Help : Return x times y.\n"
    );
    let answers: Vec<_> = (0..10)
        .map(|n: u32| place.ok(&["call", "is_even", &n.to_string()]))
        .collect();
    let expected: Vec<_> = (0..10).map(|n| format!("{}\n", n % 2 == 0)).collect();
    assert_eq!(answers, expected);
    assert_eq!(
        place.ok(&["call", "multiply", "-p", "x=5", "-p", "y=3"]),
        "15\n"
    );
    let output = place.muster(&["call", "is_even", "\"x\""]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.contains("TypeError") && stderr.contains("methods.py"),
        "{stderr}"
    );
    let output = place.muster(&["call", "multiply", "1"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("TypeError"));
    assert_eq!(output.status.code(), Some(1));
    let output = place.muster(&["call", "nope"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("-32601"));
    assert_eq!(output.status.code(), Some(1));
    let output = place.muster(&["call", "f1", "60", "1", "1", "--timeout", "200ms"]);
    assert_eq!(output.status.code(), Some(124));
}

#[test]
fn a_map_survives_the_deaths_of_its_slots() {
    let mut place = Place::new();
    let (_up, _) = place.up(&["-n", "2"]);
    let input = numbers(200_000);
    let mut map = place.command("muster");
    let mut map = map
        .args(["map", "echo", "-q"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = map.stdin.take().unwrap();
    let (first, rest) = input.split_at(input.len() / 2);
    stdin.write_all(first.as_bytes()).unwrap();
    let slots = place.ok(&["workers", "--slots", "--json"]);
    for line in slots.lines() {
        let slot: Value = serde_json::from_str(line).unwrap();
        kill(
            slot["pid"].as_u64().unwrap() as u32,
            rustix::process::Signal::KILL,
        );
    }
    let rest = rest.to_owned();
    let feeder = std::thread::spawn(move || stdin.write_all(rest.as_bytes()));
    let mut answers = String::new();
    map.stdout
        .take()
        .unwrap()
        .read_to_string(&mut answers)
        .unwrap();
    assert_eq!(end_of(&mut map).code(), Some(0));
    feeder.join().unwrap().unwrap();
    assert!(answers == input, "the answers differ from the items");
}

#[test]
fn a_map_carries_on_when_the_broker_is_killed_and_started_again() {
    let mut place = Place::new();
    let mut broker = place.start("muster-broker", &[]);
    let _worker = place.start("muster-worker", &["-n", "2"]);
    place.ok(&["wait", "--slots", "2", "--timeout", "60"]);
    let mut map = place.command("muster");
    let mut map = map
        .args(["map", "sleep", "-q"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = map.stdin.take().unwrap();
    stdin.write_all("0.01\n".repeat(100).as_bytes()).unwrap();
    let mut lines = BufReader::new(map.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "0.01");
    broker.kill().unwrap();
    broker.wait().unwrap();
    let _broker = place.start("muster-broker", &[]);
    stdin.write_all("0.001\n".repeat(100).as_bytes()).unwrap();
    drop(stdin);
    let answers: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(answers.len(), 199);
    assert!(answers[..99].iter().all(|answer| answer == "0.01"));
    assert!(answers[99..].iter().all(|answer| answer == "0.001"));
    assert_eq!(end_of(&mut map).code(), Some(0));
}

#[test]
fn an_interrupted_map_leaves_no_call_behind() {
    let mut place = Place::new();
    let (_up, _) = place.up(&["-n", "2"]);
    let mut map = place.command("muster");
    let mut map = map
        .args(["map", "sleep"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    map.stdin
        .as_mut()
        .unwrap()
        .write_all("60\n".repeat(50).as_bytes())
        .unwrap();
    let calls = |state: &str| {
        let status: Value = serde_json::from_str(&place.ok(&["status", "--json"])).unwrap();
        status["calls"][state].as_u64().unwrap()
    };
    wait_until("two calls to run", || calls("running") == 2);
    kill(map.id(), rustix::process::Signal::INT);
    assert_eq!(end_of(&mut map).code(), Some(130));
    wait_until("no call to be left", || {
        calls("running") + calls("queued") == 0
    });
    // And the slots that were in the middle of one work again.
    assert_eq!(
        place.ok(&["call", "add", "1", "2", "--timeout", "30"]),
        "3\n"
    );
}

#[test]
fn a_call_to_every_worker_and_to_one_by_name() {
    let mut place = Place::new();
    let (_up, _) = place.up(&["-n", "1", "--name", "a"]);
    let _b = place.start("muster-worker", &["-n", "1", "--name", "b"]);
    place.ok(&["wait", "--slots", "2", "--timeout", "60"]);
    let pids: Vec<u64> = serde_json::from_str(&place.ok(&["call", "pid", "--all"])).unwrap();
    assert_eq!(pids.len(), 2);
    for (name, pid) in ["a", "b"].iter().zip(&pids) {
        assert_eq!(place.ok(&["call", "pid", "--to", name]), format!("{pid}\n"));
    }
    let lines = place.ok(&["call", "pid", "--all", "--json"]);
    let first = lines.lines().next().unwrap();
    assert_eq!(first, format!(r#"{{"worker":"a","result":{}}}"#, pids[0]));
}
