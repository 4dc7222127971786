//! One client's flood and another client's call.

use crate::story::{Story, call, config};
use muster_core::{ClientId, Event};

/// Submits without a look at the invariants, which takes time in a flood.
fn flood(story: &mut Story, client: u32, method: &str, calls: usize) {
    for _ in 0..calls {
        story.core.handle(
            story.now,
            Event::Call {
                client: ClientId(client),
                call: call(method),
            },
        );
    }
    story.core.check_invariants();
}

/// Lets the slot answer in order, each call in `service_us`, until client 2's call has run.
/// How many others ran before.
fn others_before(story: &mut Story, service_us: u64) -> usize {
    let mut on_slot: Vec<u64> = Vec::new();
    let mut others = 0;
    loop {
        while let Some(action) = story.core.poll_action() {
            match action {
                muster_core::Action::Dispatch { dispatch, .. } => on_slot.push(dispatch.call.0),
                muster_core::Action::Answer {
                    client: ClientId(2),
                    ..
                } => {
                    return others;
                }
                _ => {}
            }
        }
        let id = on_slot.remove(0);
        others += 1;
        let now = story.now.after_micros(service_us);
        story.now = now;
        story.core.handle(
            now,
            Event::Replied {
                slot: muster_core::SlotId(11),
                dispatch: crate::story::dispatch(id, 1),
                service: Some(std::time::Duration::from_micros(service_us)),
                verdict: muster_core::Verdict::Result,
                reply: crate::story::Value(0),
            },
        );
    }
}

#[test]
fn a_flood_of_long_calls_delays_anothers_call_by_one() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.learns("m", 5_000);
    flood(&mut story, 1, "m", 10_000);
    flood(&mut story, 2, "m", 1);
    let others = others_before(&mut story, 5_000);
    assert!(others <= 2 + 1, "{others}");
}

#[test]
fn a_flood_of_short_calls_delays_anothers_call_by_the_window() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.learns("m", 10);
    flood(&mut story, 1, "m", 10_000);
    flood(&mut story, 2, "m", 1);
    let others = others_before(&mut story, 10);
    // What is parked takes at most the window of 2 ms, and each client has a turn.
    assert!(others <= 200 + 2, "{others}");
}

#[test]
fn a_flood_of_one_method_delays_a_call_of_another_by_the_window() {
    let mut story = Story::pool(config(), &[1], &["m", "n"]);
    story.learns("m", 10);
    flood(&mut story, 1, "m", 10_000);
    flood(&mut story, 2, "n", 1);
    let others = others_before(&mut story, 10);
    assert!(others <= 200 + 2, "{others}");
}

#[test]
fn a_chunk_costs_its_client_as_many_turns_as_it_has_items() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.learns("m", 10_000);
    let chunk = || muster_core::NewCall {
        items: 10,
        ..call("m")
    };
    // Both wait behind a call of a third client.
    story.submit(3, call("m"));
    for _ in 0..3 {
        story.submit(1, chunk());
    }
    for _ in 0..30 {
        story.submit(2, call("m"));
    }
    let mut running = 2;
    let mut clients = String::new();
    for _ in 0..25 {
        story.lines();
        let items = if (3..=5).contains(&running) { 10 } else { 1 };
        story.reply(11, running, 1, items * 10_000);
        let lines = story.lines();
        let next = lines[1]
            .strip_prefix("run c")
            .and_then(|s| s.split('.').next());
        running = next.unwrap().parse().unwrap();
        clients.push(if (3..=5).contains(&running) { 'A' } else { 'b' });
    }
    assert_eq!(
        clients,
        format!("A{0}A{0}A{1}", "b".repeat(10), "b".repeat(2))
    );
}

#[test]
fn a_newly_used_method_does_not_shut_out_one_that_was_served_for_long() {
    // Two groups: `busy` is served for long in one, `other` a little in the other.
    let mut story = Story::pool(config(), &[1], &["busy", "fresh"]);
    story.worker(
        2,
        muster_core::WorkerKind::Managed,
        crate::story::offer(&["other"]),
    );
    story.join(2, 1);
    story.learns("busy", 10_000);
    for _ in 0..50 {
        story.learns("busy", 10_000);
    }
    flood(&mut story, 2, "busy", 1);
    let first = 53 - 1;
    story.lines();
    flood(&mut story, 2, "busy", 1);
    flood(&mut story, 1, "other", 3);
    flood(&mut story, 1, "fresh", 50);
    story.lines();
    story.reply(11, first, 1, 10_000);
    let answers = story.lines();
    assert!(answers[0].starts_with("k2 "), "{answers:?}");
    let mut before = 0;
    loop {
        let running = &story
            .core
            .calls(1, |call| call.slot == Some(muster_core::SlotId(11)))[0];
        if running.client == ClientId(2) {
            break;
        }
        before += 1;
        assert!(before <= 2, "the fresh method has the slot to itself");
        let (id, attempt) = (running.id.0, running.dispatches);
        story.reply(11, id, attempt, 10_000);
        story.lines();
    }
}

#[test]
fn a_client_that_asks_again_at_once_does_not_shut_out_one_that_waits() {
    let mut story = Story::pool(config(), &[1], &["m"]);
    story.learns("m", 5_000);
    // Client 1 always has one call running and one waiting.
    flood(&mut story, 1, "m", 2);
    flood(&mut story, 2, "m", 1);
    let mut running = 2;
    for round in 0.. {
        story.lines();
        story.reply(11, running, 1, 5_000);
        let call = &story.core.calls(1, |call| call.slot.is_some())[0];
        if call.client == ClientId(2) {
            break;
        }
        assert!(round < 3, "client 2 is shut out");
        running = call.id.0;
        flood(&mut story, 1, "m", 1);
    }
}
