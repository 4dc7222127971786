//! Slots that are lost with calls on them.

use crate::story::{Story, call, config, crash, offer, on_purpose};
use muster_core::{Config, EndReason, Ending, Event, NewCall, WorkerId, WorkerKind};

#[test]
fn a_call_alone_on_a_lost_slot_runs_again_at_once() {
    let mut story = Story::pool(config(), &[1, 1], &["m"]);
    story.submit(1, call("m")).says(&["run c1.1 s11#1"]);
    assert_eq!(story.core.status().totals.retried, 0);
    story.slot_gone(11).says(&["run c1.2 s21#1"]);
    story.reply(21, 1, 2, 10).says(&["k1 c1 =1"]);
    assert_eq!(story.core.status().totals.retried, 1);
}

#[test]
fn it_goes_to_a_living_worker_before_the_dying_ones_other_slots() {
    let mut story = Story::pool(config(), &[3, 1], &["m"]);
    story.submit(1, call("m")).says(&["run c1.1 s11#1"]);
    story.wait_ms(1).slot_gone(11).says(&["run c1.2 s21#1"]);
}

#[test]
fn the_death_of_one_worker_is_charged_once_though_its_links_end_one_by_one() {
    let mut story = Story::pool(config(), &[4], &["m"]);
    story.submit(1, call("m")).says(&["run c1.1 s11#1"]);
    story.slot_gone(11).says(&["run c1.2 s12#1"]);
    story.slot_gone(12).says(&["run c1.3 s13#1"]);
    story.slot_gone(13).says(&["run c1.4 s14#1"]);
    story.worker_gone(1).says(&[]);
    story
        .worker(2, WorkerKind::Managed, offer(&["m"]))
        .join(2, 1)
        .says(&["run c1.5 s21#1"]);
    // That one's death is another one.
    story.slot_gone(21).says(&[]);
    assert_eq!(story.core.status().totals.lost, 0);
    story
        .worker_gone(2)
        .worker(3, WorkerKind::Managed, offer(&["m"]));
    story.join(3, 1).wait_ms(60).says(&["run c1.6 s31#1"]);
    story.slot_gone(31).wait_ms(250);
    story.says(&["k1 c1 lost [w1.1 Disconnected, w2.1 Disconnected, w3.1 Disconnected]"]);
}

#[test]
fn a_worker_that_has_spoken_since_is_not_dying() {
    let mut story = Story::pool(config(), &[3], &["m"]);
    story.submit(1, call("m")).says(&["run c1.1 s11#1"]);
    story.slot_gone(11).heard(1).says(&["run c1.2 s12#1"]);
    story.slot_gone(12).says(&[]);
    // The second retry waits.
    story.wait_ms(60).says(&["run c1.3 s13#1"]);
}

#[test]
fn it_goes_in_front_of_those_that_never_ran() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.submit(1, call("m")).submit(1, call("m"));
    story.says(&["run c1.1 s11#1"]);
    story.slot_gone(11).says(&[]);
    story.join_as(1, 1, 12).says(&["run c1.2 s12#1"]);
}

#[test]
fn later_retries_wait_longer_and_the_last_loss_is_told_with_every_attempt() {
    let mut story = Story::pool(config(), &[1, 1, 1], &["m"]);
    story.submit(1, call("m")).says(&["run c1.1 s11#1"]);
    story.child_lost(11, crash(9)).says(&["run c1.2 s21#1"]);
    story.child_lost(21, crash(11)).says(&[]);
    story.wait_ms(24).says(&[]);
    story.wait_ms(27).says(&["run c1.3 s31#1"]);
    story.child_lost(31, crash(6));
    story.says(&["k1 c1 lost [w1.1 signal 9, w2.1 signal 11, w3.1 signal 6]"]);
    // The pool is whole again.
    for slot in [11, 21, 31] {
        story.child_ready(slot);
    }
    for _ in 0..3 {
        story.submit(1, call("m"));
    }
    story.says(&["run c2.1 s11#2", "run c3.1 s21#2", "run c4.1 s31#2"]);
}

#[test]
fn suspects_run_alone_and_only_the_culprit_is_charged() {
    let only_one = Config {
        attempts_max: 2,
        ..config()
    };
    let mut story = Story::pool(only_one, &[1], &["m"]);
    story.learns("m", 100);
    for _ in 0..3 {
        story.submit(1, call("m"));
    }
    story.says(&[
        "run c2.1 s11#2 short",
        "run c3.1 s11#3 short",
        "run c4.1 s11#4 short",
    ]);
    // Nobody can say which one it was: none is charged, each runs alone.
    story.child_lost(11, crash(9)).says(&[]);
    story.child_ready(11).says(&["run c2.2 s11#5 short"]);
    story
        .reply(11, 2, 2, 100)
        .says(&["k1 c2 =2", "run c3.2 s11#6 short"]);
    story.child_lost(11, crash(9)).child_ready(11);
    story.says(&["run c3.3 s11#7 short"]);
    story
        .child_lost(11, crash(9))
        .says(&["k1 c3 lost [w1.1 signal 9, w1.1 signal 9]"]);
    story.child_ready(11).says(&["run c4.2 s11#8 short"]);
    story.reply(11, 4, 2, 100).says(&["k1 c4 =4"]);
}

#[test]
fn a_call_in_front_after_a_flush_is_the_culprit() {
    let once = Config {
        attempts_max: 2,
        ..config()
    };
    let mut story = Story::pool(once, &[1], &["slow", "m"]);
    story.learns("slow", 1_000);
    story.learns("m", 10);
    story.submit(1, call("slow")).submit(1, call("m"));
    story.says(&["run c3.1 s11#3", "run c4.1 s11#4 short"]);
    story.child_lost(11, crash(9)).child_ready(11);
    story.says(&["run c4.2 s11#5 short"]);
    story
        .reply(11, 4, 2, 10)
        .says(&["k1 c4 =4", "run c3.2 s11#6"]);
    story.child_lost(11, crash(9));
    story.says(&["k1 c3 lost [w1.1 signal 9, w1.1 signal 9]"]);
}

#[test]
fn a_child_ended_on_purpose_costs_nobody_an_attempt() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    for attempt in 1..=5 {
        if attempt == 1 {
            story.submit(1, call("m"));
        }
        story.says(&[&format!("run c1.{attempt} s11#{attempt}")]);
        story.child_lost(11, on_purpose()).says(&[]);
        story.child_ready(11);
    }
}

#[test]
fn a_once_call_is_never_run_twice() {
    let mut story = Story::pool(config(), &[1, 1], &["once:o", "m"]);
    story.submit(1, call("o")).says(&["run c1.1 s11#1"]);
    story
        .child_lost(11, crash(9))
        .says(&["k1 c1 lost [w1.1 signal 9]"]);
    let once = NewCall {
        attempts_max: Some(1),
        ..call("m")
    };
    story.submit(1, once).says(&["run c2.1 s21#1"]);
    story
        .worker_gone(2)
        .says(&["k1 c2 lost [w2.1 Disconnected]"]);
}

#[test]
fn a_once_call_is_not_run_again_after_a_kill_on_purpose_either() {
    let mut story = Story::pool(config(), &[1, 1], &["once:o"]);
    story.submit(1, call("o")).says(&["run c1.1 s11#1"]);
    story
        .child_lost(11, on_purpose())
        .says(&["k1 c1 lost [w1.1 OnPurpose]"]);
}

#[test]
fn a_once_call_is_never_parked_and_has_nothing_parked_behind_it() {
    let mut story = Story::pool(config(), &[1], &["once:o", "m"]);
    story.learns("o", 10);
    story.learns("m", 10);
    story.submit(1, call("m")).submit(1, call("o"));
    story.submit(1, call("m"));
    story.says(&["run c3.1 s11#3 short"]);
    story
        .reply(11, 3, 1, 10)
        .says(&["k1 c3 =3", "run c4.1 s11#4 short"]);
    story
        .reply(11, 4, 1, 10)
        .says(&["k1 c4 =4", "run c5.1 s11#5 short"]);
}

#[test]
fn a_method_that_turns_out_to_be_once_is_once_for_those_that_wait_too() {
    let mut story = Story::new();
    story.submit(1, call("old")).says(&[]);
    story.worker(1, WorkerKind::Managed, offer(&["once:old"]));
    story.join(1, 1).says(&["run c1.1 s11#1"]);
    story
        .child_lost(11, crash(9))
        .says(&["k1 c1 lost [w1.1 signal 9]"]);
}

fn last_attempt() -> Story {
    let config = Config {
        attempts_max: 1,
        ..config()
    };
    let mut story = Story::pool(config, &[2], &["m"]);
    story.submit(1, call("m")).says(&["run c1.1 s11#1"]);
    story
}

#[test]
fn a_lost_link_waits_for_word_of_the_child_but_not_for_long() {
    let mut story = last_attempt();
    story.slot_gone(11).says(&[]);
    story.wait_ms(249).says(&[]);
    story.wait_ms(1).says(&["k1 c1 lost [w1.1 Disconnected]"]);
}

#[test]
fn word_of_the_child_may_come_after_the_link_closed() {
    let mut story = last_attempt();
    story.slot_gone(11).wait_ms(100).says(&[]);
    story
        .obituary(1, 1, crash(9))
        .says(&["k1 c1 lost [w1.1 signal 9]"]);
}

#[test]
fn word_of_the_child_may_come_before_the_link_closes() {
    let mut story = last_attempt();
    story.obituary(1, 1, crash(9)).says(&[]);
    story.slot_gone(11).says(&["k1 c1 lost [w1.1 signal 9]"]);
}

#[test]
fn word_of_an_idle_slots_child_is_not_taken_for_its_successors() {
    let mut story = last_attempt();
    story.reply(11, 1, 1, 9_000).says(&["k1 c1 =1"]);
    story
        .slot_gone(11)
        .join_as(1, 1, 13)
        .obituary(1, 1, crash(9));
    story
        .slot_gone(12)
        .submit(1, call("m"))
        .says(&["run c2.1 s13#1"]);
    story
        .slot_gone(13)
        .wait_ms(250)
        .says(&["k1 c2 lost [w1.1 Disconnected]"]);
}

#[test]
fn word_names_the_attempt_it_is_about() {
    let config = Config {
        attempts_max: 2,
        ..config()
    };
    let mut story = Story::pool(config, &[2], &["m"]);
    story.submit(1, call("m")).says(&["run c1.1 s11#1"]);
    story.slot_gone(11).heard(1).says(&["run c1.2 s12#1"]);
    story.slot_gone(12).says(&[]);
    story.obituary(1, 1, crash(9)).says(&[]);
    story.obituary(1, 2, crash(11));
    story.says(&["k1 c1 lost [w1.1 signal 9, w1.2 signal 11]"]);
}

#[test]
fn a_lost_worker_takes_all_its_slots_along() {
    let mut story = Story::pool(config(), &[2, 1], &["m"]);
    for _ in 0..3 {
        story.submit(1, call("m"));
    }
    story.says(&["run c1.1 s11#1", "run c2.1 s12#1", "run c3.1 s21#1"]);
    story.worker_gone(1).says(&[]);
    story
        .reply(21, 3, 1, 10)
        .says(&["k1 c3 =3", "run c1.2 s21#2 short"]);
}

#[test]
fn a_silent_worker_is_lost_when_its_third_heartbeat_is_missed() {
    let mut story = Story::pool(config(), &[1, 1], &["m"]);
    story.submit(1, call("m")).says(&["run c1.1 s11#1"]);
    story.wait_ms(1_000).heard(2);
    story.wait_ms(1_000).heard(2);
    story.wait_ms(999).says(&[]);
    story.wait_ms(1).says(&["forget w1", "run c1.2 s21#1"]);
    story.reply(11, 1, 1, 10).says(&[]);
    assert_eq!(story.core.status().totals.fenced, 1);
}

#[test]
fn after_a_freeze_of_the_broker_nobody_is_lost_who_speaks_up() {
    let mut story = Story::pool(config(), &[1, 1], &["m"]);
    story.now = story.now.after_micros(10_000_000);
    story.heard(2).says(&[]);
    story.heard(1).says(&[]);
    story.wait_ms(2_999).says(&[]);
    story.heard(2).wait_ms(1).says(&["forget w1"]);
}

#[test]
fn a_goodbye_is_a_loss_for_what_still_runs() {
    let mut story = Story::pool(config(), &[1, 1], &["m"]);
    story.submit(1, call("m")).says(&["run c1.1 s11#1"]);
    let (worker, reason) = (WorkerId(1), EndReason::Goodbye);
    story.tell(Event::WorkerGone { worker, reason });
    story.says(&["run c1.2 s21#1"]);
}

#[test]
fn a_down_slot_gets_nothing_until_its_child_is_back() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.child_lost(11, Ending::default()).submit(1, call("m"));
    story.says(&[]);
    story.child_ready(11).says(&["run c1.1 s11#1"]);
}

#[test]
fn workers_lost_at_the_same_moment_cost_a_call_one_attempt() {
    let config = Config {
        attempts_max: 2,
        ..config()
    };
    let mut story = Story::pool(config, &[1, 1], &["m"]);
    story.submit(1, call("m")).says(&["run c1.1 s11#1"]);
    // Both are silent: what the second was given in between was never handed over.
    story.wait_ms(3_000).says(&["forget w1", "forget w2"]);
    story
        .worker(3, WorkerKind::Managed, offer(&["m"]))
        .join(3, 1);
    story.says(&["run c1.3 s31#1"]);
    story.reply(31, 1, 3, 10).says(&["k1 c1 =1"]);
}

#[test]
fn each_later_retry_waits_twice_as_long_up_to_a_limit() {
    let patient = Config {
        attempts_max: 6,
        retry_backoff_max: std::time::Duration::from_millis(150),
        ..config()
    };
    let mut story = Story::pool(patient, &[1], &["m"]);
    story.submit(1, call("m")).says(&["run c1.1 s11#1"]);
    story.child_lost(11, crash(9)).child_ready(11);
    story.says(&["run c1.2 s11#2"]);
    // Between half of it and all of it: 50, 100, 150 and 150 ms.
    for (attempt, least_ms, most_ms) in [(3, 24, 51), (4, 49, 101), (5, 74, 151), (6, 74, 151)] {
        story.child_lost(11, crash(9)).child_ready(11);
        story.wait_ms(least_ms).says(&[]);
        story.wait_ms(most_ms - least_ms);
        story.says(&[&format!("run c1.{attempt} s11#{attempt}")]);
    }
}

#[test]
fn the_first_of_several_suspects_is_charged_no_more_than_the_others() {
    let twice = Config {
        attempts_max: 2,
        ..config()
    };
    let mut story = Story::pool(twice, &[1], &["m"]);
    story.learns("m", 100);
    story.submit(1, call("m")).submit(1, call("m")).lines();
    story.child_lost(11, crash(9)).child_ready(11);
    story.says(&["run c2.2 s11#4 short"]);
    // Alone it was the culprit, for the first time: it may run once more.
    story.child_lost(11, crash(9)).child_ready(11);
    story.says(&["run c2.3 s11#5 short"]);
    story.child_lost(11, crash(9));
    story.says(&["k1 c2 lost [w1.1 signal 9, w1.1 signal 9]"]);
}
