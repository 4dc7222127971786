//! Which answers count, deadlines, cancellation, batches.

use crate::story::{Body, EPOCH, Story, Value, call, config, dispatch, keyed};
use muster_core::{BatchItem, CancelTarget, Event, NewCall, SlotId, Verdict};
use muster_proto::id::{CallId, DispatchId, Epoch};
use std::time::Duration;

fn in_ms(ms: u64) -> NewCall<Body> {
    NewCall {
        timeout: Some(Duration::from_millis(ms)),
        ..call("m")
    }
}

fn notification() -> NewCall<Body> {
    NewCall {
        is_notification: true,
        ..call("m")
    }
}

#[test]
fn a_second_answer_is_dropped() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story
        .submit(1, call("m"))
        .reply(11, 1, 1, 10)
        .reply(11, 1, 1, 10);
    story.says(&["run c1.1 s11#1", "k1 c1 =1"]);
    assert_eq!(story.core.status().totals.fenced, 1);
}

#[test]
fn answers_that_hold_no_dispatch_are_dropped() {
    let mut story = Story::pool(config(), &[1, 1], &["m"]);
    story.submit(1, call("m")).says(&["run c1.1 s11#1"]);
    // From another slot, of another attempt, of another call, of another broker's run.
    story
        .reply(21, 1, 1, 10)
        .reply(11, 1, 2, 10)
        .reply(11, 2, 1, 10);
    let other = DispatchId {
        epoch: Epoch(EPOCH.0 + 1),
        ..dispatch(1, 1)
    };
    story.tell(Event::Replied {
        slot: SlotId(11),
        dispatch: other,
        service: None,
        verdict: Verdict::Result,
        reply: Value(1),
    });
    story.reply(99, 1, 1, 10).says(&[]);
    assert_eq!(story.core.status().totals.fenced, 5);
    story.reply(11, 1, 1, 10).says(&["k1 c1 =1"]);
}

#[test]
fn three_forged_answers_cost_a_slot_its_link_and_late_ones_do_not() {
    let mut story = Story::pool(config(), &[1, 1], &["m"]);
    story.submit(1, call("m")).says(&["run c1.1 s11#1"]);
    // Of a call that another slot holds, of an attempt and of a call that never were.
    story.reply(21, 1, 1, 10).reply(21, 1, 2, 10).says(&[]);
    story.reply(21, 7, 1, 10).says(&["close s21"]);
    // It is told once, and the call is still the other's.
    story.reply(21, 1, 1, 10).says(&[]);
    story.slot_gone(11).says(&["run c1.2 s21#1"]);
    for _ in 0..5 {
        // Of the attempt before, and of a call that has ended.
        story.reply(21, 1, 1, 10);
    }
    story.reply(21, 1, 2, 10).says(&["k1 c1 =1"]);
    for _ in 0..5 {
        story.reply(21, 1, 2, 10);
    }
    story.says(&[]);
}

#[test]
fn the_answer_of_a_lost_attempt_is_dropped() {
    let mut story = Story::pool(config(), &[1, 1], &["m"]);
    story.submit(1, call("m")).says(&["run c1.1 s11#1"]);
    story.slot_gone(11).says(&["run c1.2 s21#1"]);
    story.reply(11, 1, 1, 10).reply(21, 1, 1, 10).says(&[]);
    story.reply(21, 1, 2, 10).says(&["k1 c1 =1"]);
}

#[test]
fn an_absurd_service_time_harms_nobody() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    for id in 1..=3 {
        story.submit(1, call("m")).reply(11, id, 1, u64::MAX);
    }
    story.submit(1, call("m")).wait_ms(10);
    assert_eq!(story.lines().len(), 7);
}

#[test]
fn errors_and_unreadable_answers_go_to_the_client() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story
        .submit(1, call("m"))
        .reply_as(11, 1, 1, 10, Verdict::Error);
    story
        .submit(1, call("m"))
        .reply_as(11, 2, 1, 10, Verdict::Garbage);
    story
        .submit(1, call("m"))
        .reply_as(11, 3, 1, 10, Verdict::MethodNotFound);
    story.says(&[
        "run c1.1 s11#1",
        "k1 c1 !1",
        "run c2.1 s11#2 short",
        "k1 c2 bad reply of w1",
        "run c3.1 s11#3 short",
        "k1 c3 !3",
    ]);
}

#[test]
fn a_waiting_call_expires_in_place() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story
        .submit(1, call("m"))
        .submit(1, in_ms(20))
        .submit(1, call("m"));
    story.says(&["run c1.1 s11#1"]);
    assert_eq!(
        story.core.poll_deadline(),
        Some(story.now.after_micros(20_000))
    );
    story.wait_us(19_999).says(&[]);
    story.wait_us(1).says(&["k1 c2 expired queued"]);
    story
        .reply(11, 1, 1, 20_000)
        .says(&["k1 c1 =1", "run c3.1 s11#2"]);
}

#[test]
fn a_running_call_expires_at_once_and_is_cancelled_on_its_worker() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.submit(1, in_ms(20)).submit(1, call("m"));
    story.says(&["run c1.1 s11#1 20ms"]);
    story
        .wait_ms(20)
        .says(&["cancel c1.1 s11#1", "k1 c1 expired running"]);
    // The slot is not free before it says so.
    story.reply(11, 1, 1, 30_000).says(&["run c2.1 s11#2"]);
    assert_eq!(story.core.status().totals.late, 1);
}

#[test]
fn a_timeout_of_zero_is_none() {
    let mut config = config();
    config.timeout = Some(Duration::from_millis(5));
    let mut story = Story::pool(config, &[1], &["m"]);
    story.submit(1, in_ms(0)).submit(1, call("m"));
    story
        .wait_ms(9)
        .says(&["run c1.1 s11#1", "k1 c2 expired queued"]);
}

#[test]
fn cancelling_takes_a_waiting_call_out_and_stops_a_running_one() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story
        .submit(1, call("m"))
        .submit(1, keyed("m", "key"))
        .submit(1, call("m"));
    story.says(&["run c1.1 s11#1"]);
    story.cancel(CancelTarget::Key("key".into()));
    story.says(&["k1 c2 cancelled by me"]);
    story.cancel(CancelTarget::Call(CallId(1)));
    story.says(&["cancel c1.1 s11#1", "k1 c1 cancelled by me"]);
    story
        .cancel(CancelTarget::Call(CallId(1)))
        .cancel(CancelTarget::Call(CallId(77)));
    story.cancel(CancelTarget::Key("nobody".into())).says(&[]);
    story
        .reply_as(11, 1, 1, 10, Verdict::Error)
        .says(&["run c3.1 s11#2"]);
}

#[test]
fn a_cancelled_call_is_not_retried_when_its_slot_dies() {
    let mut story = Story::pool(config(), &[1, 1], &["m"]);
    story
        .submit(1, call("m"))
        .cancel(CancelTarget::Call(CallId(1)));
    story.lines();
    story.slot_gone(11).wait_ms(300).says(&[]);
}

#[test]
fn cancelling_the_call_in_front_lets_the_next_be_given_ahead() {
    let mut story = Story::pool(config(), &[1], &["m", "long"]);
    story.learns("m", 100);
    story.learns("long", 90_000);
    story.submit(1, call("m")).submit(1, call("long"));
    story.submit(1, call("m")).says(&["run c3.1 s11#3 short"]);
    story.cancel(CancelTarget::Call(CallId(4)));
    story.says(&["k1 c4 cancelled by me", "run c5.1 s11#4 short"]);
}

#[test]
fn a_batch_is_answered_once_in_order_without_its_notifications() {
    let mut story = Story::pool(config(), &[1, 1], &["m"]);
    story.batch(
        1,
        vec![
            BatchItem::Call(call("m")),
            BatchItem::Refused(Body(1)),
            BatchItem::Call(notification()),
            BatchItem::Call(call("nope")),
            BatchItem::Call(call("m")),
        ],
    );
    story.says(&["run c1.1 s11#1", "run c2.1 s21#1"]);
    story.reply(21, 2, 1, 9_000).says(&["run c3.1 s21#2"]);
    story.reply(21, 3, 1, 9_000).says(&[]);
    story
        .reply(11, 1, 1, 9_000)
        .says(&["k1 batch [=1, refused, not found, =3]"]);
}

#[test]
fn a_batch_of_nothing_to_wait_for_is_answered_at_once() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.batch(
        1,
        vec![
            BatchItem::Call(notification()),
            BatchItem::Call(notification()),
        ],
    );
    story.says(&["run c1.1 s11#1", "k1 batch []"]);
    story
        .batch(1, vec![BatchItem::Refused(Body(1))])
        .says(&["k1 batch [refused]"]);
    story.batch(1, vec![]).says(&["k1 batch []"]);
}

#[test]
fn a_notification_is_acknowledged_and_its_answer_swallowed() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story
        .submit(1, notification())
        .says(&["k1 c1 ack", "run c1.1 s11#1"]);
    story.reply(11, 1, 1, 10).says(&[]);
    let unknown = NewCall {
        is_notification: true,
        ..call("nope")
    };
    story.submit(1, unknown).says(&["k1 ack refused"]);
}

#[test]
fn a_call_whose_deadline_passes_as_its_turn_comes_is_not_handed_over() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story
        .submit(1, call("m"))
        .submit(1, in_ms(20))
        .submit(1, call("m"));
    story.says(&["run c1.1 s11#1"]);
    // The answer comes at the very moment, before any wake-up for the deadline.
    story.now = story.now.after_micros(20_000);
    story.reply(11, 1, 1, 20_000);
    story.says(&["k1 c1 =1", "k1 c2 expired queued", "run c3.1 s11#3"]);
}
