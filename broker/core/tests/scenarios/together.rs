//! Short calls of one turn of the caller's loop leave together, for one slot.

use crate::story::{Story, call, config};

/// Slots 11, 21 and so on, and what a call takes. Slot 21 is the one that is idle the longest.
fn pool(slots: usize, service_us: u64) -> Story {
    let mut story = Story::pool(config(), &vec![1; slots], &["m", "n"]);
    story.wait_us(1).learns("m", service_us);
    story.core.sent();
    story
}

#[test]
fn short_calls_of_one_turn_go_to_one_slot() {
    let mut story = pool(3, 10);
    for _ in 0..3 {
        story.submit(1, call("m"));
    }
    story.says(&[
        "run c2.1 s21#1 short",
        "run c3.1 s21#2 short",
        "run c4.1 s21#3 short",
    ]);
}

#[test]
fn a_call_of_the_next_turn_wakes_a_slot_of_its_own() {
    let mut story = pool(3, 10);
    for slot in ["s21", "s31", "s11"] {
        story.core.sent();
        story.submit(1, call("m"));
        assert!(story.lines()[0].contains(slot), "idle the longest: {slot}");
    }
}

#[test]
fn what_leaves_together_takes_less_than_a_wake_up() {
    let mut story = pool(2, 20);
    for _ in 0..6 {
        story.submit(1, call("m"));
    }
    let lines = story.lines();
    let on = |slot: &str| lines.iter().filter(|line| line.contains(slot)).count();
    assert_eq!((on(" s21#"), on(" s11#")), (5, 1), "{lines:?}");
}

#[test]
fn a_longer_call_wakes_a_slot_of_its_own() {
    let mut story = pool(3, 30);
    story.submit(1, call("m")).submit(1, call("m"));
    story.says(&["run c2.1 s21#1 short", "run c3.1 s31#1 short"]);
}

#[test]
fn nothing_joins_a_call_of_unknown_length_or_one_that_runs_alone() {
    let mut story = pool(3, 10);
    story.submit(1, call("n")).submit(1, call("m"));
    story.says(&["run c2.1 s21#1", "run c3.1 s31#1 short"]);
    // Nor is a call of unknown length put behind one that is on its way.
    story.submit(1, call("n")).says(&["run c4.1 s11#2"]);
}

#[test]
fn a_call_does_not_join_others_before_the_turn_of_one_that_waits() {
    let mut story = pool(1, 10);
    story.learns("n", 90_000);
    story.submit(1, call("m")).says(&["run c3.1 s11#3 short"]);
    story.submit(2, call("n")).submit(1, call("m")).says(&[]);
    story.reply(11, 3, 1, 10);
    story.says(&["k1 c3 =3", "run c4.1 s11#4"]);
}
