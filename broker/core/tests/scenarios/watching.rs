//! What those who watch or ask are told.

use crate::story::{Story, call, config};
use muster_core::{HowEnded, Obstacle};
use muster_proto::id::CallId;

#[test]
fn nobody_watches_and_nothing_is_noted() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story
        .submit(1, call("m"))
        .reply(11, 1, 1, 9_000)
        .says(&["run c1.1 s11#1", "k1 c1 =1"]);
}

#[test]
fn each_step_of_a_call_is_noted_in_order_while_somebody_watches() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.core.watch(true);
    story.submit(1, call("m")).reply(11, 1, 1, 9_000);
    let words: Vec<String> = story
        .lines()
        .iter()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().take(2).collect();
            words.join(" ")
        })
        .collect();
    let expected = [
        "note Admitted",
        "note Dispatched",
        "run c1.1",
        "note Answered",
        "k1 c1",
    ];
    assert_eq!(words, expected);
    story.core.watch(false);
    story.submit(1, call("nope")).says(&["k1 c0 not found"]);
}

#[test]
fn ended_calls_are_remembered_with_how_long_they_took() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.submit(1, call("m")).wait_ms(7).reply(11, 1, 1, 9_000);
    let ended = story.core.ended(CallId(1)).expect("it ended just now");
    assert_eq!(ended.how, HowEnded::Succeeded);
    assert_eq!(ended.ended.since(ended.admitted).as_millis(), 7);
    assert_eq!(ended.slot.as_ref().map(|(slot, _)| slot.0), Some(11));
    let latency = story.core.method("m").unwrap().latency;
    assert_eq!((latency.counts[7], latency.sum_us), (1, 7_000));
    assert_eq!(story.core.slowest_calls(5).len(), 1);
    assert_eq!(story.core.failed_calls().count(), 0);
}

#[test]
fn a_waiting_call_is_told_what_keeps_each_worker_from_it() {
    let mut story = Story::pool(config(), &[1, 1], &["m"]);
    for _ in 0..3 {
        story.submit(1, call("m"));
    }
    let obstacles = story.core.obstacles(CallId(3));
    assert_eq!(obstacles.len(), 2);
    assert!(
        obstacles
            .iter()
            .all(|(_, obstacle)| *obstacle == Obstacle::Busy)
    );
    assert_eq!(story.core.obstacles(CallId(1)), []);
}
