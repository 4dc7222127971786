//! Networks that are late, slow, silent or cut, between the real broker and its peers. The rows
//! that need a machine to vanish are in `tests/hosts`.

mod place;
mod proxy;

use muster_client::{Call, Client, Target};
use muster_test_support::zmtp::{MORE, frame, greeting, ready};
use place::{Dealer, PATIENCE, Place, rep, wait_for};
use proxy::{Proxy, Way};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

const MEGABYTE: usize = 1_000_000;

fn call(method: &str, param: &Value, id: u64) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": [param], "id": id})
}

/// N3.
#[test]
fn links_that_are_late_and_overtake_one_another_give_each_call_its_one_answer() {
    const CALLS: u64 = 150;
    let place = Place::start();
    let workers = place.door("workers");
    let ways = [Proxy::start(&workers), Proxy::start(&workers)];
    let _workers = [("a", &ways[0]), ("b", &ways[1])].map(|(name, way)| {
        way.delay(Duration::from_millis(60));
        place.worker(name, &way.endpoint())
    });
    place.await_slots(2);
    let front = Proxy::start(&place.door("frontend"));
    front.delay(Duration::from_millis(60));
    let client = Dealer::connect(&front.endpoint());
    for id in 0..CALLS {
        client.send(&call("echo", &json!(id * 7), id));
    }
    let mut answers = BTreeMap::new();
    while answers.len() < CALLS as usize {
        let reply = client.receive(PATIENCE).expect("an answer");
        let id = reply["id"].as_u64().unwrap();
        assert_eq!(reply["result"], id * 7, "{reply}");
        assert!(answers.insert(id, ()).is_none(), "{id} was answered twice");
    }
    assert!(client.receive(Duration::from_millis(500)).is_none());
    assert_eq!(place.count("succeeded"), CALLS);
}

/// N4, on the way to the broker: what is not whole was never sent.
#[test]
fn a_call_cut_in_the_middle_is_invisible_and_its_client_sends_it_again() {
    let place = Place::start();
    let _worker = place.worker("w", &place.door("workers"));
    place.await_slots(1);
    let front = Proxy::start(&place.door("frontend"));
    let client = Client::connect(&Target::endpoint(&front.endpoint())).unwrap();
    let text = "y".repeat(100_000);
    let offsets = [0, 1, 2, 8, 9, 10, 63, 500, 4_095, 50_000, 99_000, 100_000];
    for (round, offset) in (1..).zip(offsets) {
        let before = place.count("admitted");
        front.cut_after(Way::Up, offset);
        let answer = client.call("echo", &(&text,)).unwrap();
        assert!(answer.json::<String>().unwrap() == text, "cut at {offset}");
        assert!(front.has_cut(Way::Up), "round {round}: cut at {offset}");
        // The one whole message, whichever it was: the broker saw no other call.
        assert_eq!(place.count("admitted"), before + 1, "cut at {offset}");
    }
}

/// N4, on the way from a worker: half an answer is none, and the call runs again.
#[test]
fn an_answer_cut_in_the_middle_is_no_answer() {
    let place = Place::start();
    let way = Proxy::start(&place.door("workers"));
    let _worker = place.worker("w", &way.endpoint());
    place.await_slots(1);
    let client = Dealer::connect(&place.door("frontend"));
    for (id, offset) in (0..).zip([1, 9, 60, 1_000, 150_000, 199_990]) {
        way.cut_after(Way::Up, offset);
        client.send(&call("large", &json!(200_000), id));
        let reply = client.receive(PATIENCE).expect("an answer");
        assert_eq!(reply["id"], id);
        let result = reply["result"].as_str().expect("a result");
        assert!(result.len() == 200_000, "cut at {offset}");
        assert!(way.has_cut(Way::Up), "cut at {offset}");
        place.await_slots(1);
    }
    assert!(client.receive(Duration::from_millis(200)).is_none());
}

/// N4: whoever drips a byte a second does not get through the door, and holds nobody up.
#[test]
fn a_peer_that_drips_is_shut_out_and_others_are_served() {
    let place = Place::start();
    let _worker = place.worker("w", &place.door("workers"));
    place.await_slots(1);
    let mut drips = Vec::new();
    for door in ["frontend", "workers", "backend"] {
        let proxy = Proxy::start(&place.door(door));
        proxy.bandwidth(1);
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        // A greeting as any ZMTP peer has it, which takes more than a minute this way.
        let mut greeting = [0; 64];
        greeting[0] = 0xff;
        greeting[8] = 1;
        greeting[9] = 0x7f;
        greeting[10] = 3;
        stream.write_all(&greeting).unwrap();
        drips.push((door, proxy, stream));
    }
    let client = Dealer::connect(&place.door("frontend"));
    for (door, proxy, _stream) in &drips {
        wait_for(door, || {
            client.send(&call("echo", &json!(1), 1));
            assert_eq!(client.receive(PATIENCE).expect("an answer")["result"], 1);
            (proxy.ended() > 0).then_some(())
        });
    }
}

/// N5, a managed worker: 8 MB at 1 MB/s take longer than any heartbeat's patience.
#[test]
fn a_large_answer_over_a_slow_line_is_not_taken_for_death() {
    let place = Place::start();
    let way = Proxy::start(&place.door("workers"));
    let _worker = place.worker("w", &way.endpoint());
    place.await_slots(1);
    way.bandwidth(MEGABYTE as u64);
    large(&place, "large", 8 * MEGABYTE);
}

/// N5, a stock worker.
#[test]
fn a_large_answer_of_a_stock_worker_over_a_slow_line_is_not_taken_for_death() {
    let place = Place::start();
    let way = Proxy::start(&place.door("backend"));
    way.bandwidth(MEGABYTE as u64);
    let _rep = rep(&way.endpoint());
    await_lane(&place);
    large(&place, "rep_large", 8 * MEGABYTE);
}

/// N5 at 10 KB/s, managed and stock: as much as takes three times the heartbeat's patience.
#[test]
fn a_line_of_ten_kilobytes_a_second_is_slow_and_alive() {
    let place = Place::start();
    let ways = ["workers", "backend"].map(|door| Proxy::start(&place.door(door)));
    let _worker = place.worker("w", &ways[0].endpoint());
    let _rep = rep(&ways[1].endpoint());
    place.await_slots(2);
    for way in &ways {
        way.bandwidth(10_000);
    }
    std::thread::scope(|scope| {
        for method in ["large", "rep_large"] {
            let place = &place;
            scope.spawn(move || large(place, method, 100_000));
        }
    });
}

fn await_lane(place: &Place) {
    wait_for("the lane", || {
        (place.status()["workers"]["lanes"] == 1).then_some(())
    });
}

/// Calls for a large answer, which has to come at the first try.
fn large(place: &Place, method: &str, bytes: usize) {
    let call = Call::new(method, &(bytes,)).unwrap();
    let client = place.client();
    let pending = client.submit(call).unwrap();
    let outcome = pending.wait_timeout(PATIENCE * 2).expect("an answer");
    let text: String = outcome.unwrap().json().unwrap();
    assert_eq!(text.len(), bytes);
    assert_eq!(place.count("retried"), 0);
}

/// N1 as far as one machine can show it: the line is silent, nobody is told, and then it heals.
#[test]
fn a_worker_behind_a_silent_line_is_given_up_and_welcome_when_it_heals() {
    let place = Place::start();
    let way = Proxy::start(&place.door("workers"));
    let _far = place.worker("far", &way.endpoint());
    place.await_slots(1);
    let client = Dealer::connect(&place.door("frontend"));
    client.send(&call("sleep", &json!(1_000), 1));
    wait_for("the call to run", || {
        (place.count("running") == 1).then_some(())
    });
    way.stall(true);
    let _near = place.worker("near", &place.door("workers"));
    // Its answer is held up; another worker's comes, once.
    assert_eq!(
        client.receive(PATIENCE).expect("an answer")["result"],
        1_000
    );
    assert_eq!(place.count("retried"), 1);
    way.stall(false);
    place.await_slots(2);
    assert!(client.receive(Duration::from_millis(500)).is_none());
}

/// N6: without keys, bytes that are played again are calls of their own (C7).
#[test]
fn recorded_bytes_played_again_are_another_call_with_an_answer_of_its_own() {
    let place = Place::start();
    let _worker = place.worker("w", &place.door("workers"));
    place.await_slots(1);
    let record = zmtp_call(br#"{"jsonrpc":"2.0","method":"echo","params":[5],"id":9}"#);
    for _ in 0..2 {
        let address = place.door("frontend");
        let mut stream = TcpStream::connect(address.trim_start_matches("tcp://")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // As when it was recorded: nobody says more before the other side's greeting is there.
        stream.write_all(&record[..64]).unwrap();
        let mut heard = vec![0; 64];
        stream.read_exact(&mut heard).unwrap();
        stream.write_all(&record[64..]).unwrap();
        let mut buffer = [0; 1024];
        let answer = br#"{"jsonrpc":"2.0","result":5,"id":9}"#;
        while !heard.windows(answer.len()).any(|part| part == answer) {
            let count = stream.read(&mut buffer).unwrap();
            assert_ne!(count, 0, "{:?}", String::from_utf8_lossy(&heard));
            heard.extend_from_slice(&buffer[..count]);
        }
    }
    assert_eq!(place.count("succeeded"), 2);
    assert_eq!(place.count("reattached"), 0);
}

/// All that a DEALER without keys sends for one call: greeting, READY, and the message.
fn zmtp_call(body: &[u8]) -> Vec<u8> {
    let message = [frame(MORE, b""), frame(0, body)].concat();
    [greeting(0, b"NULL"), ready("DEALER", &[]), message].concat()
}

/// A client whose connection is reset while its calls run finds them again, each run once.
#[test]
fn calls_survive_a_reset_of_their_clients_connection() {
    let place = Place::start();
    let _worker = place.worker("w", &place.door("workers"));
    place.await_slots(1);
    let front = Proxy::start(&place.door("frontend"));
    let client = Client::connect(&Target::endpoint(&front.endpoint())).unwrap();
    let calls: Vec<_> = (0..3)
        .map(|n| {
            client
                .submit(Call::new("sleep", &(400 + n,)).unwrap())
                .unwrap()
        })
        .collect();
    wait_for("a call to run", || {
        (place.count("running") >= 1).then_some(())
    });
    front.reset();
    for (n, call) in (0..).zip(calls) {
        let outcome = call.wait_timeout(PATIENCE).expect("an answer");
        assert_eq!(outcome.unwrap().json::<u64>().unwrap(), 400 + n);
    }
    assert_eq!(place.count("admitted"), 3);
    assert_eq!(place.count("succeeded"), 3);
}
