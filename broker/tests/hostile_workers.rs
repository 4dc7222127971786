//! Workers that answer twice, late, or for others, that come and go, and calls that end every
//! slot they meet.

mod common;

use common::honest::HonestWorker;
use common::{Broker, CALL, FakeWorker, call_counts, json_of, wait_for};
use muster_proto::id::DispatchId;
use muster_proto::socket::{Context, Frame};
use muster_proto::worker::{Command, SlotLost};
use serde_json::json;

#[test]
fn a_second_answer_reaches_nobody() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let worker = FakeWorker::join(&context, &broker, "w", 1, &["m"]);
    let client = broker.client(&context);
    client.send(CALL);
    let given = worker.call(0);
    worker.reply(0, given.dispatch, "\"first\"");
    worker.reply(0, given.dispatch, "\"second\"");
    client.send(CALL);
    let next = worker.call(0);
    worker.reply(0, given.dispatch, "\"third\"");
    worker.reply(0, next.dispatch, "\"next\"");
    assert_eq!(json_of(&client.receive())["result"], "first");
    assert_eq!(json_of(&client.receive())["result"], "next");
    let asker = broker.client(&context);
    wait_for("both to be fenced", || {
        (call_counts(&asker)["fenced"] == 2).then_some(())
    });
}

#[test]
fn nobody_answers_a_call_that_another_slot_holds() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let worker = FakeWorker::join(&context, &broker, "w", 2, &["m"]);
    let client = broker.client(&context);
    client.send(CALL);
    let holder = wait_for("the call", || (0..2).find(|&slot| worker.has_call(slot)));
    let given = worker.call(holder);
    let other = 1 - holder;
    let forged = [
        given.dispatch,
        DispatchId {
            attempt: given.dispatch.attempt + 1,
            ..given.dispatch
        },
    ];
    for dispatch in forged {
        worker.reply(other, dispatch, "\"forged\"");
    }
    let thief = FakeWorker::join(&context, &broker, "thief", 1, &["other"]);
    thief.reply(0, given.dispatch, "\"stolen\"");
    let asker = broker.client(&context);
    wait_for("all to be fenced", || {
        (call_counts(&asker)["fenced"] == 3).then_some(())
    });
    worker.reply(holder, given.dispatch, "\"right\"");
    assert_eq!(json_of(&client.receive())["result"], "right");
}

#[test]
fn answers_after_the_deadline_and_after_a_cancel_are_late_and_free_the_slot() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let worker = FakeWorker::join(&context, &broker, "w", 1, &["m"]);
    let (client, asker) = (broker.client(&context), broker.client(&context));
    client.send(r#"{"jsonrpc":"2.0","method":"m","id":1,"meta":{"timeout_ms":50}}"#);
    let expired = worker.call(0);
    assert_eq!(json_of(&client.receive())["error"]["code"], -32001);
    worker.reply(0, expired.dispatch, "\"late\"");
    client.send(CALL);
    let cancelled = worker.call(0);
    let id = cancelled.dispatch.call.to_string();
    asker.result("broker.cancel", json!([id]));
    assert_eq!(json_of(&client.receive())["error"]["code"], -32004);
    worker.reply(0, cancelled.dispatch, "\"late, too\"");
    client.send(CALL);
    let given = worker.call(0);
    worker.reply(0, given.dispatch, "\"in time\"");
    assert_eq!(json_of(&client.receive())["result"], "in time");
    assert_eq!(call_counts(&asker)["late"], 2);
}

/// A call that ends whatever runs it, among others that do not.
#[test]
fn a_poison_call_costs_its_attempts_and_nobody_else_any() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let mut workers: Vec<FakeWorker> = (0..4)
        .map(|n| FakeWorker::join(&context, &broker, &format!("w{n}"), 1, &["m", "poison"]))
        .collect();
    let (client, asker) = (broker.client(&context), broker.client(&context));
    let call = |method: &str, id: usize| {
        client.send(format!(
            r#"{{"jsonrpc":"2.0","method":"{method}","id":{id}}}"#
        ));
    };
    call("poison", 0);
    for id in 1..=200 {
        call("m", id);
    }
    let (mut slots_lost, mut answered) = (0, 0);
    let mut poisoned = None;
    while answered < 200 || poisoned.is_none() {
        for worker in &mut workers {
            worker.beat();
            if !worker.has_call(0) {
                continue;
            }
            for given in worker.calls(0) {
                if given.method == "m" {
                    worker.reply(0, given.dispatch, "1");
                    continue;
                }
                slots_lost += 1;
                let lost = SlotLost {
                    slot: 1,
                    pid: 7,
                    signal: Some(6),
                    ..SlotLost::default()
                };
                worker.tell(Command::Lost, &serde_json::to_vec(&lost).unwrap());
                worker.slots.clear();
                worker.join_slot(1);
                break;
            }
        }
        let mut frames = Vec::new();
        while client.socket.recv_into(&mut frames).unwrap() {
            let reply = json_of(&frames[1]);
            match reply["id"].as_u64() {
                Some(0) => poisoned = Some(reply["error"].clone()),
                _ => {
                    assert_eq!(reply["result"], 1, "{reply}");
                    answered += 1;
                }
            }
        }
    }
    let poisoned = poisoned.unwrap();
    assert_eq!(poisoned["code"], -32002);
    assert_eq!(poisoned["data"]["attempts"].as_array().unwrap().len(), 3);
    assert_eq!((slots_lost, answered), (3, 200));
    assert_eq!(call_counts(&asker)["lost"], 1);
    let status = asker.result("broker.status", json!([]));
    assert_eq!(status["slots"]["ready"], 4, "the pool is whole");
}

fn descriptors(broker: &Broker) -> usize {
    let folder = format!("/proc/{}/fd", broker.child.id());
    std::fs::read_dir(folder).unwrap().count()
}

#[test]
fn workers_that_come_and_go_leave_nothing_behind() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let _server = HonestWorker::echo(&context, &broker, "server", &["m"]);
    let client = broker.client(&context);
    let flap = |round: usize| {
        drop(FakeWorker::join(
            &context,
            &broker,
            &format!("f{round}"),
            2,
            &["m"],
        ));
        assert_eq!(client.result("m", json!([round])), json!([round]));
    };
    (0..20).for_each(flap);
    let alone = || {
        wait_for("the others to be gone", || {
            let workers = client.result("broker.workers", json!([]));
            (workers.as_array().unwrap().len() == 1).then_some(())
        });
    };
    alone();
    let (before, before_kib) = (descriptors(&broker), broker.rss_kib());
    let rounds = std::env::var("FLAPS").map_or(200, |n| n.parse().unwrap());
    (20..20 + rounds).for_each(flap);
    alone();
    wait_for("the descriptors to be closed", || {
        (descriptors(&broker) <= before).then_some(())
    });
    let kib = broker.rss_kib();
    assert!(
        kib < before_kib + (4 << 10),
        "{before_kib} before, now {kib}"
    );
}

#[test]
fn a_slot_that_sends_rubbish_loses_its_link_and_harms_nobody() {
    let context = Context::new(1).unwrap();
    let broker = Broker::start(&[]);
    let mut worker = FakeWorker::join(&context, &broker, "w", 1, &["m"]);
    let client = broker.client(&context);
    let mut state = 42_u64;
    let mut random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize
    };
    for _ in 0..2_000 {
        let mut frames: Vec<Frame> = (0..1 + random() % 4)
            .map(|_| {
                let bytes: Vec<u8> = (0..random() % 60).map(|_| random() as u8).collect();
                Frame::from(bytes)
            })
            .collect();
        if random() % 2 == 0 {
            // A message that begins well.
            frames[0] = Frame::from(&Command::Replies.frame());
        }
        common::send(&worker.slots[0], frames);
    }
    // What it may have been given went back into the queue with its link.
    client.send(CALL);
    worker.slots.clear();
    worker.join_slot(1);
    let given = worker.call(0);
    worker.reply(0, given.dispatch, "\"unharmed\"");
    assert_eq!(json_of(&client.receive())["result"], "unharmed");
}
