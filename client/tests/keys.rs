//! `muster keys` against a real broker with keys.

#![allow(clippy::zombie_processes)]

mod place;

use place::{Place, wait_until};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;

/// A broker whose TCP doors ask for keys, and a worker that multiplies.
fn keyed() -> Place {
    let mut place = Place::new();
    place.start(
        "muster-broker",
        &["--listen", "tcp://127.0.0.1:0", "--curve"],
    );
    place.start("muster-worker", &["-n", "1", "--python", place::EXAMPLES]);
    place.ok(&["wait", "--slots", "1", "--timeout", "60"]);
    place
}

#[test]
fn a_key_is_made_used_limited_listed_and_revoked_without_a_restart() {
    let place = keyed();
    let file = place.folder.path().join("anna.json");
    let file = file.to_str().unwrap();
    let made = place.ok(&[
        "keys",
        "new",
        "--role",
        "client",
        "--name",
        "anna",
        "--methods",
        "is_*",
        "-o",
        file,
        "--json",
    ]);
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!(
        (&made["name"], &made["role"]),
        (&"anna".into(), &"client".into())
    );
    assert!(!made.to_string().contains("secret"), "{made}");
    let mode = std::fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // As on another machine: nothing but the file.
    let with_key = |args: &[&str]| place.muster(&[args, &["--connection", file]].concat());
    let called = with_key(&["call", "is_even", "4"]);
    assert_eq!(String::from_utf8_lossy(&called.stdout), "true\n");
    let refused = with_key(&["call", "multiply", "5", "3"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(77), "{said}");
    for admins in [
        &["keys", "list"][..],
        &["keys", "revoke", "admin"],
        &["scale", "2"],
    ] {
        assert_eq!(with_key(admins).status.code(), Some(77), "{admins:?}");
    }

    let list = place.ok(&["keys", "list"]);
    let anna = list.lines().find(|line| line.starts_with("anna")).unwrap();
    let words: Vec<&str> = anna.split_whitespace().collect();
    assert_eq!(words[..4], ["anna", "client", "valid", "is_*"], "{list}");
    for line in place.ok(&["keys", "list", "--json"]).lines() {
        let key: Value = serde_json::from_str(line).unwrap();
        assert!(key["public_key"].is_string() && key.get("secret_key").is_none());
    }

    place.ok(&["keys", "revoke", "anna"]);
    let refused = with_key(&["call", "is_even", "4", "--timeout", "20"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(77), "{said}");
    assert!(place.ok(&["keys", "list"]).contains("revoked"));
    assert_eq!(
        place.muster(&["keys", "revoke", "anna"]).status.code(),
        Some(1)
    );
}

#[test]
fn a_workers_key_lets_a_worker_of_another_machine_in() {
    let mut place = keyed();
    let file = place.folder.path().join("w.json");
    let file = file.to_str().unwrap();
    place.ok(&[
        "keys", "new", "--role", "worker", "--name", "far", "--output", file,
    ]);
    place.start(
        "muster-worker",
        &["--connection", file, "-n", "1", "--name", "far"],
    );
    wait_until("the far worker", || place.ok(&["workers"]).contains("far"));
    place.ok(&["keys", "revoke", "far"]);
    wait_until("the far worker to be gone", || {
        !place.ok(&["workers"]).contains("far")
    });
}

#[test]
fn what_is_there_is_not_overwritten_and_no_key_is_left_behind() {
    let place = keyed();
    let before = place.ok(&["keys", "list", "--json"]);
    let file = place.folder.path().join("taken.json");
    std::fs::write(&file, "mine").unwrap();
    let file = file.to_str().unwrap();
    let refused = place.muster(&["keys", "new", "--role", "admin", "-o", file]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is there already"));
    assert_eq!(std::fs::read_to_string(file).unwrap(), "mine");
    assert_eq!(place.ok(&["keys", "list", "--json"]), before);
    // A name that is taken leaves no empty file.
    let other = place.folder.path().join("other.json");
    let taken = ["keys", "new", "--role", "client", "--name", "client", "-o"];
    let refused = place.muster(&[&taken[..], &[other.to_str().unwrap()]].concat());
    assert_eq!(refused.status.code(), Some(1));
    assert!(!other.exists());
    // Standard output is a file, too.
    let text = place.ok(&["keys", "new", "--role", "client", "-o", "-"]);
    let connection: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(connection["curve"]["role"], "client");
    assert!(
        connection["frontend"]
            .as_str()
            .unwrap()
            .starts_with("tcp://")
    );
}

#[test]
fn a_broker_without_keys_says_how_to_have_some() {
    let mut place = Place::new();
    place.start("muster-broker", &[]);
    place.ok(&["wait", "--slots", "0", "--timeout", "60"]);
    let refused = place.muster(&["keys", "list"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("--curve"), "{said}");
}
