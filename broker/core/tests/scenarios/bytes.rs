//! Calls of many bytes: on their way they keep a slot busy, and no recall is made of that.

use crate::story::{Body, Story, call, config};
use muster_core::NewCall;

const MIB: usize = 1 << 20;

fn large(method: &str) -> NewCall<Body> {
    NewCall {
        request: Body(MIB),
        ..call(method)
    }
}

#[test]
fn bytes_on_their_way_count_as_backlog() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.learns("m", 5);
    for _ in 0..4 {
        story.submit(1, large("m"));
    }
    // 400 µs each between processes of one machine: the third is over half of the window.
    story.says(&[
        "run c2.1 s11#2 short",
        "run c3.1 s11#3 short",
        "run c4.1 s11#4 short",
    ]);
}

#[test]
fn a_call_of_more_bytes_than_the_window_holds_waits_for_an_idle_slot() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.learns("m", 5);
    let huge = NewCall {
        request: Body(3 * MIB),
        ..call("m")
    };
    story.submit(1, call("m")).submit(1, huge);
    story.says(&["run c2.1 s11#2 short"]);
    story
        .reply(11, 2, 1, 5)
        .says(&["k1 c2 =2", "run c3.1 s11#3 short"]);
}

#[test]
fn a_slot_that_waits_for_bytes_over_a_slow_link_has_not_overrun() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.learns("m", 5);
    // A link of 10 MB/s or so: 100 ms for each call.
    for id in 2..8 {
        story.submit(1, large("m")).lines();
        story.wait_ms(100).reply(11, id, 1, 5).lines();
    }
    // It is given no second one ahead, and has time for the first.
    story.submit(1, large("m")).submit(1, large("m"));
    story.says(&["run c8.1 s11#8 short"]);
    story.wait_ms(200).says(&[]);
    story.reply(11, 8, 1, 5);
    story.says(&["k1 c8 =8", "run c9.1 s11#9 short"]);
}

#[test]
fn a_link_that_is_fast_again_is_given_calls_ahead_again() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.learns("m", 5);
    story.submit(1, large("m")).lines();
    story.wait_ms(50).reply(11, 2, 1, 5).lines();
    for id in 3..100 {
        story.submit(1, large("m")).lines();
        story.wait_us(300).reply(11, id, 1, 5).lines();
    }
    story.submit(1, large("m")).submit(1, large("m"));
    story.says(&["run c100.1 s11#100 short", "run c101.1 s11#101 short"]);
}

#[test]
fn a_call_that_came_back_twice_is_not_parked_again() {
    let mut story = Story::pool(config(), &[1, 1], &["m"]);
    story.learns("m", 5);
    let submit = |story: &mut Story| {
        story.core.sent();
        story.submit(1, call("m"));
    };
    for _ in 0..3 {
        submit(&mut story);
    }
    story.says(&[
        "run c2.1 s11#2 short",
        "run c3.1 s21#1 short",
        "run c4.1 s11#3 short",
    ]);
    // Slot 11 hangs, and the call behind it is parked on slot 21, which hangs in its turn.
    story.wait_ms(1).reply(21, 3, 1, 5).says(&["k1 c3 =3"]);
    submit(&mut story);
    story.says(&["run c5.1 s21#2 short"]);
    story.wait_ms(1).says(&["recall c4.1 s11#3"]);
    story.recalled(11, 4, 1, true);
    story.says(&["run c4.2 s21#3 short"]);
    story.reply(11, 2, 1, 5).says(&["k1 c2 =2"]);
    story.wait_us(900);
    submit(&mut story);
    story.says(&["run c6.1 s11#4 short"]);
    story.wait_us(100).says(&["recall c4.2 s21#3"]);
    // Slot 11 has credit. But twice is enough.
    story.recalled(21, 4, 2, true).says(&[]);
    story.reply(11, 6, 1, 5);
    story.says(&["k1 c6 =6", "run c4.3 s11#5 short"]);
}

#[test]
fn an_idle_slot_does_not_ask_for_bytes_that_would_take_longer_to_come_than_to_wait_for() {
    let mut story = Story::pool(config(), &[1, 1], &["m", "n"]);
    story.learns("m", 5).learns("n", 60_000);
    story.submit(1, call("n")).says(&["run c3.1 s11#3"]);
    for _ in 0..3 {
        story.submit(1, large("m"));
    }
    story.says(&[
        "run c4.1 s21#1 short",
        "run c5.1 s21#2 short",
        "run c6.1 s21#3 short",
    ]);
    // Slot 21 is busy for 1,200 µs: enough to ask for a small call, not for a MiB.
    story.reply(11, 3, 1, 60_000).says(&["k1 c3 =3"]);
}
