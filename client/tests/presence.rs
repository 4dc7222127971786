//! Where a cluster lives on one machine: nothing typed, nobody else let in, nothing left behind.

#![allow(clippy::zombie_processes)]

mod place;

use muster_test_support::is_alive;
use place::{EXAMPLES, Place, cluster_pids, kill, programs, wait_until};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_killed_up_takes_its_broker_and_worker_with_it() {
    let mut place = Place::new();
    let (mut up, _) = place.up(&["-n", "2", "--python", EXAMPLES]);
    let pids = cluster_pids(&place);
    assert!(pids.len() >= 4, "{pids:?}");
    kill(up.id(), Signal::KILL);
    up.wait().unwrap();
    wait_until("every process to end", || {
        !pids.iter().any(|pid| is_alive(*pid))
    });
    // What is left is no hindrance to the next one.
    let (_up, line) = place.up(&["-n", "1"]);
    assert!(line.starts_with("ready: 1 slot,"), "{line}");
}

#[test]
fn nobody_else_gets_in_whatever_the_umask_says() {
    for umask in ["000", "022", "077"] {
        let place = Place::new();
        let muster = programs().join("muster");
        let line = format!("umask {umask}; exec {} up --detach -n 1", muster.display());
        let up = place
            .command("/bin/sh")
            .args(["-c", &line])
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&up.stderr);
        assert!(up.status.success(), "umask {umask}: {stderr}");
        assert_eq!(place.ok(&["call", "add", "1", "2"]), "3\n");
        let folder = place.runtime().join("test");
        assert_eq!(mode(&folder), 0o700, "umask {umask}");
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                assert_eq!(mode(&path), 0o600, "umask {umask}: {}", path.display());
            }
        }
        place.ok(&["down"]);
    }
}

#[test]
fn a_dead_brokers_files_are_replaced_and_a_living_ones_are_not() {
    let mut place = Place::new();
    let mut first = place.start("muster-broker", &[]);
    place.ok(&["wait", "--slots", "0", "--timeout", "60"]);
    let pid = place.status()["pid"].clone();
    for program in ["muster-broker", "muster"] {
        let args: &[&str] = if program == "muster" { &["up"] } else { &[] };
        let second = place.command(program).args(args).output().unwrap();
        assert!(!second.status.success(), "{program}");
        let stderr = String::from_utf8_lossy(&second.stderr);
        assert!(stderr.contains("already"), "{program} says: {stderr}");
    }
    assert_eq!(place.status()["pid"], pid);
    first.kill().unwrap();
    first.wait().unwrap();
    let folder = place.runtime().join("test");
    assert!(
        folder.join("frontend").exists(),
        "a killed broker leaves its socket"
    );
    // Nobody home: said within a second, and the next one moves in.
    let output = place.muster(&["call", "add", "1", "2"]);
    assert_eq!(output.status.code(), Some(69));
    let _next = place.start("muster-broker", &[]);
    place.ok(&["wait", "--slots", "0", "--timeout", "60"]);
    assert_ne!(place.status()["pid"], pid);
}

#[test]
fn a_directory_that_others_can_enter_or_that_is_a_link_is_not_used() {
    let place = Place::new();
    let folder = place.runtime().join("test");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o770)).unwrap();
    let output = place.muster(&["up", "-n", "1"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && stderr.contains("mode"),
        "{stderr}"
    );
    let _ = fs::remove_dir(&folder);
    let elsewhere = place.folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &folder).unwrap();
    let output = place.muster(&["up", "-n", "1"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && stderr.contains("link"),
        "{stderr}"
    );
    fs::remove_file(&folder).unwrap();
}

#[test]
fn an_ipc_path_that_is_too_long_is_named() {
    let place = Place::new();
    let long = place.folder.path().join("x".repeat(120));
    for program in ["muster-broker", "muster"] {
        let mut command = place.command(program);
        command.env("MUSTER_RUNTIME_DIR", &long);
        if program == "muster" {
            command.arg("up");
        }
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(
            stderr.contains("limit 107") && stderr.contains("--runtime-dir"),
            "{program}: {stderr}"
        );
    }
}
