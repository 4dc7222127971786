//! The library against a broker of a few lines: answers, restarts, silence.

mod fake;

use fake::{Doing, FakeBroker};
use muster_client::{Call, Client, ClientOptions, Error, Target, as_completed};
use muster_proto::code::Code;
use muster_proto::rpc::{CallView, RpcError};
use std::time::Duration;

fn echo(call: &CallView<'_>) -> Doing {
    match call.method.as_ref() {
        "echo" => Doing::Echo(call.params.unwrap_or("null").to_owned()),
        "fail" => Doing::Error(RpcError::new(Code::CallFailed).message("ValueError: no")),
        _ => Doing::Nothing,
    }
}

fn new(method: &str) -> Call {
    Call::with_json(method, None).unwrap()
}

#[test]
fn a_call_returns_its_result_with_attachments_or_its_error() {
    let folder = tempfile::tempdir().unwrap();
    let broker = FakeBroker::start(folder.path(), 1, echo);
    let client = Client::connect(&broker.target()).unwrap();
    assert_eq!(client.call("echo", &(5, "x")).unwrap().text(), r#"[5,"x"]"#);
    let large = vec![7u8; 100_000];
    let call = Call::new("echo", &(1,))
        .unwrap()
        .attach(large.clone())
        .attach(&b"two"[..]);
    let answer = client.submit(call).unwrap().wait().unwrap();
    assert_eq!(answer.attachments().len(), 2);
    assert_eq!(answer.attachments()[0][..], large[..]);
    let error = client.call("fail", &()).unwrap_err();
    assert!(
        matches!(&error, Error::Rpc(error) if error.message == "ValueError: no"),
        "{error}"
    );
    assert_eq!(client.last_status().unwrap().slots.total, 2);
    assert_eq!(client.methods().unwrap()[0].name, "double");
}

#[test]
fn a_batch_a_notification_and_a_raw_body_find_their_answers() {
    let folder = tempfile::tempdir().unwrap();
    let broker = FakeBroker::start(folder.path(), 1, echo);
    let client = Client::connect(&broker.target()).unwrap();
    let calls = vec![Call::new("echo", &[1]).unwrap(), new("fail"), new("echo")];
    let outcomes = client.batch(calls).unwrap();
    assert_eq!(outcomes[0].as_ref().unwrap().text(), "[1]");
    assert!(matches!(&outcomes[1], Err(Error::Rpc(_))));
    assert_eq!(outcomes[2].as_ref().unwrap().text(), "null");
    assert!(client.batch(Vec::new()).unwrap().is_empty());
    client.notify(new("note")).unwrap();
    assert!(broker.seen().last().unwrap().is_notification);
    let frames = client.raw("Hello", Duration::ZERO).unwrap();
    assert_eq!(&frames[0][..], b"World");
}

#[test]
fn calls_of_a_restarted_broker_are_sent_again_under_their_keys_unless_they_run_once() {
    let folder = tempfile::tempdir().unwrap();
    let first = FakeBroker::start(folder.path(), 1, |_| Doing::Nothing);
    let client = Client::connect(&first.target()).unwrap();
    let twice = client.submit(Call::new("double", &[4]).unwrap()).unwrap();
    let once = client.submit(new("double").attempts_max(1)).unwrap();
    let registered_once = client.submit(new("pay")).unwrap();
    let key = first.wait_seen(3)[0].key.clone();
    assert!(key.is_some());
    drop(first);
    assert!(!twice.is_done());
    let second = FakeBroker::start(folder.path(), 2, |call| match call.method.as_ref() {
        "double" => Doing::Result("8".into()),
        _ => Doing::Nothing,
    });
    assert_eq!(twice.wait().unwrap().text(), "8");
    assert!(matches!(once.wait(), Err(Error::UnknownOutcome)));
    assert!(matches!(registered_once.wait(), Err(Error::UnknownOutcome)));
    let seen = second.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].key, key);
}

#[test]
fn a_reset_link_to_the_same_broker_brings_every_call_back_to_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let first = FakeBroker::start(folder.path(), 1, |_| Doing::Nothing);
    let client = Client::connect(&first.target()).unwrap();
    let calls: Vec<_> = [new("pay"), new("other").attempts_max(1)]
        .into_iter()
        .map(|call| client.submit(call).unwrap())
        .collect();
    let before = first.wait_seen(2);
    drop(first);
    let same = FakeBroker::start(folder.path(), 1, |call| match call.method.as_ref() {
        "pay" | "other" => Doing::Result("1".into()),
        _ => Doing::Nothing,
    });
    for call in calls {
        assert_eq!(call.wait().unwrap().text(), "1");
    }
    assert_eq!(same.seen(), before);
}

#[test]
fn a_broker_that_stays_away_ends_the_calls_after_the_patience() {
    let folder = tempfile::tempdir().unwrap();
    let broker = FakeBroker::start(folder.path(), 1, |_| Doing::Nothing);
    let options = ClientOptions {
        patience: Duration::from_millis(300),
        ..Default::default()
    };
    let client = Client::connect_with(&broker.target(), &options).unwrap();
    let twice = client.submit(new("double")).unwrap();
    let once = client.submit(new("double").attempts_max(1)).unwrap();
    broker.wait_seen(2);
    drop(broker);
    assert!(matches!(twice.wait(), Err(Error::BrokerLost { .. })));
    assert!(matches!(once.wait(), Err(Error::UnknownOutcome)));
    // And those that come later.
    assert!(matches!(
        client.call("double", &[1]),
        Err(Error::BrokerLost { .. })
    ));
}

#[test]
fn without_a_broker_or_with_a_silent_one_connecting_fails() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target {
        runtime_dir: Some(folder.path().into()),
        ..Target::cluster("c")
    };
    assert!(matches!(
        Client::connect(&target),
        Err(Error::NoBroker { .. })
    ));
    let path = folder.path().join("nobody");
    let target = Target::endpoint(&format!("ipc://{}", path.display()));
    assert!(matches!(
        Client::connect(&target),
        Err(Error::Silent { .. })
    ));
}

#[test]
fn a_call_can_be_waited_for_in_steps_cancelled_and_asked_twice() {
    let folder = tempfile::tempdir().unwrap();
    let broker = FakeBroker::start(folder.path(), 1, |_| Doing::Nothing);
    let client = Client::connect(&broker.target()).unwrap();
    let call = client.submit(new("slow")).unwrap();
    let key = broker.wait_seen(1)[0].key.clone().unwrap();
    assert!(call.wait_timeout(Duration::from_millis(1)).is_none());
    call.cancel();
    let cancel = broker.wait_seen(2)[1].clone();
    assert_eq!(cancel.method, "broker.cancel");
    assert_eq!(cancel.params, format!(r#"{{"key":"{key}"}}"#));
    drop(client);
    assert!(matches!(call.wait(), Err(Error::Closed)));
    assert!(matches!(call.wait(), Err(Error::Closed)));
}

#[test]
fn calls_come_out_in_the_order_in_which_they_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut held = Vec::new();
    let broker = FakeBroker::start(folder.path(), 1, move |call| {
        // The last one is answered, the others never.
        held.push(call.method.to_string());
        if call.method == "last" {
            Doing::Result("0".into())
        } else {
            Doing::Nothing
        }
    });
    let client = Client::connect(&broker.target()).unwrap();
    let calls: Vec<_> = ["first", "last"]
        .map(|method| client.submit(new(method)).unwrap())
        .into_iter()
        .collect();
    let mut ends = as_completed(&calls);
    assert_eq!(ends.next().unwrap().0, 1);
    drop(client);
    let (place, outcome) = ends.next().unwrap();
    assert!(place == 0 && matches!(outcome, Err(Error::Closed)));
    assert!(ends.next().is_none());
}

#[test]
fn a_deadline_ends_a_call_even_if_the_broker_forgets_it() {
    let folder = tempfile::tempdir().unwrap();
    let broker = FakeBroker::start(folder.path(), 1, |_| Doing::Nothing);
    let client = Client::connect(&broker.target()).unwrap();
    let call = new("slow").timeout(Duration::from_millis(5));
    let outcome = client.submit(call).unwrap().wait();
    assert!(matches!(outcome, Err(Error::Timeout(timeout)) if timeout.as_millis() == 5));
    assert_eq!(broker.seen()[0].meta.timeout_ms, Some(5));
}

#[test]
fn a_call_under_way_is_a_future_and_tells_those_who_asked() {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let broker = FakeBroker::start(folder.path(), 1, echo);
    let client = Client::connect(&broker.target()).unwrap();
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut pending = client.submit(Call::new("echo", &[7]).unwrap()).unwrap();
    let (sender, told) = std::sync::mpsc::channel();
    pending.when_done(move |outcome| sender.send(outcome.unwrap().text().to_owned()).unwrap());
    let answer = loop {
        match Future::poll(std::pin::Pin::new(&mut pending), &mut context) {
            std::task::Poll::Ready(outcome) => break outcome.unwrap(),
            std::task::Poll::Pending => std::thread::park_timeout(Duration::from_secs(20)),
        }
    };
    assert_eq!(answer.text(), "[7]");
    assert_eq!(told.recv_timeout(Duration::from_secs(20)).unwrap(), "[7]");
    // Asked afterwards, it tells at once.
    let (sender, told) = std::sync::mpsc::channel();
    pending.when_done(move |outcome| sender.send(outcome.is_ok()).unwrap());
    assert!(told.try_recv().unwrap());
}
