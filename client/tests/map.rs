//! Maps against a broker of a few lines: order, chunks, loss, bounds.

mod fake;

use fake::{Doing, FakeBroker};
use muster_client::{Client, Error, MapOptions, Next, Step};
use muster_proto::code::Code;
use muster_proto::rpc::{CallView, RpcError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Doubles numbers, one by one or by the chunk.
fn double(call: &CallView<'_>) -> Doing {
    if !["double", "plain"].contains(&call.method.as_ref()) {
        return Doing::Nothing;
    }
    let params: Vec<i64> = serde_json::from_str(call.params.unwrap()).unwrap();
    if call.meta.map {
        let results: Vec<String> = params
            .iter()
            .map(|n| format!(r#"{{"result":{}}}"#, n * 2))
            .collect();
        return Doing::Result(format!("[{}]", results.join(",")));
    }
    assert_eq!(params.len(), 1);
    Doing::Result((params[0] * 2).to_string())
}

fn check_doubled(client: &Client, method: &str, count: u64, options: MapOptions) {
    let is_unordered = options.is_unordered;
    let map = client.map(method, 0..count, options).unwrap();
    let mut outcomes: Vec<_> = map.outcomes().map(Result::unwrap).collect();
    if is_unordered {
        outcomes.sort_by_key(|(place, _)| *place);
    }
    assert_eq!(outcomes.len() as u64, count);
    for (place, (number, outcome)) in outcomes.into_iter().enumerate() {
        assert_eq!(
            (number, outcome.unwrap()),
            (place as u64, (place * 2).to_string())
        );
    }
}

#[test]
fn results_come_in_the_order_of_the_items_in_chunks_or_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let broker = FakeBroker::start(folder.path(), 1, double);
    let client = Client::connect(&broker.target()).unwrap();
    check_doubled(&client, "double", 100_000, MapOptions::default());
    let chunks = broker.seen().iter().filter(|call| call.meta.map).count();
    assert!((1..10_000).contains(&chunks), "{chunks}");
    check_doubled(&client, "double", 0, MapOptions::default());
    check_doubled(&client, "plain", 1_000, MapOptions::default());
    let unordered = MapOptions {
        is_unordered: true,
        ..MapOptions::default()
    };
    check_doubled(&client, "double", 10_000, unordered);
    let before = broker.seen().iter().filter(|call| call.meta.map).count();
    let single = MapOptions {
        is_single: true,
        in_flight: Some(1),
        ..MapOptions::default()
    };
    check_doubled(&client, "double", 100, single);
    check_doubled(
        &client,
        "double",
        100,
        MapOptions {
            attempts_max: Some(1),
            ..Default::default()
        },
    );
    assert_eq!(
        broker.seen().iter().filter(|call| call.meta.map).count(),
        before
    );
}

#[test]
fn a_poison_item_costs_itself_alone() {
    let folder = tempfile::tempdir().unwrap();
    let broker = FakeBroker::start(folder.path(), 1, |call| {
        let params: Vec<i64> =
            serde_json::from_str(call.params.unwrap_or("[]")).unwrap_or_default();
        if call.method == "double" && params.contains(&7_777) {
            return Doing::Error(RpcError::new(Code::WorkerLost));
        }
        double(call)
    });
    let client = Client::connect(&broker.target()).unwrap();
    let map = client
        .map("double", 0..20_000, MapOptions::default())
        .unwrap();
    let outcomes: Vec<_> = map.outcomes().map(Result::unwrap).collect();
    assert_eq!(outcomes.len(), 20_000);
    for (place, (number, outcome)) in outcomes.into_iter().enumerate() {
        assert_eq!(number, place as u64);
        match place {
            7_777 => assert_eq!(outcome.unwrap_err().code, Code::WorkerLost.number()),
            _ => assert_eq!(outcome.unwrap(), (place * 2).to_string()),
        }
    }
}

#[test]
fn a_refused_request_is_sent_again_under_another_key() {
    let folder = tempfile::tempdir().unwrap();
    let mut refused = 0;
    let broker = FakeBroker::start(folder.path(), 1, move |call| {
        if call.method == "double" && refused < 20 {
            refused += 1;
            return Doing::Error(RpcError::overloaded("queued_calls", 1));
        }
        double(call)
    });
    let client = Client::connect(&broker.target()).unwrap();
    check_doubled(&client, "double", 5_000, MapOptions::default());
    let mut keys: Vec<_> = broker
        .seen()
        .into_iter()
        .map(|call| call.key.unwrap())
        .collect();
    let count = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), count);
}

#[test]
fn a_map_carries_on_with_a_restarted_broker() {
    let folder = tempfile::tempdir().unwrap();
    let answered = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&answered);
    let first = FakeBroker::start(folder.path(), 1, move |call| {
        // Answers a few and then keeps what comes.
        if call.method == "plain" && count.fetch_add(1, Ordering::SeqCst) >= 50 {
            return Doing::Nothing;
        }
        double(call)
    });
    let client = Client::connect(&first.target()).unwrap();
    let map = client
        .map("plain", 0..2_000u64, MapOptions::default())
        .unwrap();
    let restarted = std::thread::spawn(move || {
        let deadline = Instant::now() + Duration::from_secs(20);
        while answered.load(Ordering::SeqCst) < 60 {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        drop(first);
        (FakeBroker::start(folder.path(), 2, double), folder)
    });
    let outcomes: Vec<_> = map.outcomes().map(Result::unwrap).collect();
    assert_eq!(outcomes.len(), 2_000);
    for (place, (number, outcome)) in outcomes.into_iter().enumerate() {
        assert_eq!(
            (number, outcome.unwrap()),
            (place as u64, (place * 2).to_string())
        );
    }
    restarted.join().unwrap();
}

#[test]
fn an_endless_source_is_read_no_further_than_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    let broker = FakeBroker::start(folder.path(), 1, |_| Doing::Nothing);
    let client = Client::connect(&broker.target()).unwrap();
    let taken = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&taken);
    let source = std::iter::repeat_with(move || count.fetch_add(1, Ordering::SeqCst));
    let options = MapOptions {
        in_flight: Some(40),
        ..MapOptions::default()
    };
    let mut map = client.map("plain", source, options).unwrap();
    broker.wait_seen(40);
    assert!(matches!(
        map.next_block(Some(Duration::from_millis(50))),
        Step::NotYet
    ));
    assert_eq!(taken.load(Ordering::SeqCst), 40);
    assert_eq!(map.fed(), 40);
}

#[test]
fn a_stopped_map_cancels_what_is_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let broker = FakeBroker::start(folder.path(), 1, |_| Doing::Nothing);
    let client = Client::connect(&broker.target()).unwrap();
    let options = MapOptions {
        in_flight: Some(3),
        ..MapOptions::default()
    };
    let mut map = client.map("plain", 0..10, options).unwrap();
    let calls = broker.wait_seen(3);
    let stopper = map.stopper();
    std::thread::spawn(move || stopper.stop());
    assert!(matches!(
        map.next_block(None),
        Step::Failed(Error::Cancelled)
    ));
    assert!(matches!(map.next_block(None), Step::End));
    let cancels = broker.wait_seen(6).split_off(3);
    // The last first, or a freed slot would start what is cancelled next.
    for (call, cancel) in calls.iter().rev().zip(cancels) {
        assert_eq!(cancel.method, "broker.cancel");
        assert_eq!(
            cancel.params,
            format!(r#"{{"key":"{}"}}"#, call.key.as_ref().unwrap())
        );
    }
}

#[test]
fn a_dropped_map_cancels_even_if_its_client_goes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let broker = FakeBroker::start(folder.path(), 1, |_| Doing::Nothing);
    let client = Client::connect(&broker.target()).unwrap();
    let options = MapOptions {
        in_flight: Some(2),
        ..MapOptions::default()
    };
    let map = client.map("plain", 0..10, options).unwrap();
    broker.wait_seen(2);
    drop(map);
    drop(client);
    assert!(
        broker.wait_seen(4)[2..]
            .iter()
            .all(|call| call.method == "broker.cancel")
    );
}

#[test]
fn an_item_that_cannot_be_sent_keeps_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let broker = FakeBroker::start(folder.path(), 1, double);
    let client = Client::connect(&broker.target()).unwrap();
    struct Source(u64);
    impl muster_client::Items for Source {
        fn next_into(&mut self, out: &mut Vec<u8>, _: Option<Duration>) -> Next {
            self.0 += 1;
            match self.0 {
                2 => Next::Unfit(RpcError::new(Code::InvalidParams)),
                5 => Next::End,
                n => {
                    out.extend_from_slice(n.to_string().as_bytes());
                    Next::Item
                }
            }
        }
    }
    let map = client
        .map("double", Source(0), MapOptions::default())
        .unwrap();
    let outcomes: Vec<_> = map.outcomes().map(|item| item.unwrap().1.ok()).collect();
    assert_eq!(
        outcomes,
        [Some("2".into()), None, Some("6".into()), Some("8".into())]
    );
}

#[test]
fn a_slow_first_item_holds_back_the_order_but_not_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let is_released = Arc::new(AtomicBool::new(false));
    let release = Arc::clone(&is_released);
    // The first item gets no answer until the link is reset, which brings it back.
    let broker = FakeBroker::start(folder.path(), 1, move |call| {
        if call.params == Some("[0]") && !release.load(Ordering::SeqCst) {
            return Doing::Nothing;
        }
        double(call)
    });
    let client = Client::connect(&broker.target()).unwrap();
    let mut map = client
        .map("plain", 0..3_000u64, MapOptions::default())
        .unwrap();
    assert!(matches!(
        map.next_block(Some(Duration::from_millis(1))),
        Step::NotYet
    ));
    let deadline = Instant::now() + Duration::from_secs(20);
    while broker.seen().len() < 3_000 {
        assert!(matches!(
            map.next_block(Some(Duration::from_millis(5))),
            Step::NotYet
        ));
        assert!(Instant::now() < deadline, "{} came", broker.seen().len());
    }
    is_released.store(true, Ordering::SeqCst);
    drop(broker);
    let _again = FakeBroker::start(folder.path(), 1, double);
    let mut numbers = Vec::new();
    loop {
        match map.next_block(None) {
            Step::Block(block) => numbers.push(block.first()),
            Step::NotYet => {}
            Step::End => break,
            Step::Failed(error) => panic!("{error}"),
        }
    }
    assert_eq!(numbers, (0..3_000).collect::<Vec<_>>());
}
