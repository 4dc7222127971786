//! Calls made inside calls: a pool whose slots all wait goes on.

use crate::story::{Body, Story, Value, call, config, crash, offer};
use muster_core::{EndReason, Event, NestId, NewCall, SlotId, WorkerId, WorkerKind};
use muster_proto::id::CallId;

fn inside(parent: u64, method: &str) -> NewCall<Body> {
    NewCall {
        parent: Some(CallId(parent)),
        ..call(method)
    }
}

fn nest(parent: u64, attempt: u32) -> NestId {
    NestId {
        call: CallId(parent),
        attempt,
    }
}

fn joins(story: &mut Story, worker: u32, slot: u32, nest: NestId) {
    story.tell(Event::NestJoined {
        worker: WorkerId(worker),
        slot: SlotId(slot),
        number: 5_000 + slot,
        pid: None,
        nest,
    });
}

#[test]
fn a_pool_of_one_slot_that_waits_for_itself_opens_another() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.submit(1, call("m")).says(&["run c1.1 s11#1"]);
    story.submit(2, inside(1, "m")).submit(2, inside(1, "m"));
    story.says(&["open w1 for c1.1"]);
    joins(&mut story, 1, 90, nest(1, 1));
    story.says(&["run c2.1 s90#1"]);
    // One after the other, and nobody else's.
    story.submit(3, call("m")).says(&[]);
    story
        .reply(90, 2, 1, 10)
        .says(&["k2 c2 =2", "run c3.1 s90#2 short"]);
    story.reply(90, 3, 1, 10).says(&["k2 c3 =3"]);
    story
        .reply(11, 1, 1, 10)
        .says(&["k1 c1 =1", "run c4.1 s11#2 short", "close nest s90"]);
    story.slot_gone(90).says(&[]);
    assert_eq!(story.core.status().slots.iter().sum::<usize>(), 1);
}

#[test]
fn a_nested_call_takes_a_free_slot_and_never_a_place_behind_what_runs() {
    let mut story = Story::pool(config(), &[2], &["m"]);
    story.learns("m", 10);
    story.submit(1, call("m"));
    story.says(&["run c2.1 s11#2 short"]);
    story.submit(2, inside(2, "m"));
    story.says(&["run c3.1 s12#1 short"]);
    // Both are busy with what is known to be short: others would be parked there.
    story.submit(2, inside(3, "m"));
    story.says(&["open w1 for c3.1"]);
    story.reply(11, 2, 1, 10);
    story.says(&["k1 c2 =2", "run c4.1 s11#3 short"]);
}

#[test]
fn what_runs_inside_ends_before_its_slot_goes() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.submit(1, call("m")).submit(2, inside(1, "m"));
    joins(&mut story, 1, 90, nest(1, 1));
    story.says(&["run c1.1 s11#1", "open w1 for c1.1", "run c2.1 s90#1"]);
    story.reply(11, 1, 1, 10).says(&["k1 c1 =1"]);
    story
        .reply(90, 2, 1, 10)
        .says(&["k2 c2 =2", "close nest s90"]);
    // One that comes when the outer call has ended is told at once.
    story.submit(1, call("m")).submit(2, inside(3, "m"));
    story.says(&["run c3.1 s11#2 short", "open w1 for c3.1"]);
    story
        .reply(11, 3, 1, 10)
        .says(&["k1 c3 =3", "run c4.1 s11#3 short"]);
    joins(&mut story, 1, 91, nest(3, 1));
    story.says(&["close nest s91"]);
}

#[test]
fn deeper_calls_have_slots_of_their_own_up_to_a_depth() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.submit(1, call("m")).says(&["run c1.1 s11#1"]);
    for depth in 1..=8 {
        story.submit(2, inside(depth, "m"));
        joins(&mut story, 1, 90 + depth as u32, nest(depth, 1));
        let (open, run) = (
            format!("open w1 for c{depth}.1"),
            format!("run c{}.1 s{}#1", depth + 1, 90 + depth),
        );
        story.says(&[open.as_str(), run.as_str()]);
    }
    story.submit(2, inside(9, "m"));
    story.says(&["k2 c0 overloaded nested_depth 8"]);
}

#[test]
fn a_worker_that_opens_no_more_ends_what_waits_for_it() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.submit(1, call("m")).submit(2, inside(1, "m"));
    story.says(&["run c1.1 s11#1", "open w1 for c1.1"]);
    story.tell(Event::NestRefused {
        worker: WorkerId(1),
        nest: nest(1, 1),
        max: 4,
    });
    story.says(&["k2 c2 overloaded nested_slots 4"]);
    story.submit(2, inside(1, "m")).says(&["open w1 for c1.1"]);
}

/// What takes so long has a slot to itself.
const LONG_US: u64 = 100_000;

/// Two slots. c3, inside c2, took the first that fell free, so c2 ended before the slot that was asked
/// for it is there. c4 and c5 run, and the worker has no other slot to spare for c6 and c7 in them.
fn two_wait_for_a_slot_that_comes_too_late() -> Story {
    let mut story = Story::pool(config(), &[2], &["m"]);
    story.submit(1, call("m")).submit(1, call("m"));
    story.says(&["run c1.1 s11#1", "run c2.1 s12#1"]);
    story.submit(2, inside(2, "m")).says(&["open w1 for c2.1"]);
    story
        .reply(11, 1, 1, LONG_US)
        .says(&["k1 c1 =1", "run c3.1 s11#2"]);
    story.reply(11, 3, 1, LONG_US).says(&["k2 c3 =3"]);
    story.reply(12, 2, 1, LONG_US).says(&["k1 c2 =2"]);
    story.submit(1, call("m")).submit(1, call("m"));
    story.says(&["run c4.1 s11#3", "run c5.1 s12#2"]);
    story.submit(2, inside(4, "m")).submit(2, inside(5, "m"));
    story.says(&["open w1 for c4.1", "open w1 for c5.1"]);
    story.tell(refused(4)).tell(refused(5)).says(&[]);
    story
}

fn refused(call: u64) -> Event<Body, Value> {
    Event::NestRefused {
        worker: WorkerId(1),
        nest: nest(call, 1),
        max: 4,
    }
}

#[test]
fn a_slot_that_comes_too_late_for_its_call_makes_room_for_another_one() {
    let mut story = two_wait_for_a_slot_that_comes_too_late();
    joins(&mut story, 1, 90, nest(2, 1));
    story.says(&["close nest s90"]);
    // It was the last that goes by itself.
    story
        .slot_gone(90)
        .says(&["open w1 for c4.1", "open w1 for c5.1"]);
    joins(&mut story, 1, 91, nest(4, 1));
    story.says(&["run c6.1 s91#1"]);
    story
        .tell(refused(5))
        .says(&["k2 c7 overloaded nested_slots 4"]);
}

#[test]
fn a_call_that_waits_for_such_a_slot_may_end_or_run_elsewhere_meanwhile() {
    let mut story = two_wait_for_a_slot_that_comes_too_late();
    // c4 ends without c6, which then takes its slot.
    story
        .reply(11, 4, 1, LONG_US)
        .says(&["k1 c4 =4", "run c6.1 s11#4"]);
    joins(&mut story, 1, 90, nest(2, 1));
    story.says(&["close nest s90"]);
    story.slot_gone(90).says(&["open w1 for c5.1"]);
    story.worker_gone(1).says(&[]);
}

#[test]
fn another_worker_helps_when_the_first_opens_no_more() {
    let mut story = Story::pool(config(), &[1, 1], &["m"]);
    story.submit(1, call("m")).submit(1, call("m"));
    story.submit(2, inside(1, "m"));
    story.says(&["run c1.1 s11#1", "run c2.1 s21#1", "open w1 for c1.1"]);
    let refuse = |worker| Event::NestRefused {
        worker: WorkerId(worker),
        nest: nest(1, 1),
        max: 4,
    };
    story.tell(refuse(1)).says(&["open w2 for c1.1"]);
    joins(&mut story, 2, 95, nest(1, 1));
    story.says(&["run c3.1 s95#1"]);
    story.reply(95, 3, 1, 10).says(&["k2 c3 =3"]);
}

#[test]
fn an_outer_call_that_starts_anew_has_a_nest_of_its_own() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.submit(1, call("m")).submit(2, inside(1, "m"));
    joins(&mut story, 1, 90, nest(1, 1));
    story.says(&["run c1.1 s11#1", "open w1 for c1.1", "run c2.1 s90#1"]);
    story.child_lost(11, crash(9)).child_ready(11);
    story.says(&["run c1.2 s11#2"]);
    story.submit(2, inside(1, "m")).says(&["open w1 for c1.2"]);
    // The slot that was opened before ends with its last call.
    story
        .reply(90, 2, 1, 10)
        .says(&["k2 c2 =2", "close nest s90"]);
}

#[test]
fn another_worker_opens_the_slot_when_the_methods_are_its_alone() {
    let mut story = Story::pool(config(), &[1], &["outer"]);
    story.worker(2, WorkerKind::Managed, offer(&["inner"]));
    story.join(2, 1);
    story.submit(1, call("outer")).submit(1, call("inner"));
    story.says(&["run c1.1 s11#1", "run c2.1 s21#1"]);
    story
        .submit(2, inside(1, "inner"))
        .says(&["open w2 for c1.1"]);
    // It goes before it could.
    story.worker_gone(2).says(&[]);
    story.tell(Event::WorkerGone {
        worker: WorkerId(1),
        reason: EndReason::Disconnected,
    });
    story.says(&[]);
}

#[test]
fn a_call_inside_one_that_does_not_run_is_a_call_like_any_other() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.submit(1, inside(77, "m")).submit(1, inside(77, "m"));
    story.says(&["run c1.1 s11#1"]);
    story
        .reply(11, 1, 1, 10)
        .says(&["k1 c1 =1", "run c2.1 s11#2 short"]);
}

#[test]
fn a_slot_for_calls_inside_one_that_does_not_run_is_closed_at_once() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.submit(1, call("m")).says(&["run c1.1 s11#1"]);
    joins(&mut story, 1, 90, nest(9, 1));
    story.says(&["close nest s90"]);
    joins(&mut story, 1, 91, nest(1, 2));
    story.says(&["close nest s91"]);
}

#[test]
fn a_slot_for_inner_calls_that_is_lost_is_asked_for_again() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.submit(1, call("m")).submit(2, inside(1, "m"));
    joins(&mut story, 1, 90, nest(1, 1));
    story.says(&["run c1.1 s11#1", "open w1 for c1.1", "run c2.1 s90#1"]);
    story.slot_gone(90).says(&["open w1 for c1.1"]);
    joins(&mut story, 1, 91, nest(1, 1));
    story.says(&["run c2.2 s91#1"]);
    story.reply(91, 2, 2, 10).says(&["k2 c2 =2"]);
}
