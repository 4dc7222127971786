//! Workers that crash, hang and grow, as a user meets them: a real cluster and `muster`.

// A place ends and reaps what it started.
#![allow(clippy::zombie_processes)]

mod place;

use muster_test_support::{MemoryGroup, end_of, is_alive};
use place::{Place, cluster_pids, kill, numbers, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};

const METHODS: &str = r#"
import os, signal, sys, time

def add(x, y):
    return x + y

def pid():
    return os.getpid()

def leave(code):
    print("last words", file=sys.stderr, flush=True)
    os._exit(code)

def die(name):
    os.kill(os.getpid(), getattr(signal, name))

def spin():
    while True:
        pass

def fill(mib):
    blocks = [b"x" * (1 << 20) for _ in range(mib)]
    time.sleep(1000)

def say(text):
    print(text, file=sys.stderr, flush=True)

def nap(x):
    time.sleep(0.01)
    return x

def version(x):
    time.sleep(0.002)
    return [x, 1]
"#;

impl Place {
    /// Starts a broker and a worker `w` with these functions and flags.
    fn cluster(&mut self, text: &str, slots: &str, flags: &[&str]) -> Child {
        self.cluster_by(&[], text, slots, flags)
    }

    /// The same; the worker is started by a command that ends in its own.
    fn cluster_by(&mut self, starter: &[String], text: &str, slots: &str, flags: &[&str]) -> Child {
        let path = self.folder.path().join("methods.py");
        std::fs::write(&path, text).unwrap();
        self.start("muster-broker", &[]);
        let path = path.to_str().unwrap().to_owned();
        let mut all = vec!["-n", slots, "--name", "w", "--python", &path];
        all.extend(flags);
        let worker = self.start_by(starter, "muster-worker", &all);
        self.ok(&["wait", "--slots", slots, "--timeout", "60"]);
        worker
    }

    /// The error of a call that fails, and the exit code.
    fn error(&self, args: &[&str]) -> (Value, Option<i32>) {
        let all = [&["call", "--json"][..], args].concat();
        let output = self.muster(&all);
        let line: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
            panic!("{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        });
        (line["error"].clone(), output.status.code())
    }

    /// Starts `muster map` over these lines.
    fn map(&mut self, args: &[&str], input: &str) -> Child {
        let mut command = self.command("muster");
        let mut child = command
            .arg("map")
            .args(args)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.pids.push(child.id());
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        child
    }

    fn workers(&self) -> Value {
        let text = self.ok(&["workers", "--json"]);
        serde_json::from_str(text.lines().next().unwrap()).unwrap()
    }
}

/// What a map printed, which has to end well.
fn results(map: Child) -> Vec<Value> {
    let output = map.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn crashes_are_told_with_code_or_signal_and_last_words() {
    let mut place = Place::new();
    place.cluster(METHODS, "2", &[]);
    for (args, ended) in [
        (&["leave", "7"][..], json!({"exit_code": 7, "signal": null})),
        (&["die", "SIGKILL"], json!({"exit_code": null, "signal": 9})),
        (
            &["die", "SIGSEGV"],
            json!({"exit_code": null, "signal": 11}),
        ),
    ] {
        let all = [&["--attempts", "2"][..], args].concat();
        let (error, code) = place.error(&all);
        assert_eq!((&error["code"], code), (&json!(-32002), Some(1)), "{error}");
        let attempts = error["data"]["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 2, "{error}");
        for attempt in attempts {
            for (name, value) in ended.as_object().unwrap() {
                assert_eq!(&attempt[name], value, "{attempt}");
            }
            assert_eq!(attempt["worker"], "w");
            let is_last_word = attempt["stderr"] == "last words\n";
            assert_eq!(is_last_word, args[0] == "leave", "{attempt}");
        }
        assert_eq!(place.ok(&["call", "add", "2", "3"]), "5\n");
    }
    wait_until("both slots to be ready", || {
        let workers = place.workers();
        let slots = workers["slot_states"].as_array().unwrap().clone();
        let names: Vec<_> = slots.iter().map(|slot| slot["name"].clone()).collect();
        names == ["w.1", "w.2"] && slots.iter().all(|slot| slot["state"] == "ready")
    });
}

#[test]
fn a_call_that_hangs_is_answered_at_its_deadline_and_the_slot_works_again() {
    let mut place = Place::new();
    place.cluster(METHODS, "1", &[]);
    let before = place.ok(&["call", "pid"]);
    let (error, code) = place.error(&["spin", "--timeout", "0.5"]);
    assert_eq!(
        (&error["code"], code),
        (&json!(-32001), Some(124)),
        "{error}"
    );
    assert_eq!(error["data"]["state"], "running");
    assert_eq!(
        place.ok(&["call", "add", "2", "3", "--timeout", "60"]),
        "5\n"
    );
    assert_ne!(place.ok(&["call", "pid"]), before);
    let old: u32 = before.trim().parse().unwrap();
    assert!(!is_alive(old));
}

#[test]
fn a_child_that_the_kernel_kills_for_its_memory_is_lost_with_that_reason() {
    let Some(group) = MemoryGroup::new(200 << 20) else {
        return;
    };
    let mut place = Place::new();
    place.cluster_by(&group.starter(), METHODS, "2", &[]);
    for kills in 1..=2 {
        let (error, code) = place.error(&["--attempts", "1", "fill", "1000"]);
        assert_eq!((&error["code"], code), (&json!(-32002), Some(1)), "{error}");
        let attempt = &error["data"]["attempts"][0];
        assert_eq!(
            (&attempt["signal"], &attempt["out_of_memory"]),
            (&json!(9), &json!(true)),
            "{attempt}"
        );
        assert_eq!(group.kills(), kills, "of one child, and of nobody else");
        assert_eq!(place.ok(&["call", "add", "2", "3"]), "5\n");
    }
    // Somebody else's SIGKILL is not the kernel's.
    let (error, _) = place.error(&["--attempts", "1", "die", "SIGKILL"]);
    let attempt = &error["data"]["attempts"][0];
    assert_eq!(attempt["signal"], 9, "{attempt}");
    assert_ne!(attempt["out_of_memory"], true, "{attempt}");
    wait_until("both slots to be ready", || {
        let slots = place.workers()["slot_states"].clone();
        let mut slots = slots.as_array().unwrap().iter();
        slots.all(|slot| slot["state"] == "ready")
    });
}

#[test]
fn a_child_beyond_its_memory_is_lost_with_that_reason() {
    let mut place = Place::new();
    place.cluster(METHODS, "1", &["--memory-max", "100M"]);
    let (error, _) = place.error(&["fill", "500", "--attempts", "1"]);
    assert_eq!(error["code"], -32002, "{error}");
    let attempt = &error["data"]["attempts"][0];
    assert_eq!(
        (&attempt["out_of_memory"], &attempt["signal"]),
        (&json!(true), &json!(9))
    );
    assert!(
        attempt["stderr"].as_str().unwrap().contains("--memory-max"),
        "{attempt}"
    );
    assert_eq!(place.ok(&["call", "add", "2", "3"]), "5\n");
}

#[test]
fn recycled_children_cost_no_call() {
    let mut place = Place::new();
    place.cluster(METHODS, "2", &["--recycle", "100"]);
    let map = place.map(&["version"], &numbers(1_500));
    let expected: Vec<Value> = (0..1_500).map(|n| json!([n, 1])).collect();
    assert_eq!(results(map), expected);
    let status = place.status();
    assert_eq!(
        (&status["calls"]["lost"], &status["calls"]["retried"]),
        (&json!(0), &json!(0))
    );
}

#[test]
fn scaling_under_load_loses_nothing() {
    let mut place = Place::new();
    place.cluster(METHODS, "4", &[]);
    let map = place.map(&["nap"], &numbers(1_000));
    for slots in [6, 2] {
        place.ok(&["scale", &slots.to_string()]);
        wait_until("the slots", || {
            let workers = place.workers();
            workers["slot_states"].as_array().unwrap().len() == slots
        });
    }
    let expected: Vec<Value> = (0..1_000).map(|n| json!(n)).collect();
    assert_eq!(results(map), expected);
    let names = place.workers()["slot_states"].clone();
    assert_eq!(
        (&names[0]["name"], &names[1]["name"]),
        (&json!("w.1"), &json!("w.2"))
    );
    assert_eq!(place.status()["calls"]["lost"], 0);
}

#[test]
fn a_reload_under_load_loses_nothing_and_a_broken_file_changes_nothing() {
    let mut place = Place::new();
    place.cluster(METHODS, "2", &[]);
    let file = place.folder.path().join("methods.py");
    let map = place.map(&["version"], &numbers(3_000));
    let is_served = |place: &Place| {
        let answer: Value = serde_json::from_str(&place.ok(&["call", "version", "7"])).unwrap();
        answer[1].clone()
    };
    assert_eq!(is_served(&place), 1);
    std::fs::write(&file, METHODS.replace("return [x, 1]", "return [x, 2000]")).unwrap();
    place.ok(&["reload"]);
    // Twice in a row from both slots, so to speak: no old child answers any more.
    wait_until("the new version", || {
        (0..20).all(|_| is_served(&place) == 2_000)
    });
    let answers = results(map);
    assert!(
        answers
            .iter()
            .enumerate()
            .all(|(at, answer)| answer[0] == at),
        "{answers:?}"
    );
    let versions = answers.iter().map(|answer| answer[1].as_u64().unwrap());
    assert!(versions.clone().any(|version| version == 1));
    assert!(
        versions
            .clone()
            .all(|version| [1, 2_000].contains(&version))
    );
    let calls = &place.status()["calls"];
    assert_eq!(
        (&calls["lost"], &calls["retried"], &calls["failed"]),
        (&json!(0), &json!(0), &json!(0))
    );
    std::fs::write(&file, "def version(x:\n").unwrap();
    place.ok(&["reload"]);
    wait_until("the log says why", || {
        place.ok(&["logs", "w"]).contains("methods.py, line 1")
    });
    assert_eq!(is_served(&place), 2_000);
}

#[test]
fn a_followed_log_goes_on_through_the_workers_own_end_until_it_is_interrupted() {
    let mut place = Place::new();
    let mut worker = place.cluster(METHODS, "1", &[]);
    place.ok(&["call", "--text", "say", "long ago"]);
    let log_has = |place: &Place, text: &str| place.ok(&["logs", "w"]).contains(text);
    wait_until("it to be logged", || log_has(&place, "long ago"));
    let mut follower = place
        .command("muster")
        .args(["logs", "w", "-f", "--lines", "1"])
        .spawn()
        .unwrap();
    place.pids.push(follower.id());
    let (sender, lines) = std::sync::mpsc::channel();
    let stdout = BufReader::new(follower.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        for line in stdout.lines() {
            let _ = sender.send(line.unwrap());
        }
    });
    let follows = |text: &str| {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            let Ok(line) = lines.recv_timeout(left) else {
                panic!("no line with {text:?} in {seen:#?}");
            };
            seen.push(line);
            if seen.last().is_some_and(|line| line.contains(text)) {
                return seen;
            }
        }
    };
    // It begins with the last line.
    let first = lines.recv_timeout(std::time::Duration::from_secs(60));
    assert!(first.is_ok());
    place.ok(&["call", "--text", "say", "while it lasts"]);
    let seen = follows("while it lasts");
    assert!(
        !seen.iter().any(|line| line.contains("long ago")),
        "{seen:#?}"
    );
    worker.kill().unwrap();
    worker.wait().unwrap();
    let path = place.folder.path().join("methods.py");
    place.start(
        "muster-worker",
        &["-n", "1", "--name", "w", "--python", path.to_str().unwrap()],
    );
    place.ok(&["wait", "--slots", "1", "--timeout", "60"]);
    place.ok(&["call", "--text", "say", "after the end"]);
    let seen = follows("after the end");
    let again = seen.iter().filter(|line| line.contains("while it lasts"));
    assert_eq!(again.count(), 0, "nothing is shown twice: {seen:#?}");
    kill(follower.id(), Signal::INT);
    // For a shell that is 130.
    assert_eq!(end_of(&mut follower).signal(), Some(2));
    reader.join().unwrap();
}

#[test]
fn nothing_is_left_of_a_worker_that_is_killed() {
    let mut place = Place::new();
    let mut worker = place.cluster(METHODS, "2", &["--builtin", "--prefix", "py."]);
    let pids: Vec<u32> = cluster_pids(&place).into_iter().skip(1).collect();
    assert!(pids.len() >= 3, "{pids:?}");
    kill(worker.id(), Signal::KILL);
    worker.wait().unwrap();
    wait_until("every process to end", || {
        !pids.iter().any(|&pid| is_alive(pid))
    });
    wait_until("the broker to notice", || {
        place.ok(&["workers", "--json"]).trim().is_empty()
    });
}
