//! Caps and their names, methods nobody knows, the end of the broker.

use crate::story::{Body, Story, at_worker, call, config, keyed, offer};
use muster_core::{Config, NewCall, Target, WorkerKind};
use std::time::Duration;

#[test]
fn a_full_queue_sheds_by_name_and_recovers() {
    let config = Config {
        queued_calls_max: 2,
        ..config()
    };
    let mut story = Story::pool(config, &[1], &["m"]);
    for _ in 0..4 {
        story.submit(1, call("m"));
    }
    story.says(&["run c1.1 s11#1", "k1 c0 overloaded queued_calls 2"]);
    story.reply(11, 1, 1, 9_000).submit(1, call("m"));
    story.says(&["k1 c1 =1", "run c2.1 s11#2"]);
}

#[test]
fn caps_may_be_as_large_as_numbers_go() {
    let config = Config {
        queued_calls_max: usize::MAX,
        queued_bytes_max: usize::MAX,
        client_calls_max: usize::MAX,
        ..config()
    };
    let mut story = Story::pool(config, &[1], &["m"]);
    story.submit(1, call("m")).says(&["run c1.1 s11#1"]);
}

#[test]
fn a_full_queue_is_full_for_those_who_filled_it() {
    let config = Config {
        queued_calls_max: 128,
        queued_bytes_max: 128_000,
        ..config()
    };
    let mut story = Story::pool(config, &[1], &["m", "n"]);
    for _ in 0..1 + 128 {
        story.submit(1, call("m"));
    }
    story.says(&["run c1.1 s11#1"]);
    story
        .submit(1, call("n"))
        .says(&["k1 c0 overloaded queued_calls 128"]);
    // Others with little of their own find room, until an eighth more is used.
    for client in 2..2 + 8 {
        for _ in 0..2 {
            story.submit(client, call("n")).says(&[]);
        }
        let refusal = format!("k{client} c0 overloaded queued_calls 128");
        story.submit(client, call("n")).says(&[&refusal]);
    }
    story
        .submit(99, call("n"))
        .says(&["k99 c0 overloaded queued_calls 128"]);
}

#[test]
fn a_queue_full_of_bytes_is_full_for_those_who_filled_it() {
    let config = Config {
        queued_calls_max: 1_280,
        queued_bytes_max: 6_400,
        ..config()
    };
    let mut story = Story::pool(config, &[1], &["m"]);
    let of = |bytes: usize| NewCall {
        request: Body(bytes),
        ..call("m")
    };
    story.submit(1, of(10)).submit(1, of(6_400));
    story.says(&["run c1.1 s11#1"]);
    story
        .submit(1, of(10))
        .says(&["k1 c0 overloaded queued_bytes 6400"]);
    story
        .submit(2, of(100))
        .says(&["k2 c0 overloaded queued_bytes 6400"]);
    story.submit(2, of(99)).says(&[]);
    story
        .submit(2, of(1))
        .says(&["k2 c0 overloaded queued_bytes 6400"]);
    // What was answered counts no more.
    story.client_gone(1).lines();
    story.submit(2, of(1)).says(&[]);
}

#[test]
fn queued_bytes_are_capped() {
    let config = Config {
        queued_bytes_max: 25,
        ..config()
    };
    let mut story = Story::pool(config, &[1], &["m"]);
    for _ in 0..4 {
        story.submit(1, call("m"));
    }
    story.says(&["run c1.1 s11#1", "k1 c0 overloaded queued_bytes 25"]);
    let small = NewCall {
        request: Body(5),
        ..call("m")
    };
    story.submit(1, small).says(&[]);
    assert_eq!(story.core.status().queued_bytes, 25);
}

#[test]
fn a_keyed_call_found_again_counts_with_its_new_bytes() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.submit(1, call("m")).submit(1, keyed("m", "a"));
    let longer = NewCall {
        request: Body(300),
        ..keyed("m", "a")
    };
    story.submit(2, longer);
    assert_eq!(story.core.status().queued_bytes, 300);
}

#[test]
fn it_can_not_grow_beyond_the_cap() {
    let config = Config {
        queued_bytes_max: 25,
        ..config()
    };
    let mut story = Story::pool(config, &[1], &["m"]);
    story.submit(1, call("m")).submit(1, keyed("m", "a"));
    let longer = NewCall {
        request: Body(26),
        ..keyed("m", "a")
    };
    story.submit(2, longer);
    story.says(&["run c1.1 s11#1", "k2 c0 overloaded queued_bytes 25"]);
    story.reply(11, 1, 1, 9_000).reply(11, 2, 1, 9_000);
    story.says(&["k1 c1 =1", "run c2.1 s11#2", "k1 c2 =2"]);
}

#[test]
fn one_clients_open_calls_are_capped() {
    let config = Config {
        client_calls_max: 2,
        ..config()
    };
    let mut story = Story::pool(config, &[1], &["m"]);
    for _ in 0..3 {
        story.submit(1, call("m"));
    }
    story.submit(2, call("m"));
    story.says(&["run c1.1 s11#1", "k1 c0 overloaded client_calls 2"]);
    assert_eq!(story.core.status().queued, 2);
}

#[test]
fn classes_are_capped_and_idle_ones_make_room() {
    let config = Config {
        classes_max: 3,
        ..config()
    };
    let names = ["a", "b", "c", "d", "e"];
    let mut story = Story::pool(config, &[1], &names);
    for name in &names[..4] {
        story.submit(1, call(name));
    }
    story.says(&["run c1.1 s11#1", "k1 c0 overloaded classes 3"]);
    for id in 1..=3 {
        story.reply(11, id, 1, 9_000);
    }
    story.lines();
    story.submit(1, call("d")).submit(1, call("e"));
    story.says(&["run c4.1 s11#4"]);
}

#[test]
fn an_unknown_method_waits_for_a_first_worker_and_no_longer() {
    let mut story = Story::new();
    story.submit(1, call("nope")).wait_ms(2_999).says(&[]);
    story.wait_ms(1).says(&["k1 c1 not found, no workers"]);
    story
        .submit(1, call("nope"))
        .says(&["k1 c0 not found, no workers"]);
}

#[test]
fn the_first_worker_ends_the_wait_of_what_it_does_not_know() {
    let mut story = Story::new();
    story.submit(1, call("nope")).submit(1, call("m")).says(&[]);
    story.worker(1, WorkerKind::Managed, offer(&["m"]));
    story.says(&["k1 c1 not found"]);
    story.join(1, 1).says(&["run c2.1 s11#1"]);
    story.submit(1, call("nope")).says(&["k1 c0 not found"]);
}

#[test]
fn a_known_method_and_a_raw_body_wait_for_a_worker() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story
        .submit(1, call("old"))
        .submit(1, crate::story::to(Target::Raw));
    story.worker_gone(1).submit(1, call("m"));
    story.wait_ms(60_000).says(&[]);
    story.worker(2, WorkerKind::Managed, offer(&["old", "m"]));
    story.join(2, 1).says(&["run c1.1 s21#1"]);
    story
        .reply(21, 1, 1, 9_000)
        .says(&["k1 c1 =1", "run c3.1 s21#2"]);
    assert_eq!(story.core.status().queued, 1);
}

#[test]
fn a_drain_ends_what_waits_and_finishes_what_runs() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.submit(1, call("m")).submit(1, call("m"));
    story.drain(Duration::from_secs(1));
    story.says(&["run c1.1 s11#1", "k1 c2 draining"]);
    story.submit(1, call("m")).says(&["k1 c0 draining"]);
    story.reply(11, 1, 1, 9_000).says(&["k1 c1 =1", "drained"]);
    story.wait_ms(2_000).says(&[]);
}

#[test]
fn a_drain_does_not_wait_longer_than_its_grace() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.submit(1, call("m")).drain(Duration::from_millis(500));
    story.says(&["run c1.1 s11#1"]);
    story.wait_ms(500);
    story.says(&["cancel c1.1 s11#1", "k1 c1 draining", "drained"]);
}

#[test]
fn a_drain_with_nothing_to_do_is_over_at_once() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.drain(Duration::from_secs(9)).says(&["drained"]);
    let heartbeat = story.now.after_micros(3_000_000);
    assert_eq!(
        story.core.poll_deadline(),
        Some(heartbeat),
        "the grace is waited for no more"
    );
}

#[test]
fn a_drain_is_over_when_the_last_call_expires() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    let short = NewCall {
        timeout: Some(Duration::from_millis(10)),
        ..call("m")
    };
    story.submit(1, short).drain(Duration::from_secs(9));
    story.wait_ms(10);
    story.says(&[
        "run c1.1 s11#1 10ms",
        "cancel c1.1 s11#1",
        "k1 c1 expired running",
        "drained",
    ]);
}

#[test]
fn a_call_lost_during_a_drain_runs_again() {
    let mut story = Story::pool(config(), &[1, 1], &["m"]);
    story.submit(1, call("m")).drain(Duration::from_secs(9));
    story.says(&["run c1.1 s11#1"]);
    story.slot_gone(11).says(&["run c1.2 s21#1"]);
    story.reply(21, 1, 2, 9).says(&["k1 c1 =1", "drained"]);
}

#[test]
fn a_notification_that_ends_as_it_comes_is_acknowledged_all_the_same() {
    let mut story = Story::new();
    let silent = NewCall {
        is_notification: true,
        ..call("nope")
    };
    // The settling time is over, and nobody has told the core so.
    story.now = story.now.after_micros(3_000_000);
    story.submit(1, silent).says(&["k1 ack refused"]);
}

#[test]
fn method_names_are_remembered_up_to_a_cap() {
    let mut story = Story::new();
    let names: Vec<String> = (0..=100_000).map(|n| format!("m{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    story.worker(1, WorkerKind::Managed, offer(&names));
    // One that was there before the worker came.
    assert_eq!(story.core.known().len(), 100_000);
    story.worker(2, WorkerKind::Managed, offer(&["m0", "new"]));
    assert_eq!(story.core.known().len(), 100_000);
}

#[test]
fn a_call_for_a_worker_that_nobody_knows_waits_while_the_first_ones_may_still_come() {
    let mut story = Story::new();
    story.submit(1, at_worker("m", "w9")).says(&[]);
    story.wait_ms(3_001).says(&["k1 c1 not found, no workers"]);
    story.submit(1, at_worker("m", "w9"));
    story.says(&["k1 c0 not found, no workers"]);
}
