//! `--json` prints what docs/commands.md says: members may be added, and none may go.

#![allow(clippy::zombie_processes)]

mod place;

use muster_test_support::end_of;
use place::{EXAMPLES, Place, wait_until};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/commands.md");

/// Of each command in the table its members. `result` or `error` is one of them, `error` not both.
fn documented() -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(DOCUMENT).unwrap();
    let table = text.split("<!-- json -->").nth(1).unwrap();
    let rows = table
        .lines()
        .skip(3)
        .take_while(|line| line.starts_with('|'));
    let words = |cell: &str| -> Vec<String> {
        cell.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    };
    let mut found = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').collect();
        for command in words(cells[1]) {
            found.insert(command, words(cells[2]));
        }
    }
    found
}

#[test]
fn every_member_that_is_documented_is_printed() {
    let documented = documented();
    assert!(documented.len() > 15, "{documented:?}");
    let place = Place::new();
    let mut seen = BTreeSet::new();
    let mut check = |command: &str, output: &str| {
        let members = &documented[command];
        let lines: Vec<&str> = output.lines().collect();
        assert!(!lines.is_empty(), "{command} prints nothing");
        for line in lines {
            let object: Value = serde_json::from_str(line).unwrap();
            let object = object.as_object().unwrap();
            let either = object.contains_key("result") || object.contains_key("error");
            for member in members {
                let is_there = object.contains_key(member)
                    || ["result", "error"].contains(&member.as_str()) && either;
                assert!(is_there, "muster {command}: no `{member}` in {line}");
            }
        }
        seen.insert(command.to_owned());
    };
    let up = [
        "up", "--detach", "-n", "2", "--name", "w", "--json", "--python", EXAMPLES,
    ];
    check("up --detach", &place.ok(&up));
    check("call", &place.ok(&["call", "multiply", "5", "3", "--json"]));
    let failed = place.muster(&["call", "multiply", "5", "--json"]);
    check("call", &String::from_utf8(failed.stdout).unwrap());
    check(
        "call --all",
        &place.ok(&["call", "is_even", "5", "--all", "--json"]),
    );
    check("methods", &place.ok(&["methods", "--json"]));
    check("help", &place.ok(&["help", "f1", "--json"]));
    check("status", &place.ok(&["status", "--json"]));
    check(
        "status --endpoints",
        &place.ok(&["status", "--endpoints", "--json"]),
    );
    check("workers", &place.ok(&["workers", "--json"]));
    check(
        "workers --slots",
        &place.ok(&["workers", "--slots", "--json"]),
    );
    check("ls", &place.ok(&["ls", "--json"]));
    check("doctor", &place.ok(&["doctor", "--json"]));
    check("wait", &place.ok(&["wait", "--slots", "2", "--json"]));
    let mut long = place.command("muster");
    let mut long = long
        .args(["call", "f1", "60", "1", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut calls = String::new();
    wait_until("the call to run", || {
        calls = place.ok(&["calls", "--running", "--json"]);
        !calls.is_empty()
    });
    check("calls", &calls);
    let call: Value = serde_json::from_str(calls.lines().next().unwrap()).unwrap();
    check(
        "cancel",
        &place.ok(&["cancel", call["id"].as_str().unwrap(), "--json"]),
    );
    assert_eq!(end_of(&mut long).code(), Some(1));
    check("reload", &place.ok(&["reload", "--json"]));
    check("scale", &place.ok(&["scale", "3", "--json"]));
    place.ok(&["wait", "--slots", "3", "--timeout", "60"]);
    let dry = ["run", "--json", "--dry-run", "ls", ":::", "a", "b"];
    check("run --dry-run", &place.ok(&dry));
    check("down", &place.ok(&["down", "--json"]));
    // A drained worker leaves, and with it the cluster that it was started with.
    place.ok(&up);
    check("drain", &place.ok(&["drain", "w", "--json"]));
    let unseen: Vec<_> = documented
        .keys()
        .filter(|name| !seen.contains(*name))
        .collect();
    // Its members are looked at where jobs are run.
    assert_eq!(unseen, ["run"]);
}
