//! The commands that watch, with a real broker and a real worker; `muster top` in a real terminal.

// A cluster ends and reaps what it started.
#![allow(clippy::zombie_processes)]

use muster_test_support::end_of;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(60);

fn program(name: &str) -> PathBuf {
    muster_test_support::program(env!("CARGO_BIN_EXE_muster"), name)
}

/// A broker and one worker `w` with one slot and the built-in functions.
struct Cluster {
    folder: tempfile::TempDir,
    children: Vec<Child>,
}

impl Cluster {
    fn start() -> Self {
        let mut cluster = Cluster {
            folder: tempfile::tempdir().unwrap(),
            children: Vec::new(),
        };
        cluster.spawn("muster-broker", &[]);
        cluster.spawn("muster-worker", &["-n", "1", "--name", "w"]);
        cluster.ok(&["wait", "--slots", "1", "--timeout", "60"]);
        cluster
    }

    fn command(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program(name));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.folder.path())
            .env("TERM", "xterm-256color")
            .env("MUSTER_RUNTIME_DIR", self.folder.path().join("run"))
            .args(args)
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// In the background; gives what reads its output.
    fn spawn(&mut self, name: &str, args: &[&str]) -> BufReader<std::process::ChildStdout> {
        let mut command = self.command(name, args);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        self.children.push(child);
        BufReader::new(stdout)
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command("muster", args).output().unwrap()
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, args: &[&str]) -> Vec<Value> {
        let text = self.ok(&[args, &["--json"]].concat());
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Makes a call that nobody waits for and gives its id once it is where it should be.
    fn park(&self, state: &str) -> String {
        self.ok(&["call", "--no-wait", "sleep", "60"]);
        let mut id = String::new();
        wait_until("the call", || {
            let calls = self.json(&["calls", state]);
            id = calls
                .last()
                .map_or(String::new(), |call| call["id"].as_str().unwrap().into());
            !id.is_empty()
        });
        id
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn wait_until(what: &str, is_true: impl FnMut() -> bool) {
    muster_test_support::wait_until(what, DEADLINE, is_true);
}

#[test]
fn a_call_that_waits_is_explained_and_one_that_failed_is_remembered() {
    let cluster = Cluster::start();
    assert!(!cluster.run(&["call", "sleep", "soon"]).status.success());
    let failed = &cluster.json(&["calls", "--failed"])[0];
    assert_eq!(
        (&failed["method"], &failed["error"]["code"]),
        (&"sleep".into(), &(-32602).into())
    );
    assert_eq!(cluster.json(&["calls", "--slow"]).len(), 1);
    let id = failed["id"].as_str().unwrap();
    assert_eq!(cluster.json(&["explain", id])[0]["why"], "it has ended");
    let running = cluster.park("--running");
    let waiting = cluster.park("--queued");
    let text = cluster.ok(&["explain", &running]);
    assert!(text.contains("running on w.1: it runs"), "{text}");
    let told = &cluster.json(&["explain", &waiting])[0];
    assert_eq!(
        (&told["position"], &told["waiting"]),
        (&0.into(), &1.into())
    );
    assert_eq!(told["workers"][0]["obstacle"], "busy");
    let text = cluster.ok(&["explain", &waiting]);
    assert!(text.contains("w: all its slots are busy"), "{text}");
    let unknown = cluster.run(&["explain", "c999999"]);
    assert!(!unknown.status.success());
}

#[test]
fn stats_share_the_calls_out_over_workers_slots_and_methods() {
    let cluster = Cluster::start();
    for _ in 0..3 {
        cluster.ok(&["call", "sleep", "0.05"]);
    }
    cluster.run(&["call", "sleep", "soon"]);
    let rows = cluster.json(&["stats"]);
    for (kind, name) in [("worker", "w"), ("slot", "w.1"), ("method", "sleep")] {
        let row = rows.iter().find(|row| row[kind] == name).unwrap();
        assert_eq!(
            (&row["calls"], &row["failures"]),
            (&4.into(), &1.into()),
            "{row}"
        );
        assert_eq!(row["share"], 1.0, "{row}");
        assert!(row["service_s"].as_f64().unwrap() >= 0.15, "{row}");
        assert!(row["service_us"].as_f64().unwrap() >= 37_500.0, "{row}");
    }
}

#[test]
fn events_are_told_in_order_and_traces_put_them_together() {
    let mut cluster = Cluster::start();
    let mut events = cluster.spawn("muster", &["events", "--json", "--filter", "call."]);
    let mut trace = cluster.spawn("muster", &["trace", "sleep", "-n", "1", "--json"]);
    // Subscribed once the first call is told: until then calls are made.
    let mut line = String::new();
    let (sender, told) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for _ in 0..6 {
            line.clear();
            if events.read_line(&mut line).unwrap() == 0 {
                break;
            }
            let _ = sender.send(serde_json::from_str::<Value>(&line).unwrap());
        }
    });
    let mut heard = Vec::new();
    wait_until("two calls", || {
        cluster.ok(&["call", "sleep", "0"]);
        heard.extend(told.try_iter());
        heard.len() >= 6
    });
    reader.join().unwrap();
    let names: Vec<&str> = heard
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    let first = names
        .iter()
        .position(|name| *name == "call.admitted")
        .unwrap();
    let order = ["call.admitted", "call.dispatched", "call.answered"];
    assert_eq!(names[first..first + 3], order, "{names:?}");
    let numbers: Vec<u64> = heard
        .iter()
        .map(|event| event["seq"].as_u64().unwrap())
        .collect();
    assert!(
        numbers.windows(2).all(|pair| pair[0] < pair[1]),
        "{numbers:?}"
    );
    let mut line = String::new();
    trace.read_line(&mut line).unwrap();
    let life: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&life["method"], &life["end"]),
        (&"sleep".into(), &"ok".into())
    );
    assert!(life["call"].is_string(), "{life}");
}

#[test]
fn one_call_is_followed_until_it_ends() {
    let mut cluster = Cluster::start();
    let id = cluster.park("--running");
    let waiting = cluster.park("--queued");
    let mut trace = cluster.spawn("muster", &["trace", &waiting, "--json"]);
    let mut tell = || {
        let mut line = String::new();
        trace.read_line(&mut line).unwrap();
        serde_json::from_str::<Value>(&line).unwrap()
    };
    let state = tell();
    assert_eq!(
        (&state["id"], &state["state"]),
        (&waiting.as_str().into(), &"queued".into())
    );
    // The one in front of it goes, so it is its turn; then it goes, too.
    cluster.ok(&["cancel", &id]);
    let event = tell();
    assert_eq!(
        (&event["event"], &event["slot"]),
        (&"call.dispatched".into(), &"w.1".into())
    );
    cluster.ok(&["cancel", &waiting]);
    let event = tell();
    assert_eq!(
        (&event["event"], &event["error"]["code"]),
        (&"call.cancelled".into(), &(-32004).into())
    );
    let mut trace = cluster.children.pop().unwrap();
    assert_eq!(end_of(&mut trace).code(), Some(1));
    // Of one that has ended there is nothing to wait for.
    let ended = cluster.run(&["trace", &id, "--json"]);
    assert_eq!(ended.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(told["error"]["code"], -32004);
}

#[test]
fn a_filter_lets_events_of_some_names_through() {
    let mut cluster = Cluster::start();
    let args = ["events", "--json", "-n", "2", "--filter", "worker."];
    let mut events = cluster.spawn("muster", &args);
    let reader = std::thread::spawn(move || {
        let mut lines = Vec::new();
        for _ in 0..2 {
            let mut line = String::new();
            events.read_line(&mut line).unwrap();
            lines.push(serde_json::from_str::<Value>(&line).unwrap());
        }
        lines
    });
    let mut turn = 0;
    wait_until("two events of workers", || {
        turn += 1;
        let name = format!("guest-{turn}");
        cluster.ok(&["call", "sleep", "0"]);
        cluster.spawn("muster-worker", &["-n", "1", "--name", &name]);
        cluster.ok(&["wait", "--slots", "2", "--timeout", "60"]);
        cluster.ok(&["drain", &name]);
        wait_until("the guest to leave", || {
            cluster.json(&["workers"]).len() == 1
        });
        reader.is_finished()
    });
    for event in reader.join().unwrap() {
        let name = event["event"].as_str().unwrap();
        assert!(name.starts_with("worker."), "{event}");
    }
}

#[test]
fn without_the_events_door_the_status_tells_what_it_can() {
    let mut cluster = Cluster::start();
    let args = [
        "events",
        "--poll",
        "--json",
        "-n",
        "1",
        "--filter",
        "call.answered",
    ];
    let mut events = cluster.spawn("muster", &args);
    let reader = std::thread::spawn(move || {
        let mut line = String::new();
        events.read_line(&mut line).unwrap();
        line
    });
    wait_until("the event", || {
        cluster.ok(&["call", "sleep", "0"]);
        reader.is_finished()
    });
    let event: Value = serde_json::from_str(&reader.join().unwrap()).unwrap();
    assert_eq!(event["what"], "succeeded");
    assert!(event["calls"].as_u64() >= Some(1), "{event}");
}

#[test]
fn top_without_a_terminal_prints_one_picture() {
    let cluster = Cluster::start();
    cluster.park("--running");
    let text = cluster.ok(&["top"]);
    assert!(
        text.contains("slots 1 of 1 busy") && text.contains("w.1"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "{text}");
    assert_eq!(cluster.json(&["top"])[0]["slots"][0]["state"], "busy");
}

/// A terminal of its own, by tmux.
struct Screen {
    socket: PathBuf,
}

impl Screen {
    fn open(cluster: &Cluster, command: &str) -> Option<Self> {
        if !Command::new("tmux")
            .arg("-V")
            .output()
            .is_ok_and(|output| output.status.success())
        {
            eprintln!("SKIPPED: tmux is not installed");
            return None;
        }
        let screen = Screen {
            socket: cluster.folder.path().join("tmux"),
        };
        let muster = program("muster");
        let run = cluster.folder.path().join("run");
        let line = format!(
            "MUSTER_RUNTIME_DIR={} {command} {} top",
            run.display(),
            muster.display()
        );
        let size = [
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "120",
            "-y",
            "30",
            &line,
        ];
        assert!(screen.tmux(&size).status.success());
        Some(screen)
    }

    fn tmux(&self, args: &[&str]) -> Output {
        let mut command = Command::new("tmux");
        command
            .env("LC_ALL", "C.UTF-8")
            .arg("-u")
            .arg("-S")
            .arg(&self.socket)
            .args(args);
        command.output().unwrap()
    }

    /// Its text, with the codes of colours when asked for.
    fn text(&self, with_codes: bool) -> String {
        let codes: &[&str] = if with_codes { &["-e"] } else { &[] };
        let output = self.tmux(&[&["capture-pane", "-p"], codes].concat());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn shows(&self, text: &str) {
        let mut last = String::new();
        let deadline = Instant::now() + DEADLINE;
        while !last.contains(text) {
            assert!(
                Instant::now() < deadline,
                "no {text:?} on the screen:\n{last}"
            );
            std::thread::sleep(Duration::from_millis(50));
            last = self.text(false);
        }
    }

    fn press(&self, key: &str) {
        assert!(self.tmux(&["send-keys", key]).status.success());
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

/// Whether a `muster top` of this cluster runs.
fn top_runs(cluster: &Cluster) -> bool {
    let folder = cluster.folder.path().to_str().unwrap().as_bytes();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.map(|process| process.path()).any(|process| {
        let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let environment = std::fs::read(process.join("environ")).unwrap_or_default();
        line.ends_with(b"muster\0top\0")
            && environment.windows(folder.len()).any(|part| part == folder)
    })
}

#[test]
fn top_ends_with_its_terminal() {
    let cluster = Cluster::start();
    let Some(screen) = Screen::open(&cluster, "env") else {
        return;
    };
    screen.shows("muster top");
    assert!(top_runs(&cluster));
    drop(screen);
    let deadline = Instant::now() + DEADLINE;
    while top_runs(&cluster) {
        assert!(Instant::now() < deadline, "it goes on without a terminal");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn top_is_watched_sorted_resized_and_used_in_a_terminal() {
    let cluster = Cluster::start();
    let call = cluster.park("--running");
    let Some(screen) = Screen::open(&cluster, "env") else {
        return;
    };
    screen.shows("slots 1 of 1 busy");
    screen.shows("100%");
    screen.shows(&call);
    screen.press("s");
    screen.shows("STATE▾");
    screen.press("r");
    screen.shows("STATE▴");
    screen.tmux(&["resize-window", "-x", "70", "-y", "20"]);
    screen.shows("muster top");
    screen.press("c");
    screen.shows(&format!("cancel {call}? y/n"));
    screen.press("y");
    screen.shows(&format!("{call} is cancelled"));
    screen.shows("Cancelled");
    screen.press("d");
    screen.shows("let w finish and leave? y/n");
    screen.press("n");
    screen.shows("left alone");
    screen.press("q");
    wait_until("the end", || {
        !screen.tmux(&["has-session"]).status.success()
    });
}

#[test]
fn top_has_no_colour_when_nobody_wants_any() {
    let cluster = Cluster::start();
    let Some(screen) = Screen::open(&cluster, "env NO_COLOR=1") else {
        return;
    };
    screen.shows("slots 0 of 1 busy");
    let text = screen.text(true);
    // Bold and reversed are fine; 3x and 9x are colours.
    let is_colour =
        |code: &str| matches!(code.len(), 2) && (code.starts_with('3') || code.starts_with('9'));
    let codes = text
        .split("\u{1b}[")
        .skip(1)
        .filter_map(|rest| rest.split_once('m'));
    for (codes, _) in codes {
        assert!(
            !codes.split(';').any(|code| is_colour(code) && code != "39"),
            "{codes}: {text:?}"
        );
    }
}
