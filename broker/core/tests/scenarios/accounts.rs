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
    // The worker and the slot have accounts of their own.
    let workers = story.core.workers();
    let worker = &workers[0];
    assert_eq!((worker.calls, worker.failures), (3, 1));
    let slot = &worker.slots[0];
    assert_eq!((slot.calls, slot.failures), (3, 1));
    assert_eq!(slot.service_us, 27_000);
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
    // A place for each, and the bytes of the one that waits.
    assert_eq!(two_calls, 2 * 256 + 10);
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

#[test]
fn a_slot_shows_what_it_runs_unless_nobody_waits_for_that_any_more() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    let running = |story: &Story| {
        let workers = story.core.workers();
        let running = workers[0].slots[0].running;
        running.map(|(call, since)| (call.0, since.as_micros()))
    };
    assert_eq!(running(&story), None);
    story.wait_us(7).submit(1, call("m"));
    assert_eq!(running(&story), Some((1, 1_000_007)));
    story.cancel(muster_core::CancelTarget::Call(CallId(1)));
    assert_eq!(running(&story), None);
}

#[test]
fn a_key_that_is_found_again_is_counted_whether_its_call_runs_or_has_ended() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.submit(1, keyed("m", "a")).says(&["run c1.1 s11#1"]);
    story.submit(2, keyed("m", "a")).says(&[]);
    assert_eq!(story.core.status().totals.reattached, 1);
    story.reply(11, 1, 1, 9_000).says(&["k2 c1 =1"]);
    story.submit(3, keyed("m", "a")).says(&["k3 c0 =1"]);
    assert_eq!(story.core.status().totals.reattached, 2);
}

#[test]
fn only_the_worker_that_is_meant_stands_in_the_way() {
    let mut story = Story::pool(config(), &[1, 1], &["m"]);
    story
        .submit(1, at_worker("m", "w2"))
        .submit(1, at_worker("m", "w2"));
    assert_eq!(story.core.obstacles(CallId(2)), [("w2", Obstacle::Busy)]);
}

#[test]
fn what_one_method_took_counts_wherever_it_was_asked_for() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.submit(1, call("m")).wait_ms(3).reply(11, 1, 1, 3_000);
    story.submit(1, at_worker("m", "w1")).wait_ms(3);
    story.reply_as(11, 2, 1, 3_000, Verdict::Error).lines();
    // Asked for by name alone it has one of them, in the list both.
    assert_eq!(story.core.method("m").unwrap().latency.calls(), 1);
    let methods = story.core.methods();
    assert_eq!(methods.keys().collect::<Vec<_>>(), [&"m"]);
    let both = &methods["m"];
    assert_eq!((both.latency.calls(), both.failures), (2, 1));
    assert_eq!((both.latency.sum_us, both.total_ns), (6_000, 6_000_000));
}

#[test]
fn a_worker_is_in_the_state_of_its_busiest_slot() {
    let mut story = Story::new();
    story.worker(1, WorkerKind::Managed, offer(&["m", "n"]));
    let state = |story: &Story| {
        let workers = story.core.workers();
        (workers[0].state, workers[0].slots[0].state)
    };
    assert_eq!(state(&story), (SlotState::Starting, SlotState::Starting));
    story.join(1, 1);
    assert_eq!(state(&story), (SlotState::Ready, SlotState::Ready));
    story.child_lost(11, crash(9));
    assert_eq!(state(&story), (SlotState::Backoff, SlotState::Backoff));
    story.child_ready(11).submit(1, call("m"));
    assert_eq!(state(&story), (SlotState::Busy, SlotState::Busy));
    let offered: Vec<&str> = story.core.offered().into_iter().collect();
    assert_eq!(offered, ["m", "n"]);
    let worker = muster_core::WorkerId(1);
    story.tell(Event::WorkerDraining { worker });
    assert_eq!(state(&story), (SlotState::Draining, SlotState::Draining));
}

#[test]
fn an_explanation_says_where_a_call_is_and_since_when() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.learns("m", 300);
    for _ in 0..2 {
        story.wait_us(5).submit(1, call("m"));
    }
    story.lines();
    let places = |story: &Story, id| {
        let found = story.core.explain(CallId(id)).expect("it is open");
        let dispatched = found.dispatched.map(|at| at.as_micros() - 1_000_000);
        (
            found.ahead,
            dispatched,
            found.retry.is_some(),
            found.waiting,
        )
    };
    assert_eq!(places(&story, 2), (Some(0), Some(5), false, 0));
    assert_eq!(places(&story, 3), (Some(1), Some(10), false, 0));
    assert!(story.core.explain(CallId(1)).is_none(), "it has ended");
    // Both were on it when it died: they wait, to run alone.
    story.child_lost(11, crash(9)).lines();
    assert_eq!(places(&story, 2), (None, None, false, 2));
    // One that was lost twice waits for its time.
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.submit(1, call("m")).says(&["run c1.1 s11#1"]);
    story.child_lost(11, crash(9)).child_ready(11);
    story.says(&["run c1.2 s11#2"]);
    story.child_lost(11, crash(9));
    assert_eq!(places(&story, 1), (None, None, true, 0));
}

#[test]
fn managed_workers_and_lanes_are_counted_apart() {
    let mut story = Story::pool(config(), &[1, 1, 1], &["m"]);
    story.lane(4, offer(&["x"]));
    let status = story.core.status();
    assert_eq!((status.managed, status.lanes), (3, 1));
}

#[test]
fn unreadable_answers_are_counted() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    for id in 1..=2 {
        story.submit(1, call("m"));
        story.reply_as(11, id, 1, 9_000, Verdict::Garbage);
        assert_eq!(story.core.status().totals.bad_replies, id);
    }
}
