//! What a worker does with its child processes: limits, fresh ones, environment, and whatever they
//! leave behind.

mod common;

use common::{Broker, Program, call, chunk, kill, until};
use muster_proto::code::Code;
use muster_proto::worker::{Command, SlotReady};
use muster_test_support::is_alive;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;

const METHODS: &str = r#"
import os, subprocess, sys, time

def pid():
    return os.getpid()

def version():
    return 1

def fill(mib):
    print("filling", file=sys.stderr, flush=True)
    blocks = [b"x" * (1 << 20) for _ in range(mib)]
    time.sleep(1000)

def leave(code):
    print("bye", file=sys.stderr, flush=True)
    os._exit(code)

def start(detached):
    return subprocess.Popen(["sleep", "1000"], start_new_session=detached).pid

def variables():
    return sorted(os.environ)

def descriptors():
    folder = "/proc/self/fd"
    there = [f"{folder}/{number}" for number in os.listdir(folder)]
    # The listing's own is gone.
    return [os.readlink(path) for path in there if os.path.islink(path)]
"#;

/// A Python file of a test.
struct File(tempfile::TempDir);

impl File {
    fn new() -> Self {
        let file = File(tempfile::tempdir().unwrap());
        file.write(METHODS);
        file
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("methods.py")
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path(), text).unwrap();
    }
}

/// A worker with so many slots that offers the functions above.
fn host(slots: &str, flags: &[&str]) -> (Broker, Program, File) {
    let file = File::new();
    let path = file.path();
    let mut all = vec!["-n", slots, "--python", path.to_str().unwrap()];
    all.extend(flags);
    let mut broker = Broker::start();
    let program = Program::join(&broker, &all);
    broker.await_slots(slots.parse().unwrap());
    (broker, program, file)
}

#[test]
fn a_child_that_had_its_calls_is_replaced_between_two_of_them() {
    let (mut broker, _program, _file) = host("1", &["--recycle", "4"]);
    let first = broker.slot_pid(1);
    // Ten short calls in one message: they are there before the first child had its four.
    broker.send_calls(1, &vec![call("pid", ""); 10]);
    let pids: Vec<Value> = (0..10).map(|_| broker.reply().ok()).collect();
    let distinct: BTreeSet<u64> = pids.iter().map(|pid| pid.as_u64().unwrap()).collect();
    assert_eq!(distinct.len(), 3, "{pids:?}");
    assert!(pids[..4].iter().all(|pid| *pid == first), "{pids:?}");
    assert!(pids[4..8].iter().all(|pid| *pid == pids[4]), "{pids:?}");
    // A chunk is never interrupted, and its items count.
    let items = format!("[{}]", ["[]"; 9].join(","));
    let answer = broker.run(1, chunk("pid", &items)).ok();
    let results = answer["result"].as_array().or(answer.as_array()).unwrap();
    assert!(results.iter().all(|item| item == &results[0]), "{answer}");
    let after = broker.ok("pid", "");
    assert_ne!(results[0]["result"], after);
    let ready: SlotReady = broker.message(Command::Ready).json();
    assert_eq!(ready.slot, 1);
    assert!(!broker.has_message(Command::Lost));
}

#[test]
fn a_child_beyond_its_memory_is_ended_and_the_slot_goes_on() {
    let (mut broker, _program, _file) = host("1", &["--memory-max", "100M"]);
    let pid = broker.slot_pid(1);
    broker.send_calls(1, &[call("fill", "[400]")]);
    let lost = broker.lost();
    assert_eq!((lost.pid, lost.signal), (pid, Some(9)));
    assert!(lost.out_of_memory && !lost.on_purpose);
    let tail = &lost.stderr_tail;
    assert!(tail.starts_with("filling\nended at "), "{tail}");
    assert!(tail.contains("--memory-max is 100 MiB"), "{tail}");
    broker.message(Command::Ready);
    assert_ne!(broker.ok("pid", ""), pid);
}

#[test]
fn crashes_of_a_child_between_which_calls_are_answered_are_no_loop() {
    let (mut broker, _program, _file) = host("1", &[]);
    for _ in 0..6 {
        let pid = broker.ok("pid", "");
        broker.send_calls(1, &[call("leave", "[3]")]);
        let lost = broker.lost();
        assert_eq!((json!(lost.pid), lost.exit_code), (pid, Some(3)));
        assert_eq!(lost.backoff_ms, 0);
        broker.message(Command::Ready);
    }
}

#[test]
fn a_loop_of_crashes_is_given_up_for_its_slot_alone_until_a_reload() {
    let (mut broker, mut program, _file) = host("2", &[]);
    let other = broker.slot_pid(2);
    let mut waits = Vec::new();
    for _ in 0..5 {
        broker.send_calls(1, &[call("leave", "[3]")]);
        let lost = broker.lost();
        assert_eq!(
            (lost.exit_code, lost.stderr_tail.as_str()),
            (Some(3), "bye\n")
        );
        waits.push(lost.backoff_ms);
        if waits.len() < 5 {
            broker.message(Command::Ready);
        }
    }
    assert_eq!(waits[..2], [0, 0], "{waits:?}");
    assert!(waits[2] >= 75 && waits[3] >= 75, "{waits:?}");
    assert!(waits[4] > 20_000, "{waits:?}");
    program.await_line("slot=w.1: five Python children ended within a minute");
    assert_eq!(broker.run(2, call("pid", "")).ok(), other);
    broker.command(Command::Reload, Vec::new());
    broker.message(Command::Ready);
    assert_eq!(broker.ok("version", ""), 1);
}

#[test]
fn a_reload_gives_every_slot_a_fresh_child_and_tells_what_it_offers() {
    for builtin in [&[][..], &["--builtin", "--prefix", "py."]] {
        let (mut broker, mut program, file) = host("2", builtin);
        let prefix = if builtin.is_empty() { "" } else { "py." };
        let named = |name: &str| format!("{prefix}{name}");
        let before = [broker.slot_pid(1), broker.slot_pid(2)];
        file.write(
            &METHODS
                .replace("return 1", "return 1000")
                .replace("def fill", "def fill_up"),
        );
        broker.command(Command::Reload, Vec::new());
        program.await_line("reloaded, ");
        for slot in 1..=2 {
            let answer = broker.run(slot, call(&named("version"), ""));
            assert_eq!(answer.ok(), 1000);
            let pid = broker.run(slot, call(&named("pid"), "")).ok();
            assert_ne!(pid, before[slot as usize - 1]);
        }
        let mut offered = Vec::new();
        while !offered.contains(&named("fill_up")) {
            let changed: muster_proto::worker::Registration =
                broker.message(Command::Changed).json();
            offered = changed
                .methods
                .into_iter()
                .map(|method| method.name)
                .collect();
        }
        assert!(!offered.contains(&named("fill")), "{offered:?}");
        assert!(!broker.has_message(Command::Lost));
        // A file that can't be loaded changes nothing.
        file.write("def version(:\n");
        broker.command(Command::Reload, Vec::new());
        let line = program.await_line("it goes on as before");
        assert!(line.contains("methods.py, line 1"), "{line}");
        assert_eq!(broker.ok(&named("version"), ""), 1000);
    }
}

#[test]
fn what_a_function_started_ends_with_its_child_wherever_it_went() {
    let (mut broker, _program, _file) = host("1", &[]);
    let near = broker.ok("start", "[false]").as_u64().unwrap() as u32;
    let far = broker.ok("start", "[true]").as_u64().unwrap() as u32;
    assert!(is_alive(near) && is_alive(far));
    kill(broker.slot_pid(1), Signal::KILL);
    broker.lost();
    until("both ended", || !is_alive(near) && !is_alive(far));
}

#[test]
fn nothing_outlives_a_killed_slot_or_a_killed_supervisor() {
    let (mut broker, program, _file) = host("2", &["--builtin", "--prefix", "py."]);
    let start = |broker: &mut Broker, slot, detached: &str| {
        let answer = broker.run(slot, call("py.start", detached));
        answer.ok().as_u64().unwrap() as u32
    };
    let of_first = [
        start(&mut broker, 1, "[false]"),
        start(&mut broker, 1, "[true]"),
    ];
    let of_second = [
        start(&mut broker, 2, "[false]"),
        start(&mut broker, 2, "[true]"),
    ];
    // The slot's own process, not its Python child.
    let slots = common::children_of(program.pid());
    let python = broker.slot_pid(1);
    let first = *slots
        .iter()
        .find(|&&pid| common::children_of(pid).contains(&python))
        .expect("one of them has the child");
    kill(first, Signal::KILL);
    broker.lost();
    until("what slot 1 started ended", || {
        !is_alive(python) && of_first.iter().all(|&pid| !is_alive(pid))
    });
    assert!(of_second.iter().all(|&pid| is_alive(pid)));
    kill(program.pid(), Signal::KILL);
    until("what slot 2 started ended", || {
        of_second.iter().chain(&slots).all(|&pid| !is_alive(pid))
    });
}

#[test]
#[cfg(target_os = "linux")]
fn children_have_pipes_and_no_descriptor_of_the_worker() {
    let file = File::new();
    let mut broker = Broker::start();
    let runtime_dir = broker.runtime_dir().to_str().unwrap().to_owned();
    let path = file.path();
    let path = path.to_str().unwrap();
    let mut all = vec!["--runtime-dir", &runtime_dir, "--name", "w", "-n", "1"];
    // `find` prints what each descriptor is. It has some of its own, for folders.
    let find = r"fds=find /proc/self/fd -type l -printf '%l\n'";
    all.extend(["--python", path, "--command", find, "--allow-run"]);
    let _program = Program::start(&all);
    broker.await_slots(1);
    let python = broker.ok("descriptors", "");
    let python = python.as_array().unwrap().iter();
    let python = python
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    let command = broker.ok("fds", "");
    let run = r#"[["find", "/proc/self/fd", "-type", "l", "-printf", "%l\n"]]"#;
    let run = broker.ok("muster.run", run)["stdout"].clone();
    let lines = |text: &Value| {
        let lines = text.as_str().unwrap().lines();
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    for found in [python, lines(&command), lines(&run)] {
        assert!(found.len() >= 3, "{found:?}");
        let is_own = |name: &String| {
            let is_folder = PathBuf::from(name).is_dir() || name.starts_with("/proc/");
            name.starts_with("pipe:") || name == "/dev/null" || is_folder
        };
        assert!(found.iter().all(is_own), "{found:?}");
    }
}

#[test]
fn children_get_the_environment_they_are_to_have() {
    let file = File::new();
    let path = file.path();
    let start = |broker: &Broker, flags: &[&str]| {
        let runtime_dir = broker.runtime_dir().to_str().unwrap().to_owned();
        let path = path.to_str().unwrap();
        let mut all = vec!["--runtime-dir", &runtime_dir, "--name", "w", "-n", "1"];
        all.extend(["--python", path, "--command", "env=env", "--allow-run"]);
        all.extend(flags);
        Program::start_with(&all, |command| {
            command
                .env("SECRET", "s")
                .env("KEPT_1", "k")
                .env("LC_ALL", "C.UTF-8");
        })
    };
    for (flags, has_secret, has_kept) in [
        (&[][..], true, true),
        (&["--clean-env"], false, false),
        (&["--clean-env", "--keep-env", "KEPT_*"], false, true),
    ] {
        let mut broker = Broker::start();
        let _program = start(&broker, flags);
        broker.await_slots(1);
        let mut lists = vec![broker.ok("variables", "")];
        let lines = |text: &Value| {
            let names = text.as_str().unwrap().lines();
            let names = names.filter_map(|line| Some(line.split_once('=')?.0.to_owned()));
            json!(names.collect::<Vec<_>>())
        };
        lists.push(lines(&broker.ok("env", "")));
        lists.push(lines(&broker.ok("muster.run", r#"[["env"]]"#)["stdout"]));
        for list in &lists {
            let has = |name: &str| list.as_array().unwrap().contains(&json!(name));
            assert!(has("PATH") && has("LC_ALL"), "{list}");
            assert_eq!(
                (has("SECRET"), has("KEPT_1")),
                (has_secret, has_kept),
                "{flags:?}: {list}"
            );
        }
    }
}

#[test]
fn programs_of_clients_are_run_only_when_allowed() {
    let mut broker = Broker::start();
    let _program = Program::join(&broker, &["-n", "1"]);
    let registration = broker.await_slots(1);
    assert!(!registration.allow_run);
    assert!(
        registration
            .methods
            .iter()
            .all(|method| method.name != "muster.run")
    );
    let error = broker.error("muster.run", r#"[["id"]]"#);
    assert_eq!(error["code"], Code::MethodNotFound.number());

    let mut broker = Broker::start();
    let _program = Program::join(&broker, &["-n", "1", "--allow-run"]);
    let registration = broker.await_slots(1);
    assert!(registration.allow_run);
    let names = registration.methods.iter();
    let names: Vec<_> = names.map(|method| (&*method.name, method.once)).collect();
    assert_eq!(names, [("muster.run", true)]);
    let ran = broker.ok("muster.run", r#"{"argv": ["echo", "$(id)", "a b"]}"#);
    assert_eq!(
        (&ran["stdout"], &ran["exit_code"]),
        (&json!("$(id) a b\n"), &json!(0))
    );
    assert_eq!(ran["worker"], "w");
    // A cancel ends it with what it started.
    let script = r#"{"argv": ["sh", "-c", "sleep 1000 & echo $! > \"$0\"; wait", "PATH"]}"#;
    let note = broker.runtime_dir().join("pid");
    let script = script.replace("PATH", note.to_str().unwrap());
    let number = broker.send_calls(1, &[call("muster.run", &script)])[0];
    until("it started", || {
        std::fs::read_to_string(&note).is_ok_and(|text| text.ends_with('\n'))
    });
    let text = std::fs::read_to_string(&note).unwrap();
    let name = broker.slot_call(1, broker.last_seq(1), number);
    broker.command(Command::Cancel, vec![name]);
    assert_eq!(broker.reply().error()["code"], Code::Cancelled.number());
    let grandchild = text.trim().parse().unwrap();
    until("it ended", || !is_alive(grandchild));
}

#[test]
fn the_log_is_a_private_file_that_says_what_children_print() {
    use std::os::unix::fs::PermissionsExt;
    let file = File::new();
    let state = tempfile::tempdir().unwrap();
    let mut broker = Broker::start();
    let runtime_dir = broker.runtime_dir().to_str().unwrap().to_owned();
    let path = file.path();
    let flags = [
        "--runtime-dir",
        &runtime_dir,
        "--name",
        "w",
        "-n",
        "1",
        "--builtin",
    ];
    let flags = [
        &flags[..],
        &["--prefix", "py.", "--python", path.to_str().unwrap()],
    ]
    .concat();
    let mut program = Program::start_with(&flags, |command| {
        command.env("XDG_STATE_HOME", state.path());
    });
    broker.await_slots(1);
    broker.send_calls(1, &[call("py.leave", "[4]")]);
    broker.lost();
    program.signal(Signal::TERM);
    assert!(program.wait().success());
    let log = state.path().join("muster/default/workers/w.log");
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&log), mode(log.parent().unwrap())), (0o600, 0o700));
    let text = std::fs::read_to_string(&log).unwrap();
    for part in ["slot=w.1 output: bye", "(exit code 4)", "worker=w: stopped"] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    assert!(!text.contains('\u{1b}'));
}
