//! `muster run`, its joblog and that of `muster map`, with real processes.

#![allow(clippy::zombie_processes)]

mod place;

use muster_test_support::end_of;
use place::{Place, kill, wait_until};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Output;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The rows of a joblog, by place: exit, signal, command, attempts.
fn rows(path: &Path) -> Vec<(u64, String, String, String, String)> {
    let log = fs::read_to_string(path).unwrap();
    let mut lines = log.lines();
    let header = lines.next().unwrap();
    let columns =
        "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\tKey\tAttempts";
    assert_eq!(header, columns);
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            assert_eq!(fields.len(), 11, "{line}");
            let field = |at: usize| fields[at].to_owned();
            (
                field(0).parse().unwrap(),
                field(6),
                field(7),
                field(8),
                field(10),
            )
        })
        .collect()
}

fn run_in(place: &Place, args: &[&str]) -> Output {
    let mut command = place.command("muster");
    command
        .current_dir(place.folder.path())
        .arg("run")
        .args(args);
    command.output().unwrap()
}

#[test]
fn jobs_write_to_their_own_streams_in_the_order_of_the_items() {
    let mut place = Place::new();
    let (_up, _) = place.up(&["-n", "3", "--allow-run"]);
    let output = run_in(
        &place,
        &[
            "-q",
            "sleep 0.{}; echo out {}; echo err {} >&2; exit $(({#} % 2))",
            ":::",
            "3",
            "2",
            "1",
        ],
    );
    assert_eq!(text(&output.stdout), "out 3\nout 2\nout 1\n");
    let stderr = text(&output.stderr);
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!(lines[0], "err 3");
    assert!(
        lines[1].starts_with("muster: job 1: exit code 1: sleep 0.3; "),
        "{stderr}"
    );
    assert_eq!(lines[2], "err 2");
    assert_eq!(lines[3], "err 1");
    assert_eq!(output.status.code(), Some(1));

    // Several words are a program: nothing in an item means anything to a shell.
    let output = place.muster_with_input(
        &["run", "-q", "-0", "printf", "<%s>", "{}"],
        b"$(id)\n'\0a b\0",
    );
    assert_eq!(text(&output.stdout), "<$(id)\n'><a b>");
    // Jobs work where the command was typed, or where it says.
    let output = run_in(&place, &["-q", "pwd; : {}", ":::", "x"]);
    let folder = fs::canonicalize(place.folder.path()).unwrap();
    assert_eq!(text(&output.stdout), format!("{}\n", folder.display()));
    let output = run_in(&place, &["-q", "--chdir", "/", "pwd; : {}", ":::", "x"]);
    assert_eq!(text(&output.stdout), "/\n");
    // Bytes that are no text come through.
    let output = run_in(&place, &["-q", "printf '\\377\\000'; : {}", ":::", "x"]);
    assert_eq!(output.stdout, [0xff, 0]);
    let output = run_in(&place, &["--json", "kill -9 $$; : {}", ":::", "x"]);
    let job: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&job["signal"], &job["seq"], &job["item"]),
        (&9.into(), &1.into(), &"x".into())
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_dry_run_needs_no_cluster_and_wrong_usage_is_told() {
    let place = Place::new();
    let output = run_in(
        &place,
        &["--dry-run", "gzip {} > {.}.z", ":::", "a b.txt", "c"],
    );
    assert_eq!(
        text(&output.stdout),
        "gzip 'a b.txt' > 'a b'.z\ngzip c > c.z\n"
    );
    assert_eq!(output.status.code(), Some(0));
    for wrong in [
        &[":::", "a"][..],
        &["sleep 1", "--json", ":::", "a"],
        &["--resume", "ls", ":::", "a"],
        &["--joblog", "x", "--no-wait", "ls", ":::", "a"],
        &["--retries", "0", "ls", ":::", "a"],
    ] {
        assert_eq!(run_in(&place, wrong).status.code(), Some(2), "{wrong:?}");
    }
    assert_eq!(run_in(&place, &["ls", ":::", "a"]).status.code(), Some(69));
}

#[test]
fn without_a_worker_that_allows_it_nothing_runs() {
    let mut place = Place::new();
    let (_up, _) = place.up(&["-n", "1"]);
    let output = run_in(&place, &["touch", ":::", "made"]);
    assert_eq!(output.status.code(), Some(69));
    assert!(text(&output.stderr).contains("muster-worker --allow-run"));
    assert!(!place.folder.path().join("made").exists());
}

#[test]
fn a_job_runs_once_unless_retries_are_asked_for() {
    let mut place = Place::new();
    let (_up, _) = place.up(&["-n", "2", "--allow-run"]);
    let folder = place.folder.path().to_owned();
    let marks = |name: &str| {
        fs::read_to_string(folder.join(name))
            .unwrap_or_default()
            .lines()
            .count()
    };
    let output = run_in(
        &place,
        &["--joblog", "log", "echo x >> {}; exit 4", ":::", "once"],
    );
    assert_eq!((output.status.code(), marks("once")), (Some(1), 1));
    let output = run_in(
        &place,
        &[
            "--joblog",
            "log",
            "--retries",
            "3",
            "echo x >> {}; exit 4",
            ":::",
            "thrice",
        ],
    );
    assert_eq!((output.status.code(), marks("thrice")), (Some(1), 3));
    let (_, exit, _, _, attempts) = rows(&folder.join("log")).remove(0);
    assert_eq!((exit.as_str(), attempts.as_str()), ("4", "3"));

    // A job whose worker is killed has failed, and is not started again on the other one.
    let mut more = place.start(
        "muster-worker",
        &["-n", "1", "--allow-run", "--name", "more"],
    );
    place.ok(&["wait", "--slots", "3", "--timeout", "60"]);
    let mut child = place
        .command("muster")
        .current_dir(&folder)
        .args(["run", "--joblog", "log", "--to", "more"])
        .args(["echo x >> {}; exec sleep 60", ":::", "killed"])
        .spawn()
        .unwrap();
    wait_until("the job to run", || marks("killed") == 1);
    more.kill().unwrap();
    more.wait().unwrap();
    assert_eq!(end_of(&mut child).code(), Some(1));
    assert_eq!(marks("killed"), 1);
    let log = rows(&folder.join("log"));
    assert_eq!(log.len(), 1);
    assert_ne!(log[0].1, "0");
}

#[test]
fn an_interrupt_ends_the_jobs_and_all_they_started() {
    let mut place = Place::new();
    let (_up, _) = place.up(&["-n", "2", "--allow-run"]);
    let folder = place.folder.path().to_owned();
    let mut child = place
        .command("muster")
        .current_dir(&folder)
        .args([
            "run",
            "echo $$ > {}; sleep 61; :",
            ":::",
            "a",
            "b",
            "c",
            "d",
        ])
        .spawn()
        .unwrap();
    let pid = |name: &str| -> Option<u32> {
        fs::read_to_string(folder.join(name))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    wait_until("two jobs to run", || {
        pid("a").is_some() && pid("b").is_some()
    });
    kill(child.id(), Signal::INT);
    assert_eq!(end_of(&mut child).code(), Some(130));
    for name in ["a", "b"] {
        wait_until("the jobs to end", || {
            !muster_test_support::is_alive(pid(name).unwrap())
        });
    }
    assert!(pid("c").is_none());
}

#[test]
fn jobs_go_on_behind_a_command_that_does_not_wait() {
    let mut place = Place::new();
    let (_up, _) = place.up(&["-n", "2", "--allow-run"]);
    let folder = place.folder.path().to_owned();
    let output = run_in(
        &place,
        &[
            "--no-wait",
            "sleep 0.1; touch {}",
            ":::",
            "a",
            "b",
            "c",
            "d",
            "e",
        ],
    );
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(0), String::new())
    );
    wait_until("every job to have run", || {
        ["a", "b", "c", "d", "e"]
            .iter()
            .all(|name| folder.join(name).exists())
    });
}

/// A folder of files, a kill -9 of `muster run` in the middle, a resume.
#[test]
fn a_killed_run_is_resumed_where_it_was() {
    const FILES: usize = 120;
    const SLOTS: usize = 3;
    let mut place = Place::new();
    let (_up, _) = place.up(&["-n", "3", "--allow-run"]);
    let folder = place.folder.path().join("files");
    fs::create_dir(&folder).unwrap();
    let mut items = String::new();
    for n in 0..FILES {
        fs::write(
            folder.join(format!("{n:03} x.txt")),
            format!("content {n}\n"),
        )
        .unwrap();
        items += &format!("{n:03} x.txt\n");
    }
    // What a job does is seen: a line in a file beside its own.
    let job = "echo done >> {.}.mark; sleep 0.01; cat {}";
    let args = |resume: &'static str| {
        let mut args = vec!["run", "-q", "--joblog", "../log"];
        args.extend(Some(resume).filter(|flag| !flag.is_empty()));
        args.push(job);
        args
    };
    let start = |args: &[&str]| {
        let input = fs::File::from(std::os::fd::OwnedFd::from({
            let path = place.folder.path().join("items");
            fs::write(&path, &items).unwrap();
            fs::File::open(path).unwrap()
        }));
        let mut command = place.command("muster");
        command.current_dir(&folder).args(args).stdin(input);
        command.spawn().unwrap()
    };
    let log = place.folder.path().join("log");
    let logged = || {
        fs::read_to_string(&log)
            .unwrap_or_default()
            .lines()
            .count()
            .saturating_sub(1)
    };
    let mut killed = start(&args(""));
    wait_until("some jobs to be logged", || logged() >= FILES / 4);
    killed.kill().unwrap();
    killed.wait().unwrap();
    let before = logged();
    assert!(before < FILES, "it was done before it was killed");
    let resumed = start(&args("--resume")).wait_with_output().unwrap();
    assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed.stderr));
    let mut seen = BTreeMap::new();
    for (seq, exit, signal, _, attempts) in rows(&log) {
        assert_eq!(
            (exit.as_str(), signal.as_str(), attempts.as_str()),
            ("0", "0", "1")
        );
        *seen.entry(seq).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), FILES);
    assert!(
        seen.values().all(|count| *count == 1),
        "a job was run that the log had"
    );
    // Twice run at most what was under way at the kill and so is in no log.
    let marks: Vec<usize> = (0..FILES)
        .map(|n| {
            let text = fs::read_to_string(folder.join(format!("{n:03} x.mark"))).unwrap();
            text.lines().count()
        })
        .collect();
    let twice = marks.iter().filter(|count| **count == 2).count();
    assert!(
        marks.iter().all(|count| [1, 2].contains(count)),
        "{marks:?}"
    );
    assert!(twice <= SLOTS + SLOTS / 4 + 2, "{twice} jobs ran twice");
    // What was left out printed nothing, the others their file.
    assert_eq!(text(&resumed.stdout).lines().count(), FILES - before);
    // Once more: nothing is left to do.
    let again = start(&args("--resume")).wait_with_output().unwrap();
    assert_eq!((again.status.code(), again.stdout.len()), (Some(0), 0));
}

#[test]
fn what_failed_runs_again_with_resume_failed() {
    let mut place = Place::new();
    let (_up, _) = place.up(&["-n", "2", "--allow-run"]);
    let folder = place.folder.path().to_owned();
    let command = ["--joblog", "log", "test -e {} && echo {}"];
    fs::write(folder.join("a"), "").unwrap();
    let with = |flag: &[&str]| {
        let args = [&command[..2], flag, &command[2..], &[":::", "a", "b"]].concat();
        let output = run_in(&place, &args);
        (output.status.code(), text(&output.stdout))
    };
    assert_eq!(with(&[]), (Some(1), "a\n".into()));
    fs::write(folder.join("b"), "").unwrap();
    assert_eq!(with(&["--resume"]), (Some(0), String::new()));
    assert_eq!(with(&["--resume-failed"]), (Some(0), "b\n".into()));
    assert_eq!(with(&["--resume-failed"]), (Some(0), String::new()));
}

#[test]
fn a_map_is_resumed_by_line_and_content() {
    let mut place = Place::new();
    let (_up, _) = place.up(&["-n", "2"]);
    let log = place.folder.path().join("log");
    let log_flag = log.to_str().unwrap();
    let map = |flags: &[&str], input: &str| {
        let args = [&["map", "echo", "-q", "--joblog", log_flag], flags].concat();
        let output = place.muster_with_input(&args, input.as_bytes());
        (output.status.code(), text(&output.stdout))
    };
    assert_eq!(map(&[], "1\n2\n3\n"), (Some(0), "1\n2\n3\n".into()));
    assert_eq!(rows(&log)[2].3, "echo 3");
    // The second line is another one, and there is a fourth.
    assert_eq!(
        map(&["--resume"], "1\n22\n3\n4\n"),
        (Some(0), "22\n4\n".into())
    );
    assert_eq!(
        map(&["--resume"], "1\n22\n3\n4\n"),
        (Some(0), String::new())
    );
    let failing = ["map", "fail", "-q", "--joblog", log_flag];
    assert_eq!(
        place.muster_with_input(&failing, b"x\n").status.code(),
        Some(1)
    );
    assert_eq!(rows(&log).len(), 1);
    assert_eq!(rows(&log)[0].1, "1");
    fs::write(&log, "something else\n").unwrap();
    assert_eq!(map(&["--resume"], "1\n").0, Some(2));
    assert_eq!(fs::read_to_string(&log).unwrap(), "something else\n");
}

#[test]
fn a_killed_map_prints_every_line_once_its_resume_included() {
    const LINES: u64 = 3_000;
    let mut place = Place::new();
    let (_up, _) = place.up(&["-n", "2"]);
    let folder = place.folder.path().to_owned();
    fs::write(folder.join("in"), place::numbers(LINES)).unwrap();
    let start = |flags: &[&str]| {
        let out = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join("out"))
            .unwrap();
        let mut command = place.command("muster");
        command.current_dir(&folder).stdout(out);
        command.args([
            "map",
            "echo",
            "--single",
            "--in-flight",
            "2",
            "--joblog",
            "log",
        ]);
        command.args(flags).arg("in").spawn().unwrap()
    };
    let mut killed = start(&[]);
    let lines = |name: &str| {
        fs::read_to_string(folder.join(name))
            .unwrap_or_default()
            .lines()
            .count()
    };
    wait_until("some lines", || lines("log") > 300);
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(end_of(&mut start(&["--resume"])).code(), Some(0));
    let mut seen = BTreeMap::new();
    for line in fs::read_to_string(folder.join("out")).unwrap().lines() {
        *seen.entry(line.parse::<u64>().unwrap()).or_insert(0) += 1;
    }
    assert_eq!(seen.len() as u64, LINES);
    // What was printed and not yet logged is printed again: the block at the kill.
    assert!(seen.values().filter(|count| **count > 1).count() <= 2);
}

/// What `muster run` with these words shows on a terminal, its standard output going to a file.
fn on_a_terminal(place: &Place, words: &str) -> String {
    let muster = place.command("muster");
    let environment = muster
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    let program = muster.get_program().display();
    let line = format!("stty cols 80 rows 24; '{program}' run {words} > out");
    let output = std::process::Command::new("script")
        .env_clear()
        .envs(environment)
        .env("TERM", "xterm")
        .current_dir(place.folder.path())
        .args(["-qec", &line, "/dev/null"])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("script, of util-linux");
    text(&output.stdout)
}

#[test]
fn a_person_sees_how_far_it_is_and_nobody_else_does() {
    let mut place = Place::new();
    let (_up, _) = place.up(&["-n", "2", "--allow-run"]);
    let words = "'sleep 0.3; echo said {} >&2; test {} != c' ::: a b c d e f";
    let shown = on_a_terminal(&place, words);
    // Of six jobs some are done before all are, and one has failed.
    let has_part = ["33 %", "50 %", "66 %", "83 %"]
        .iter()
        .any(|part| shown.contains(part));
    assert!(has_part && shown.contains("1 failed"), "{shown}");
    // What jobs write begins a line of its own, in their order, and the bar is gone at the end.
    let at = |item: char| shown.find(&format!("said {item}\r\n"));
    let places: Vec<_> = "abcdef".chars().map(at).collect();
    assert!(places.iter().all(Option::is_some), "{shown}");
    assert!(places.is_sorted(), "{shown}");
    let last = shown.rsplit("\x1b[2K").next().unwrap();
    assert!(last.starts_with("muster: done: 6 jobs"), "{shown}");

    for quiet in ["-q", "--no-progress"] {
        let shown = on_a_terminal(&place, &format!("{quiet} {words}"));
        assert!(!shown.contains(" %"), "{shown}");
    }
    let output = run_in(&place, &["sleep 0.3; : {}", ":::", "a", "b"]);
    assert!(!text(&output.stderr).contains(" %"));
}
