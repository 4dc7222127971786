//! What the core says of itself in numbers.

use crate::story::{Story, at_worker, call, config, crash, dispatch, keyed, offer};
use muster_core::{Event, HowEnded, Obstacle, Offer, SlotId, SlotState, Verdict, WorkerKind};
use muster_proto::id::CallId;
use std::time::Duration;

fn slots_in(story: &Story, state: SlotState) -> usize {
    story.core.status().slots[state as usize]
}

#[test]
fn workers_lanes_and_slots_are_counted_by_what_they_do() {
    let mut story = Story::pool(config(), &[2], &["m"]);
    assert!(!story.core.takes_raw());
    let raw = Offer {
        raw: true,
        ..offer(&["x"])
    };
    story.lane(2, raw);
    assert!(story.core.takes_raw());
    let status = story.core.status();
    assert_eq!((status.managed, status.lanes), (1, 1));
    assert_eq!(slots_in(&story, SlotState::Ready), 3);
    story.submit(1, call("m"));
    assert_eq!(slots_in(&story, SlotState::Busy), 1);
    story.child_lost(12, crash(9));
    assert_eq!(slots_in(&story, SlotState::Backoff), 1);
    assert_eq!(slots_in(&story, SlotState::Ready), 1);
    assert_eq!(story.core.slot_name(SlotId(12)), Some(("w1", 2)));
    assert_eq!(story.core.slot_name(SlotId(99)), None);
}

#[test]
fn calls_and_failures_are_counted() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    for id in 1..=3 {
        story.submit(1, call("m"));
        let verdict = match id {
            2 => Verdict::Error,
            _ => Verdict::Result,
        };
        story.reply_as(11, id, 1, 9_000, verdict);
    }
    assert_eq!(story.core.method("m").unwrap().failures, 1);
    assert_eq!(story.core.method("m").unwrap().service_ns, Some(9_000_000));
    let totals = story.core.status().totals;
    assert_eq!(
        (totals.admitted, totals.succeeded, totals.failed),
        (3, 2, 1)
    );
}

#[test]
fn a_long_error_is_not_kept_with_its_call() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    for (id, bytes) in [(1, 16 << 10), (2, (16 << 10) + 1)] {
        story.submit(1, call("m"));
        story.tell(Event::Replied {
            slot: SlotId(11),
            dispatch: dispatch(id, 1),
            service: Some(Duration::from_millis(9)),
            verdict: Verdict::Error,
            reply: crate::story::Value(bytes),
        });
    }
    let kept = |id: u64| match &story.core.ended(CallId(id)).unwrap().how {
        HowEnded::Error(error) => error.is_some(),
        other => panic!("{other:?}"),
    };
    assert!(kept(1) && !kept(2));
}

#[test]
fn what_is_held_counts_open_calls_and_kept_answers() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    assert_eq!(story.core.held_bytes(), 0);
    story.submit(1, call("m")).submit(1, call("m"));
    let two_calls = story.core.held_bytes();
    assert!(two_calls > 10, "{two_calls}");
    story.reply(11, 1, 1, 9_000).reply(11, 2, 1, 9_000);
    assert_eq!(story.core.held_bytes(), 0);
    let mut last = keyed("m", "a");
    last.attempts_max = Some(1);
    story.submit(1, last).lines();
    let mut ending = crash(9);
    ending.stderr_tail = "x".repeat(4_000);
    story.child_lost(11, ending);
    let kept = story.core.held_bytes();
    assert!(kept > 4_000, "a failure is kept with all it says: {kept}");
    story.wait_ms(61_000);
    assert_eq!(story.core.held_bytes(), 0);
}

#[test]
fn each_obstacle_has_a_name() {
    let mut story = Story::pool(config(), &[1, 1, 1], &["m"]);
    for _ in 0..4 {
        story.submit(1, call("m"));
    }
    story.child_lost(21, crash(9));
    story.tell(Event::WorkerDraining {
        worker: muster_core::WorkerId(3),
    });
    story.lines();
    assert_eq!(
        story.core.obstacles(CallId(4)),
        [
            ("w1", Obstacle::Busy),
            ("w2", Obstacle::NoSlot),
            ("w3", Obstacle::Draining)
        ]
    );
}

#[test]
fn a_lane_that_refused_a_method_is_named_as_such() {
    let mut story = Story::new();
    for number in 1..=2 {
        story.worker(number, WorkerKind::Lane, offer(&["m"]));
        story.join(number, 1);
    }
    story.submit(1, call("m")).submit(1, call("m"));
    story.reply_as(11, 1, 1, 10, Verdict::MethodNotFound);
    story.lines();
    assert_eq!(
        story.core.obstacles(CallId(1)),
        [("lane1", Obstacle::Refused), ("lane2", Obstacle::Busy)]
    );
}

#[test]
fn an_idle_slot_leaves_alone_what_is_addressed_to_another() {
    let mut story = Story::pool(config(), &[1, 1], &["m", "n"]);
    story.learns("n", 60_000);
    story
        .submit(1, at_worker("m", "w2"))
        .says(&["run c2.1 s21#1"]);
    story.wait_us(10).reply(21, 2, 1, 700).says(&["k1 c2 =2"]);
    story.submit(1, call("n")).says(&["run c3.1 s11#2"]);
    for _ in 0..2 {
        story.submit(1, at_worker("m", "w2"));
    }
    story.says(&["run c4.1 s21#2 short", "run c5.1 s21#3 short"]);
    story.reply(11, 3, 1, 60_000).says(&["k1 c3 =3"]);
}
