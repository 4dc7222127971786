//! What those who watch or ask are told.

use crate::story::{Story, call, config, dispatch, offer};
use muster_core::{CallStatus, HowEnded, NewCall, Obstacle, SlotId, Target, WorkerKind};
use muster_proto::id::{CallId, DispatchId, Epoch};

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

#[test]
fn a_stream_is_for_whoever_asked_for_the_call_that_runs_and_for_nobody_else() {
    let mut story = Story::pool(config(), &[1, 1], &["m"]);
    story.submit(3, call("m")).says(&["run c1.1 s11#1"]);
    let listener = |story: &Story, slot, dispatch| {
        let found = story.core.listener(SlotId(slot), dispatch);
        found.map(|(client, request)| (client.0, request.0))
    };
    assert_eq!(listener(&story, 11, dispatch(1, 1)), Some((3, 10)));
    let of_another_run = DispatchId {
        epoch: Epoch(78),
        ..dispatch(1, 1)
    };
    for (slot, wrong) in [
        (21, dispatch(1, 1)),
        (11, dispatch(1, 2)),
        (11, dispatch(2, 1)),
        (11, of_another_run),
    ] {
        assert_eq!(listener(&story, slot, wrong), None, "{slot} {wrong:?}");
    }
    // To a notification nobody listens.
    let notification = NewCall {
        is_notification: true,
        ..call("m")
    };
    story
        .submit(3, notification)
        .says(&["k3 c2 ack", "run c2.1 s21#1"]);
    assert_eq!(listener(&story, 21, dispatch(2, 1)), None);
    story.reply(11, 1, 1, 9_000).says(&["k3 c1 =1"]);
    assert_eq!(listener(&story, 11, dispatch(1, 1)), None);
}

#[test]
fn open_calls_are_told_with_their_target_slot_and_place() {
    let mut story = Story::pool(config(), &[1], &["m", "n"]);
    story
        .submit(1, call("m"))
        .submit(1, call("m"))
        .submit(2, call("n"));
    story.submit(1, call("m"));
    let target = Target::Method("m".into());
    let order = story.core.order(CallId(1));
    assert_eq!(order.map(|(target, _)| target), Some(&target));
    assert!(story.core.order(CallId(9)).is_none());
    assert_eq!(story.core.request(CallId(1)).map(|body| body.0), Some(10));
    assert_eq!(story.core.queued_for(&target), 2);
    assert_eq!(story.core.queued_for(&Target::Raw), 0);
    let places = |calls: Vec<CallStatus>| -> Vec<(u64, Option<u32>, Option<usize>)> {
        let place = |call: CallStatus| (call.id.0, call.slot.map(|slot| slot.0), call.position);
        calls.into_iter().map(place).collect()
    };
    let all = [
        (1, Some(11), None),
        (2, None, Some(0)),
        (3, None, Some(0)),
        (4, None, Some(1)),
    ];
    assert_eq!(places(story.core.calls(9, |_| true)), all);
    assert_eq!(places(story.core.calls(2, |_| true)), all[..2]);
    let of_two = story.core.calls(9, |call| call.client.0 == 2);
    assert_eq!(places(of_two), all[2..3]);
    assert_eq!(places(story.core.running_calls(9, |_| true)), all[..1]);
    assert_eq!(places(story.core.running_calls(9, |_| false)), []);
    let fourth = story.core.call(CallId(4)).expect("it is open");
    assert_eq!((fourth.position, fourth.dispatches), (Some(1), 0));
    assert_eq!(story.core.call(CallId(9)), None);
}

#[test]
fn a_worker_is_told_of_when_it_comes_and_not_when_its_offer_changes() {
    let mut story = Story::new();
    story.core.watch(true);
    let worker = WorkerKind::Managed;
    story.worker(1, worker, offer(&["m"]));
    story.says(&["note WorkerUp { worker: \"w1\" }"]);
    story.worker(1, worker, offer(&["m", "n"])).says(&[]);
}
