//! Lanes: links to servers that say nothing of themselves.

use crate::story::{Story, at_worker, call, config, offer, to};
use muster_core::{EndReason, Event, Offer, SlotId, Target, Verdict};

fn anything() -> Offer {
    Offer {
        anything: true,
        raw: true,
        ..Offer::default()
    }
}

fn lanes(count: u32) -> Story {
    let mut story = Story::with(config());
    for number in 1..=count {
        story.lane(number, anything());
    }
    story.says(&[]);
    story
}

#[test]
fn a_method_nobody_registered_goes_to_a_lane() {
    let mut story = lanes(1);
    story.submit(1, call("any")).reply(11, 1, 1, 50);
    story.says(&["run c1.1 s11#1", "k1 c1 =1"]);
}

#[test]
fn a_method_that_a_lane_has_answered_waits_for_a_lane() {
    let mut story = lanes(1);
    story.submit(1, call("m")).reply(11, 1, 1, 50);
    story.says(&["run c1.1 s11#1", "k1 c1 =1"]);
    story.worker_gone(1).submit(1, call("m")).says(&[]);
    // What nobody ever knew is not found, as before.
    story
        .submit(1, call("n"))
        .says(&["k1 c0 not found, no workers"]);
    story.lane(2, anything()).says(&["run c2.1 s21#1 short"]);
}

#[test]
fn a_successor_waits_for_what_lanes_answered_its_predecessor() {
    let mut story = Story::pool(config(), &[1], &["a"]);
    story.core.expect_of_lanes(["m".to_owned()]);
    story.submit(1, call("m")).says(&[]);
    story.lane(2, anything()).says(&["run c1.1 s21#1"]);
}

#[test]
fn a_registered_method_goes_to_those_who_registered_it() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story
        .lane(2, anything())
        .submit(1, call("m"))
        .submit(1, call("m"));
    story.says(&["run c1.1 s11#1"]);
    story.submit(1, call("other")).says(&["run c3.1 s21#1"]);
}

#[test]
fn a_narrowed_lane_gets_its_methods_only() {
    let mut story = Story::with(config());
    story
        .lane(1, offer(&["a"]))
        .submit(1, call("a"))
        .submit(1, call("b"));
    story.says(&["run c1.1 s11#1", "k1 c0 not found"]);
    // Not even raw bodies: those wait for somebody who takes them.
    story.submit(1, to(Target::Raw)).says(&[]);
}

#[test]
fn a_lane_that_does_not_know_a_method_is_not_asked_again() {
    let mut story = lanes(2);
    story.submit(1, call("m")).says(&["run c1.1 s11#1"]);
    story.reply_as(11, 1, 1, 9, Verdict::MethodNotFound);
    story.says(&["run c1.2 s21#1"]);
    story.reply(21, 1, 2, 9_000).says(&["k1 c1 =1"]);
    story
        .submit(1, call("m"))
        .submit(1, call("m"))
        .says(&["run c2.1 s21#2"]);
    // Another method is another question.
    story.submit(1, call("n")).says(&["run c4.1 s11#2"]);
}

#[test]
fn what_no_lane_knows_is_not_found_for_those_who_wait_and_those_who_come() {
    let mut story = lanes(2);
    for _ in 0..4 {
        story.submit(1, call("m"));
    }
    story.says(&["run c1.1 s11#1", "run c2.1 s21#1"]);
    story
        .reply_as(11, 1, 1, 9, Verdict::MethodNotFound)
        .says(&[]);
    story.reply_as(21, 2, 1, 9, Verdict::MethodNotFound);
    story.says(&[
        "k1 c2 !2",
        "k1 c1 not found",
        "k1 c3 not found",
        "k1 c4 not found",
    ]);
    story.submit(1, call("m")).says(&["k1 c0 not found"]);
    // A new lane may know.
    story.lane(3, anything()).submit(1, call("m"));
    story.says(&["run c5.1 s31#1"]);
}

#[test]
fn a_refusal_costs_no_attempt() {
    let mut story = lanes(2);
    let once = muster_core::NewCall {
        attempts_max: Some(1),
        ..call("m")
    };
    story
        .submit(1, once)
        .reply_as(11, 1, 1, 9, Verdict::MethodNotFound);
    story.reply(21, 1, 2, 9);
    story.says(&["run c1.1 s11#1", "run c1.2 s21#1", "k1 c1 =1"]);
}

#[test]
fn a_refusal_is_forgotten_with_its_link() {
    let mut story = lanes(2);
    story
        .submit(1, call("m"))
        .reply_as(11, 1, 1, 9, Verdict::MethodNotFound);
    story.reply(21, 1, 2, 9).lines();
    story.slot_gone(11).join_as(1, 1, 15);
    story.submit(1, call("m")).submit(1, call("m"));
    story.says(&["run c2.1 s15#1 short", "run c3.1 s21#2 short"]);
}

#[test]
fn raw_bodies_go_to_those_who_take_them() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story
        .lane(2, anything())
        .submit(1, to(Target::Raw))
        .says(&["run c1.1 s21#1"]);
    story.submit(1, to(Target::RawAt("lane2".into())));
    story
        .reply(21, 1, 1, 5_000)
        .says(&["k1 c1 =1", "run c2.1 s21#2"]);
    story
        .submit(1, to(Target::RawAt("w1".into())))
        .says(&["k1 c0 not found"]);
}

#[test]
fn a_lane_that_answers_json_with_something_else_gets_no_more_json() {
    let mut story = lanes(1);
    story
        .submit(1, call("m"))
        .submit(1, call("n"))
        .submit(1, at_worker("m", "lane1"));
    story.says(&["run c1.1 s11#1"]);
    story.reply_as(11, 1, 1, 9, Verdict::Garbage);
    story.says(&[
        "k1 c2 not found",
        "k1 c3 not found",
        "k1 c1 bad reply of lane1",
    ]);
    story.submit(1, call("m")).says(&["k1 c0 not found"]);
    story.submit(1, to(Target::Raw)).says(&["run c4.1 s11#2"]);
}

#[test]
fn three_unreadable_raw_answers_close_a_lane() {
    let mut story = lanes(1);
    for id in 1..=3 {
        story
            .submit(1, to(Target::Raw))
            .reply_as(11, id, 1, 9, Verdict::Garbage);
    }
    let lines = story.lines();
    assert_eq!(
        lines.iter().filter(|line| *line == "close s11").count(),
        1,
        "{lines:?}"
    );
}

#[test]
fn a_lane_is_not_asked_to_give_back_or_to_cancel() {
    let mut story = lanes(1);
    story
        .submit(1, call("m"))
        .reply(11, 1, 1, 100)
        .submit(1, call("m"))
        .submit(1, call("m"));
    story.lines();
    story.cancel(muster_core::CancelTarget::Call(muster_proto::id::CallId(3)));
    story.says(&["k1 c3 cancelled by me"]);
    story.wait_ms(10).says(&[]);
    story.reply(11, 2, 1, 100).says(&["k1 c2 =2"]);
    story.reply(11, 3, 1, 100).says(&[]);
}

#[test]
fn a_lost_lane_loses_nothing_and_waiting_calls_outlast_it() {
    let mut story = lanes(1);
    story.submit(1, call("m")).submit(1, call("m"));
    story.says(&["run c1.1 s11#1"]);
    story.worker_gone(1).says(&[]);
    story.wait_ms(6_000).lane(2, anything());
    story.says(&["run c1.2 s21#1"]);
    story
        .reply(21, 1, 2, 9_000)
        .says(&["k1 c1 =1", "run c2.1 s21#2"]);
}

/// Two lanes, the second of which is fresh and has the only call, of a method that takes 9 ms.
fn fresh_lane_with_a_call() -> Story {
    let mut story = lanes(1);
    story.submit(1, call("m")).reply(11, 1, 1, 9_000);
    story.submit(1, call("m")).lane(2, anything());
    story.submit(1, call("m"));
    story.says(&[
        "run c1.1 s11#1",
        "k1 c1 =1",
        "run c2.1 s11#2",
        "run c3.1 s21#1",
    ]);
    story
}

#[test]
fn the_overrun_first_call_of_a_fresh_lane_goes_to_an_idle_one_too() {
    let mut story = fresh_lane_with_a_call();
    // Nobody is idle, and no answer has come: it waits for whichever is first.
    story.wait_ms(120).says(&[]);
    story
        .reply(11, 2, 1, 120_000)
        .says(&["k1 c2 =2", "run c3.2 s11#3"]);
    story.reply(11, 3, 2, 9_000).says(&["k1 c3 =3"]);
    // The other run of it frees its lane and is heard by nobody.
    story.reply(21, 3, 1, 9_000).says(&[]);
    story.submit(1, call("m")).submit(1, call("m"));
    story.says(&["run c4.1 s11#4", "run c5.1 s21#2"]);
}

#[test]
fn the_fresh_lane_may_be_first_after_all() {
    let mut story = fresh_lane_with_a_call();
    story.reply(11, 2, 1, 9_000).wait_ms(120);
    story.says(&["k1 c2 =2", "run c3.2 s11#3"]);
    story.reply(21, 3, 1, 130_000).says(&["k1 c3 =3"]);
    story.reply(11, 3, 2, 9_000).says(&[]);
}

#[test]
fn a_fresh_lane_that_is_lost_takes_no_doubted_call_with_it() {
    let mut story = fresh_lane_with_a_call();
    story.reply(11, 2, 1, 9_000).wait_ms(120);
    story.says(&["k1 c2 =2", "run c3.2 s11#3"]);
    story.slot_gone(21).says(&[]);
    story.reply(11, 3, 2, 9_000).says(&["k1 c3 =3"]);
}

#[test]
fn what_must_not_run_twice_waits_for_the_fresh_lane() {
    let mut story = lanes(1);
    story.submit(1, call("m")).reply(11, 1, 1, 9_000);
    let once = muster_core::NewCall {
        attempts_max: Some(1),
        ..call("m")
    };
    story.submit(1, call("m")).lane(2, anything());
    story.submit(1, once).reply(11, 2, 1, 9_000).lines();
    story.wait_ms(500).says(&[]);
    story.reply(21, 3, 1, 500_000).says(&["k1 c3 =3"]);
}

#[test]
fn an_answer_to_a_call_from_before_ends_the_probation() {
    let mut story = fresh_lane_with_a_call();
    story.reply(11, 2, 1, 9_000).says(&["k1 c2 =2"]);
    // It was the worker that had call 1 once, and begins with call 3 now.
    story.wait_ms(90).reply(21, 1, 1, 90_000).says(&[]);
    story.wait_ms(60).says(&[]);
    story.reply(21, 3, 1, 60_000).says(&["k1 c3 =3"]);
}

#[test]
fn a_fresh_lane_gets_one_call_until_it_has_answered() {
    let mut story = lanes(1);
    story.submit(1, call("m")).reply(11, 1, 1, 10).lines();
    story.worker_gone(1).lane(2, anything()).lines();
    story.submit(1, call("m")).submit(1, call("m"));
    story.says(&["run c2.1 s21#1 short"]);
    story.reply(21, 2, 1, 10).submit(1, call("m"));
    story.says(&["k1 c2 =2", "run c3.1 s21#2 short", "run c4.1 s21#3 short"]);
}

#[test]
fn an_answer_that_is_too_large_twice_is_not_tried_a_third_time() {
    let mut story = lanes(3);
    story.submit(1, call("m")).says(&["run c1.1 s11#1"]);
    let too_large = |slot| Event::SlotGone {
        slot: SlotId(slot),
        reason: EndReason::TooLarge,
    };
    story.tell(too_large(11)).says(&["run c1.2 s21#1"]);
    story.tell(too_large(21));
    story.says(&["k1 c1 lost [lane1 TooLarge, lane2 TooLarge]"]);
}

#[test]
fn unreadable_answers_that_are_far_apart_close_no_lane() {
    let mut story = lanes(1);
    for id in 1..=4 {
        story
            .submit(1, to(Target::Raw))
            .reply_as(11, id, 1, 9, Verdict::Garbage)
            .wait_ms(31_000);
    }
    assert!(!story.lines().iter().any(|line| line == "close s11"));
}

#[test]
fn what_is_no_answer_at_all_counts_against_a_lane_for_a_minute() {
    let mut story = lanes(1);
    let slot = SlotId(11);
    for _ in 0..3 {
        story
            .tell(Event::Unreadable { slot })
            .tell(Event::Unreadable { slot })
            .wait_ms(61_000);
    }
    story.says(&[]);
    for _ in 0..4 {
        story.tell(Event::Unreadable { slot });
    }
    story.says(&["close s11"]);
}

#[test]
fn only_what_lanes_answered_is_remembered_as_theirs() {
    let mut story = Story::pool(config(), &[1], &["managed"]);
    story.lane(2, anything());
    story.submit(1, call("managed")).reply(11, 1, 1, 50);
    story.submit(1, to(Target::Raw)).reply(21, 2, 1, 50);
    assert_eq!(story.core.served_by_lanes().len(), 0);
    story.submit(1, call("any")).reply(21, 3, 1, 50);
    assert_eq!(story.core.served_by_lanes().collect::<Vec<_>>(), ["any"]);
}

#[test]
fn a_call_is_doubled_once_however_many_fresh_lanes_there_are() {
    let mut story = fresh_lane_with_a_call();
    story.lane(3, anything()).wait_ms(120);
    story.says(&["run c3.2 s31#1"]);
    story.reply(11, 2, 1, 9_000).says(&["k1 c2 =2"]);
    // It overruns there, too, and the first lane would be idle.
    story.wait_ms(500).says(&[]);
    story.reply(31, 3, 2, 9_000).says(&["k1 c3 =3"]);
}

#[test]
fn a_doubted_lane_that_answers_nonsense_is_not_heard() {
    let mut story = fresh_lane_with_a_call();
    story.reply(11, 2, 1, 9_000).wait_ms(120);
    story.says(&["k1 c2 =2", "run c3.2 s11#3"]);
    story.reply_as(21, 3, 1, 9, Verdict::Garbage).says(&[]);
    assert_eq!(story.core.status().totals.late, 1);
    story.reply(11, 3, 2, 9_000).says(&["k1 c3 =3"]);
}
