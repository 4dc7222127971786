//! Workers that come, change, drain and share names.

use crate::story::{Story, at_worker, call, config, offer};
use muster_core::{Event, SlotState, WorkerId, WorkerKind};

#[test]
fn a_draining_worker_finishes_what_runs_and_gets_nothing_new() {
    let mut story = Story::pool(config(), &[1, 1], &["m"]);
    story.submit(1, call("m")).says(&["run c1.1 s11#1"]);
    let worker = WorkerId(1);
    story.tell(Event::WorkerDraining { worker });
    story
        .submit(1, call("m"))
        .submit(1, call("m"))
        .says(&["run c2.1 s21#1"]);
    story.reply(11, 1, 1, 9_000).says(&["k1 c1 =1"]);
    assert_eq!(story.core.workers()[0].state, SlotState::Draining);
    story.worker_gone(1).says(&[]);
    story
        .reply(21, 2, 1, 9_000)
        .says(&["k1 c2 =2", "run c3.1 s21#2"]);
}

#[test]
fn a_worker_that_registers_anew_takes_its_slots_to_the_new_offer() {
    let mut story = Story::pool(config(), &[1], &["a", "b"]);
    story
        .submit(1, call("a"))
        .submit(1, call("b"))
        .submit(1, call("a"));
    story.says(&["run c1.1 s11#1"]);
    story
        .worker(1, WorkerKind::Managed, offer(&["b", "c"]))
        .says(&[]);
    story.submit(1, call("c"));
    story
        .reply(11, 1, 1, 9_000)
        .says(&["k1 c1 =1", "run c2.1 s11#2"]);
    story
        .reply(11, 2, 1, 9_000)
        .says(&["k1 c2 =2", "run c4.1 s11#3"]);
    // `a` was known once, so it waits for somebody who offers it again.
    story.reply(11, 4, 1, 9_000).says(&["k1 c4 =4"]);
    story
        .worker(1, WorkerKind::Managed, offer(&["a"]))
        .says(&["run c3.1 s11#4"]);
}

#[test]
fn a_slot_that_joins_again_has_lost_its_old_link() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.submit(1, call("m")).says(&["run c1.1 s11#1"]);
    story.join_as(1, 1, 15).says(&["run c1.2 s15#1"]);
    story.slot_gone(11).reply(11, 1, 1, 9).says(&[]);
    story.reply(15, 1, 2, 9).says(&["k1 c1 =1"]);
}

#[test]
fn a_name_passes_to_its_newest_bearer_and_stays_there() {
    let mut story = Story::new();
    for number in [1, 2] {
        story.named_worker(number, "twin", WorkerKind::Managed, offer(&["m"]));
        story.join(number, 1);
    }
    story
        .submit(1, at_worker("m", "twin"))
        .says(&["run c1.1 s21#1"]);
    // The older one takes another name, and then leaves.
    story.named_worker(1, "single", WorkerKind::Managed, offer(&["m"]));
    story
        .submit(1, at_worker("m", "single"))
        .says(&["run c2.1 s11#1"]);
    story
        .worker_gone(1)
        .reply(21, 1, 1, 9_000)
        .says(&["k1 c1 =1"]);
    story
        .submit(1, at_worker("m", "twin"))
        .says(&["run c3.1 s21#2"]);
}

#[test]
fn calls_for_a_worker_wait_for_its_return() {
    let mut story = Story::pool(config(), &[1, 1], &["m"]);
    story
        .submit(1, at_worker("m", "w1"))
        .submit(1, at_worker("m", "w1"));
    story.says(&["run c1.1 s11#1"]);
    story.worker_gone(1).says(&[]);
    story
        .named_worker(5, "w1", WorkerKind::Managed, offer(&["m"]))
        .join(5, 1);
    story.says(&["run c1.2 s51#1"]);
    story
        .reply(51, 1, 2, 9_000)
        .says(&["k1 c1 =1", "run c2.1 s51#2"]);
}

#[test]
fn strangers_are_ignored() {
    let mut story = Story::new();
    story
        .heard(7)
        .join(7, 1)
        .slot_gone(71)
        .worker_gone(7)
        .client_gone(7);
    story.child_lost(71, crate::story::crash(9)).child_ready(71);
    story
        .obituary(7, 1, crate::story::crash(9))
        .recalled(71, 1, 1, true);
    story.says(&[]);
}
