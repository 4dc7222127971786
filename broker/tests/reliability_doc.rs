//! Holds docs/reliability.md and the code against each other: every default of its table, and every
//! test that it names.

use clap::CommandFactory;
use muster_broker::cli::Cli;
use muster_core::Config;
use muster_proto::limits;
use std::collections::BTreeMap;
use std::path::Path;

const DOCUMENT: &str = include_str!("../../docs/reliability.md");

/// The rows of the tables whose first line starts with `head`, cell by cell.
fn rows(head: &str) -> Vec<Vec<&'static str>> {
    let mut rows = Vec::new();
    let mut lines = DOCUMENT.lines();
    while let Some(line) = lines.next() {
        if line.starts_with(head) {
            let body = lines.by_ref().skip(1);
            let body = body.take_while(|line| line.starts_with('|'));
            rows.extend(body.map(|line| {
                let cells = line.trim_matches('|').split('|');
                cells.map(str::trim).collect::<Vec<_>>()
            }));
        }
    }
    assert!(!rows.is_empty(), "no table starts with {head}");
    rows
}

/// What stands between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn the_defaults_are_the_codes() {
    let config = Config::default();
    let ms = |length: std::time::Duration| length.as_millis().to_string();
    let mut coded = BTreeMap::from([
        (
            "MESSAGE_FRAMES_MAX".to_owned(),
            limits::MESSAGE_FRAMES_MAX.to_string(),
        ),
        (
            "LINK_BYTES_MAX".to_owned(),
            limits::LINK_BYTES_MAX.to_string(),
        ),
        ("DEPTH_MAX".to_owned(), limits::DEPTH_MAX.to_string()),
        (
            "BATCH_CALLS_MAX".to_owned(),
            limits::BATCH_CALLS_MAX.to_string(),
        ),
        (
            "CHUNK_ITEMS_MAX".to_owned(),
            limits::CHUNK_ITEMS_MAX.to_string(),
        ),
        (
            "METHOD_BYTES_MAX".to_owned(),
            limits::METHOD_BYTES_MAX.to_string(),
        ),
        (
            "WORKER_METHODS_MAX".to_owned(),
            limits::WORKER_METHODS_MAX.to_string(),
        ),
        (
            "WORKER_SLOTS_MAX".to_owned(),
            limits::WORKER_SLOTS_MAX.to_string(),
        ),
        (
            "OUTBOX_REPLIES_MAX".to_owned(),
            limits::OUTBOX_REPLIES_MAX.to_string(),
        ),
        (
            "OUTBOX_BYTES_MAX".to_owned(),
            limits::OUTBOX_BYTES_MAX.to_string(),
        ),
        ("HANDSHAKE_MS".to_owned(), limits::HANDSHAKE_MS.to_string()),
        ("HEARTBEAT_MS".to_owned(), limits::HEARTBEAT_MS.to_string()),
        (
            "HEARTBEATS_MISSED_MAX".to_owned(),
            limits::HEARTBEATS_MISSED_MAX.to_string(),
        ),
        ("classes_max".to_owned(), config.classes_max.to_string()),
        ("orphan_grace".to_owned(), ms(config.orphan_grace)),
        ("answer_kept".to_owned(), ms(config.answer_kept)),
        ("answers_max".to_owned(), config.answers_max.to_string()),
        (
            "answers_bytes_max".to_owned(),
            config.answers_bytes_max.to_string(),
        ),
        ("retry_backoff".to_owned(), ms(config.retry_backoff)),
        ("retry_backoff_max".to_owned(), ms(config.retry_backoff_max)),
    ]);
    for flag in Cli::command().get_arguments() {
        let value = flag.get_default_values().first();
        if let (Some(name), Some(value)) = (flag.get_long(), value) {
            let value = value.to_str().unwrap().to_owned();
            coded.insert(format!("--{name}"), value);
        }
    }
    for row in rows("| limit |") {
        let name = quoted(row[1]).next().unwrap();
        assert_eq!(
            coded.get(name).map(String::as_str),
            Some(row[2]),
            "{name}: the code's value, and the document's"
        );
    }
}

#[test]
fn every_test_that_is_named_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut named = 0;
    for row in rows("| | fault |") {
        let (fault, tests) = (row[1], row[4]);
        let is_named = tests.contains('`') || tests.contains("no test");
        assert!(is_named, "{fault}: neither a test nor `no test`");
        for test in quoted(tests) {
            let Some((path, name)) = test.split_once("::") else {
                let script = test.split(' ').next().unwrap();
                assert!(root.join(script).is_file(), "{script}");
                continue;
            };
            let text = std::fs::read_to_string(root.join(path));
            let text = text.unwrap_or_else(|error| panic!("{path}: {error}"));
            let is_there = ["fn", "def"]
                .iter()
                .any(|word| text.contains(&format!("{word} {name}(")));
            assert!(is_there, "{path} has no test {name}");
            named += 1;
        }
    }
    assert!(named > 40, "{named} tests are named");
}

/// The rows of the failure matrix, by their numbers.
#[test]
fn the_matrix_is_whole() {
    let numbers: Vec<&str> = rows("| | fault |").into_iter().map(|row| row[0]).collect();
    let expected = [
        ("W", 1..=20),
        ("C", 1..=10),
        ("B", 1..=14),
        ("N", 1..=6),
        ("S", 1..=3),
        ("E", 1..=1),
    ];
    // Those of the journal, which there is none of yet.
    let journal = ["B2", "B4", "B5", "B6", "B7"];
    for (letter, range) in expected {
        for number in range {
            let row = format!("{letter}{number}");
            let is_there = numbers.contains(&row.as_str());
            assert_ne!(is_there, journal.contains(&row.as_str()), "{row}");
        }
    }
}
