//! Clients that leave, and those that come back with a key.

use crate::story::{Story, call, config, keyed};
use muster_core::{BatchItem, CancelTarget, ClientId, Config, Event, NewCall};
use muster_proto::id::CallId;

#[test]
fn a_gone_clients_calls_are_dropped_and_cancelled() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story
        .submit(1, call("m"))
        .submit(1, call("m"))
        .submit(2, call("m"));
    story.says(&["run c1.1 s11#1"]);
    story.client_gone(1).says(&["cancel c1.1 s11#1"]);
    story.reply(11, 1, 1, 9_000).says(&["run c3.1 s11#2"]);
    story.client_gone(1).says(&[]);
    assert_eq!(story.core.status().clients, 1);
}

#[test]
fn its_notifications_go_on() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    let silent = || NewCall {
        is_notification: true,
        ..call("m")
    };
    story.submit(1, silent()).submit(1, silent()).client_gone(1);
    story.says(&["k1 c1 ack", "run c1.1 s11#1", "k1 c2 ack"]);
    story.reply(11, 1, 1, 9_000).says(&["run c2.1 s11#2"]);
    story.reply(11, 2, 1, 9_000).says(&[]);
    assert_eq!(story.core.status().clients, 0);
}

#[test]
fn its_batch_is_not_answered() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.batch(
        1,
        vec![BatchItem::Call(call("m")), BatchItem::Call(call("m"))],
    );
    story.says(&["run c1.1 s11#1"]);
    story.client_gone(1).says(&["cancel c1.1 s11#1"]);
    story.reply(11, 1, 1, 10).says(&[]);
    assert_eq!(story.core.status().clients, 0);
}

#[test]
fn a_keyed_call_survives_its_connection() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.submit(1, keyed("m", "a")).submit(1, keyed("m", "b"));
    story.says(&["run c1.1 s11#1"]);
    story.client_gone(1).wait_ms(2_000).heard(1).says(&[]);
    story
        .submit(2, keyed("m", "a"))
        .submit(2, keyed("m", "b"))
        .says(&[]);
    story.reply(11, 1, 1, 9_000);
    story.says(&["k2 c1 =1", "run c2.1 s11#2"]);
    story.reply(11, 2, 1, 9_000).says(&["k2 c2 =2"]);
    assert_eq!(story.core.status().totals.reattached, 2);
    assert_eq!(story.core.status().clients, 1);
}

#[test]
fn a_waiting_keyed_call_waits_in_its_new_connections_place() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.submit(1, call("m")).submit(1, keyed("m", "a"));
    story.says(&["run c1.1 s11#1"]);
    story.client_gone(1).says(&["cancel c1.1 s11#1"]);
    story
        .submit(2, call("m"))
        .submit(2, keyed("m", "a"))
        .says(&[]);
    story.reply(11, 1, 1, 9_000).says(&["run c2.1 s11#2"]);
}

#[test]
fn nobody_coming_back_ends_a_keyed_call_after_ten_seconds() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story
        .submit(1, keyed("m", "a"))
        .submit(1, keyed("m", "b"))
        .client_gone(1);
    story.says(&["run c1.1 s11#1"]);
    for _ in 0..9 {
        story.wait_ms(1_000).heard(1);
    }
    story.wait_ms(999).says(&[]);
    story.wait_ms(1).says(&["cancel c1.1 s11#1"]);
    assert_eq!(story.core.status().totals.cancelled, 2);
    // Given up, its key is free again.
    story.reply(11, 1, 1, 9_000).submit(2, keyed("m", "a"));
    story.says(&["run c3.1 s11#2"]);
}

#[test]
fn the_answer_to_a_keyed_call_is_kept_a_minute() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.submit(1, keyed("m", "a")).client_gone(1);
    story.reply(11, 1, 1, 9_000).says(&["run c1.1 s11#1"]);
    for _ in 0..59 {
        story.wait_ms(1_000).heard(1);
    }
    story.submit(2, keyed("m", "a")).says(&["k2 c0 =1"]);
    story.wait_ms(1_000).heard(1);
    story.submit(2, keyed("m", "a")).says(&["run c2.1 s11#2"]);
}

#[test]
fn a_connection_that_asks_again_for_its_own_call_is_answered_once() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.submit(1, keyed("m", "a")).says(&["run c1.1 s11#1"]);
    for _ in 0..1_000 {
        story.submit(1, keyed("m", "a"));
    }
    story.reply(11, 1, 1, 10).says(&["k1 c1 =1"]);
}

#[test]
fn kept_answers_are_capped_and_a_huge_one_costs_the_others_nothing() {
    let config = Config {
        answers_max: 2,
        answers_bytes_max: 1_000,
        ..config()
    };
    let mut story = Story::pool(config, &[1], &["m"]);
    for (id, key) in [(1, "a"), (2, "b"), (3, "c")] {
        story.submit(1, keyed("m", key)).reply(11, id, 1, 10);
    }
    story.lines();
    story.submit(1, keyed("m", "b")).submit(1, keyed("m", "c"));
    story.says(&["k1 c0 =2", "k1 c0 =3"]);
    // A value counts as that many bytes here.
    for id in 4..=2_000 {
        story.submit(1, call("m")).reply(11, id, 1, 10);
    }
    story.submit(1, keyed("m", "huge")).reply(11, 2_001, 1, 10);
    story.lines();
    story.submit(1, keyed("m", "b")).says(&["k1 c0 =2"]);
    story
        .submit(1, keyed("m", "a"))
        .says(&["run c2002.1 s11#2002 short"]);
}

#[test]
fn a_cancelled_key_remembers_that_it_was_cancelled() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story
        .submit(1, keyed("m", "a"))
        .cancel(CancelTarget::Call(CallId(1)));
    story.lines();
    story
        .submit(1, keyed("m", "a"))
        .says(&["k1 c0 cancelled by me"]);
}

#[test]
fn priority_orders_the_calls_of_one_client() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    let with = |priority| NewCall {
        priority,
        ..call("m")
    };
    story
        .submit(1, call("m"))
        .submit(1, with(0))
        .submit(1, with(10))
        .submit(1, with(-10));
    story.submit(1, with(10)).submit(2, with(-10));
    story.lines();
    let mut order = Vec::new();
    for _ in 0..5 {
        let running = |story: &Story| story.core.calls(1, |call| call.slot.is_some())[0].id.0;
        let id = running(&story);
        story.reply(11, id, 1, 9_000);
        let call = &story.core.calls(1, |call| call.slot.is_some())[0];
        order.push((call.client, call.id.0));
    }
    let of_first: Vec<u64> = order
        .iter()
        .filter(|(client, _)| *client == ClientId(1))
        .map(|&(_, id)| id)
        .collect();
    assert_eq!(of_first, [3, 5, 2, 4]);
    let at = order.iter().position(|(client, _)| *client == ClientId(2));
    assert!(
        at.unwrap() <= 1,
        "another client's priority is its own matter: {order:?}"
    );
}

#[test]
fn a_gone_client_with_very_many_calls_keeps_nobody_waiting() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    let many = 3_500;
    for _ in 0..many {
        let (client, call) = (ClientId(1), call("m"));
        story.core.handle(story.now, Event::Call { client, call });
    }
    story.submit(2, call("m")).says(&["run c1.1 s11#1"]);
    story.client_gone(1).says(&["cancel c1.1 s11#1"]);
    let left = story.core.status().queued;
    assert!((2_000..3_000).contains(&left), "not all at once: {left}");
    // What is not given up yet does not run either.
    story.reply(11, 1, 1, 9_000);
    story.says(&[&format!("run c{}.1 s11#2", many + 1)]);
    story.wait_us(10);
    assert_eq!(story.core.status().queued, 0);
    assert_eq!(story.core.status().totals.cancelled, many);
}

#[test]
fn a_resend_may_be_larger_as_long_as_there_is_room_for_it() {
    let narrow = Config {
        queued_bytes_max: 100,
        ..config()
    };
    let mut story = Story::pool(narrow, &[1], &["m"]);
    story.submit(1, call("m")).says(&["run c1.1 s11#1"]);
    story.submit(2, keyed("m", "a")).says(&[]);
    let resent = |bytes| NewCall {
        request: crate::story::Body(bytes),
        ..keyed("m", "a")
    };
    story.submit(3, resent(100)).says(&[]);
    assert_eq!(story.core.status().queued_bytes, 100);
    story.submit(4, resent(101));
    story.says(&["k4 c0 overloaded queued_bytes 100"]);
    story.submit(5, resent(10)).says(&[]);
    assert_eq!(story.core.status().queued_bytes, 10);
    story.reply(11, 1, 1, 9_000);
    story.says(&["k1 c1 =1", "run c2.1 s11#2"]);
    story.reply(11, 2, 1, 9_000).says(&["k5 c2 =2"]);
}
