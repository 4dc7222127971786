//! Who gets a call, when more than one is given, and what is taken back.

use crate::story::{Story, at_worker, call, config, offer};
use muster_core::{NewCall, WorkerKind};
use std::time::Duration;

#[test]
fn a_call_goes_to_an_idle_slot_and_its_answer_to_its_client() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.submit(1, call("m")).says(&["run c1.1 s11#1"]);
    story.reply(11, 1, 1, 500).says(&["k1 c1 =1"]);
    story.submit(1, call("m")).says(&["run c2.1 s11#2 short"]);
}

#[test]
fn ties_go_to_the_slot_that_is_idle_the_longest() {
    let mut story = Story::pool(config(), &[1, 1, 1], &["m"]);
    story.submit(1, call("m")).submit(1, call("m"));
    story.submit(1, call("m"));
    story.says(&["run c1.1 s11#1", "run c2.1 s21#1", "run c3.1 s31#1"]);
    for (slot, call) in [(31, 3), (11, 1), (21, 2)] {
        story.wait_ms(1).reply(slot, call, 1, 9_000);
    }
    story.says(&["k1 c3 =3", "k1 c1 =1", "k1 c2 =2"]);
    story.submit(1, call("m")).submit(1, call("m"));
    story.says(&["run c4.1 s31#2", "run c5.1 s11#2"]);
}

#[test]
fn a_call_of_unknown_length_has_a_slot_to_itself() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.submit(1, call("m")).submit(1, call("m"));
    story.says(&["run c1.1 s11#1"]);
    story.reply(11, 1, 1, 50);
    story.says(&["k1 c1 =1", "run c2.1 s11#2 short"]);
}

#[test]
fn short_calls_are_given_ahead_until_the_window_is_full() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.learns("m", 400);
    for _ in 0..5 {
        story.submit(1, call("m"));
    }
    // Backlog 1,200 µs: over half of the window, and so no credit is left.
    story.says(&[
        "run c2.1 s11#2 short",
        "run c3.1 s11#3 short",
        "run c4.1 s11#4 short",
    ]);
    story.reply(11, 2, 1, 400);
    story.says(&["k1 c2 =2", "run c5.1 s11#5 short"]);
}

#[test]
fn nothing_is_given_ahead_behind_a_long_call() {
    let mut story = Story::pool(config(), &[1], &["long", "short"]);
    story.learns("long", 100_000);
    story.learns("short", 10);
    story.submit(1, call("long")).submit(1, call("short"));
    story.says(&["run c3.1 s11#3"]);
    story.reply(11, 3, 1, 100_000);
    story.says(&["k1 c3 =3", "run c4.1 s11#4 short"]);
}

#[test]
fn a_long_call_is_never_parked_behind_a_short_one() {
    let mut story = Story::pool(config(), &[1], &["long", "short"]);
    story.learns("long", 100_000);
    story.learns("short", 10);
    story.submit(1, call("short")).submit(1, call("long"));
    story.says(&["run c3.1 s11#3 short"]);
    story
        .reply(11, 3, 1, 10)
        .says(&["k1 c3 =3", "run c4.1 s11#4"]);
}

#[test]
fn a_call_goes_to_the_slot_expected_to_be_free_first() {
    let mut story = Story::pool(config(), &[1, 1], &["m", "n"]);
    story.learns("m", 700);
    story.learns("n", 100);
    story.submit(1, call("m")).submit(1, call("n"));
    story.says(&["run c3.1 s11#3 short", "run c4.1 s21#1 short"]);
    story.submit(1, call("n")).submit(1, call("m"));
    story.says(&["run c5.1 s21#2 short", "run c6.1 s21#3 short"]);
    story.submit(1, call("n")).says(&["run c7.1 s11#4 short"]);
}

#[test]
fn what_is_parked_behind_an_overrun_call_is_recalled_and_runs_elsewhere() {
    let mut story = Story::pool(config(), &[1, 1], &["m"]);
    story.learns("m", 300);
    story.wait_ms(1);
    for _ in 0..6 {
        story.submit(1, call("m"));
    }
    story.says(&[
        "run c2.1 s11#2 short",
        "run c3.1 s21#1 short",
        "run c4.1 s11#3 short",
        "run c5.1 s21#2 short",
        "run c6.1 s11#4 short",
        "run c7.1 s21#3 short",
    ]);
    story.wait_us(900);
    // Slot 21 answers; slot 11 hangs on its first call.
    for call in [3, 5, 7] {
        story.reply(21, call, 1, 300);
    }
    story.lines();
    story.wait_ms(2);
    story.says(&["recall c4.1 s11#3", "recall c6.1 s11#4"]);
    story.recalled(11, 4, 1, true).recalled(11, 6, 1, true);
    story.says(&["run c4.2 s21#4 short", "run c6.2 s21#5 short"]);
    // Having overrun it has no credit, however short its calls are.
    for _ in 0..9 {
        story.submit(1, call("m"));
    }
    assert!(story.lines().iter().all(|line| line.contains(" s21#")));
}

#[test]
fn short_calls_that_are_answered_together_have_not_overrun() {
    let mut story = Story::pool(config(), &[1, 1], &["m", "n"]);
    story.learns("m", 5);
    story.learns("n", 90_000);
    // Slot 11 is busy, so that slot 21 is given all of them.
    story.submit(1, call("n"));
    for _ in 0..100 {
        story.submit(1, call("m"));
    }
    let lines = story.lines();
    assert!(lines[1..].iter().all(|line| line.contains(" s21#")));
    assert_eq!(lines.len(), 101);
    // 100 calls of 5 µs and 20 µs around each of them: their answers may well take 2.5 ms.
    story.wait_us(4_900).says(&[]);
    let recalls = story.wait_us(100).lines();
    assert_eq!(recalls.len(), 99);
    assert!(recalls.iter().all(|line| line.starts_with("recall")));
}

#[test]
fn word_of_a_late_recall_that_comes_after_the_answer_is_no_fault() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.learns("m", 300);
    story.submit(1, call("m")).submit(1, call("m"));
    story.lines();
    story.wait_ms(3).says(&["recall c3.1 s11#3"]);
    story.reply(11, 2, 1, 2_900).reply(11, 3, 1, 300).lines();
    story.recalled(11, 3, 1, false).says(&[]);
    assert_eq!(story.core.status().totals.fenced, 0);
    story.recalled(11, 3, 1, true).says(&[]);
    assert_eq!(story.core.status().totals.fenced, 1);
}

#[test]
fn a_recall_that_comes_too_late_changes_nothing() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.learns("m", 300);
    story.submit(1, call("m")).submit(1, call("m"));
    story.lines();
    story.wait_ms(3).says(&["recall c3.1 s11#3"]);
    story.reply(11, 2, 1, 2_900).says(&["k1 c2 =2"]);
    story.recalled(11, 3, 1, false).says(&[]);
    story.reply(11, 3, 1, 300).says(&["k1 c3 =3"]);
}

#[test]
fn what_was_too_late_to_give_back_is_not_given_back_later() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.learns("m", 300);
    story.submit(1, call("m")).submit(1, call("m"));
    story.lines();
    story.wait_ms(3).says(&["recall c3.1 s11#3"]);
    story.recalled(11, 3, 1, false).says(&[]);
    // It said that the call had begun: wherever else it ran, it would run twice.
    story.recalled(11, 3, 1, true).says(&[]);
    assert_eq!(story.core.status().totals.fenced, 1);
    story.reply(11, 2, 1, 2_900).says(&["k1 c2 =2"]);
    story.reply(11, 3, 1, 300).says(&["k1 c3 =3"]);
}

#[test]
fn what_nobody_recalled_is_not_taken_back() {
    let mut story = Story::pool(config(), &[1, 1], &["m"]);
    story.submit(1, call("m")).says(&["run c1.1 s11#1"]);
    story.recalled(11, 1, 1, true).says(&[]);
    story.reply(11, 1, 1, 10).says(&["k1 c1 =1"]);
}

#[test]
fn a_slot_without_work_takes_over_what_is_parked_elsewhere() {
    let mut story = Story::pool(config(), &[1, 1], &["m", "n"]);
    story.learns("m", 700);
    story.learns("n", 60_000);
    // Slot 11 is busy with a long call while slot 21 is given two short ones.
    story.submit(1, call("n"));
    story.says(&["run c3.1 s11#3"]);
    story.submit(1, call("m")).submit(1, call("m"));
    story.says(&["run c4.1 s21#1 short", "run c5.1 s21#2 short"]);
    story.reply(11, 3, 1, 60_000);
    story.says(&["k1 c3 =3", "recall c5.1 s21#2"]);
    story.recalled(21, 5, 1, true);
    story.says(&["run c5.2 s11#4 short"]);
}

#[test]
fn an_overrun_is_noticed_in_time_after_a_longer_call() {
    let mut story = Story::pool(config(), &[1], &["long", "m"]);
    story.learns("long", 800_000);
    story.learns("m", 100);
    story.submit(1, call("long"));
    story.wait_ms(1).reply(11, 3, 1, 1_000);
    story.submit(1, call("m")).submit(1, call("m"));
    story.lines();
    story.wait_ms(3).says(&["recall c5.1 s11#5"]);
}

#[test]
fn short_calls_of_one_method_do_not_keep_a_long_one_of_another_out() {
    let mut story = Story::pool(config(), &[1, 1], &["short", "long"]);
    story.learns("short", 100);
    for _ in 0..100 {
        story.submit(1, call("short"));
    }
    story.submit(2, call("long"));
    let mut open: Vec<(u32, u64)> = Vec::new();
    for turns in 0.. {
        for line in story.lines() {
            let Some(run) = line.strip_prefix("run c") else {
                continue;
            };
            let id: u64 = run.split('.').next().unwrap().parse().unwrap();
            let slot = if run.contains(" s11#") { 11 } else { 21 };
            open.push((slot, id));
        }
        if open.iter().any(|&(_, id)| id == 102) {
            break;
        }
        assert!(turns < 40, "the long call waits behind all the short ones");
        let (slot, id) = open.remove(0);
        story.wait_us(50).reply(slot, id, 1, 100);
    }
}

#[test]
fn a_chunk_counts_by_its_items() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.learns("m", 10);
    let chunk = |items| NewCall { items, ..call("m") };
    story.submit(1, chunk(50)).submit(1, chunk(1_000));
    story.submit(1, chunk(1));
    story.says(&["run c2.1 s11#2 short"]);
    story.reply(11, 2, 1, 500);
    story.says(&["k1 c2 =2", "run c3.1 s11#3"]);
}

#[test]
fn a_call_for_one_worker_runs_there_only() {
    let mut story = Story::pool(config(), &[1, 2], &["m"]);
    story
        .submit(1, at_worker("m", "w2"))
        .submit(1, at_worker("m", "w2"));
    story.submit(1, at_worker("m", "w2"));
    story.says(&["run c1.1 s21#1", "run c2.1 s22#1"]);
    story.reply(22, 2, 1, 70_000);
    story.says(&["k1 c2 =2", "run c3.1 s22#2"]);
    story.submit(1, at_worker("m", "nobody"));
    story.says(&["k1 c0 not found"]);
    story
        .submit(1, at_worker("other", "w2"))
        .says(&["k1 c0 not found"]);
}

#[test]
fn calls_for_one_worker_take_turns_with_those_for_anybody() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.learns("m", 10_000);
    story.submit(1, call("m"));
    for _ in 0..3 {
        story.submit(1, at_worker("m", "w1"));
        story.submit(2, call("m"));
    }
    story.lines();
    let mut addressed = Vec::new();
    for _ in 0..6 {
        let calls = story.core.calls(9, |call| call.slot.is_some());
        story.wait_ms(10).reply(11, calls[0].id.0, 1, 10_000);
        let calls = story.core.calls(9, |call| call.slot.is_some());
        addressed.push(calls[0].id.0 % 2 == 1);
    }
    let turns = addressed.iter().filter(|&&addressed| addressed).count();
    assert_eq!(turns, 3);
    assert!(
        addressed[..3].contains(&true) && addressed[..3].contains(&false),
        "{addressed:?}"
    );
}

#[test]
fn five_thousand_methods_wait_and_run_each_in_its_turn() {
    let names: Vec<String> = (0..5_000).map(|n| format!("m{n}")).collect();
    let methods: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut story = Story::new();
    story.worker(1, WorkerKind::Managed, offer(&methods));
    for name in &names {
        let call = call(name);
        story.core.handle(
            story.now,
            muster_core::Event::Call {
                client: muster_core::ClientId(1),
                call,
            },
        );
    }
    story.core.check_invariants();
    story.says(&[]);
    story.join(1, 1);
    for id in 1..=100 {
        story.says(&[&format!("run c{id}.1 s11#{id}")]);
        story.wait(Duration::from_micros(1)).reply(11, id, 1, 10);
        assert_eq!(story.core.poll_action().map(|_| ()), Some(()), "answered");
    }
}

#[test]
fn a_long_call_for_one_worker_holds_up_that_worker_alone() {
    let mut story = Story::pool(config(), &[1, 1, 1], &["m", "long"]);
    story.learns("m", 100).learns("long", 90_000);
    for worker in ["w1", "w2", "w3"] {
        story.submit(1, at_worker("m", worker));
    }
    story.says(&["run c3.1 s11#3", "run c4.1 s21#1", "run c5.1 s31#1"]);
    for (slot, call) in [(11, 3), (21, 4), (31, 5)] {
        story.reply(slot, call, 1, 100);
    }
    story.lines();
    // Each slot runs a short call; slot 11 is to run a long one next, and so is anybody.
    for _ in 0..3 {
        story.submit(1, call("m"));
    }
    story.says(&[
        "run c6.1 s11#4 short",
        "run c7.1 s21#2 short",
        "run c8.1 s31#2 short",
    ]);
    story
        .submit(1, at_worker("long", "w1"))
        .submit(1, call("long"));
    story.submit(1, call("m")).says(&[]);
    story.reply(31, 8, 1, 100);
    story.says(&["k1 c8 =8", "run c10.1 s31#3", "run c11.1 s21#3 short"]);
}

#[test]
fn a_slot_without_work_looks_where_something_is_parked_and_not_where_one_call_takes_long() {
    let mut story = Story::pool(config(), &[1, 1, 1], &["m", "n"]);
    story.learns("m", 700);
    story.learns("n", 60_000);
    let on = |line: &str| -> u32 {
        let (_, rest) = line.split_once(" s").expect("a dispatch");
        rest.split('#').next().unwrap().parse().unwrap()
    };
    story.submit(1, call("n")).submit(1, call("n"));
    story.submit(1, call("m")).submit(1, call("m"));
    let lines = story.lines();
    let [long, other, first, parked] = [0, 1, 2, 3].map(|at| on(&lines[at]));
    assert!(
        first == parked && long != other && other != first,
        "{lines:?}"
    );
    story.reply(other, 4, 1, 60_000);
    let lines = story.lines();
    assert_eq!(lines[0], "k1 c4 =4");
    assert!(
        lines[1].starts_with(&format!("recall c6.1 s{parked}#")),
        "{lines:?}"
    );
}
