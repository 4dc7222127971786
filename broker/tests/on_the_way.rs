//! What somebody on the way has recorded is worth nothing, neither in the same connection nor in
//! another, and what they change reaches nobody.

mod common;

use common::keys::{KEYED, Keyed, role_file};
use common::{Broker, FakeWorker, PATIENCE, wait_for};
use muster_proto::connection::Connection;
use muster_proto::socket::Context;
use serde_json::json;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Where a piece is changed: so many bytes from its end.
type Change = Arc<Mutex<Option<usize>>>;

/// Somebody between a client and the broker, who records what the client says and may change it.
struct Eavesdropper {
    endpoint: String,
    /// What each connection of the client said, piece by piece.
    heard: Arc<Mutex<Vec<Vec<Vec<u8>>>>>,
    /// The broker's ends of these connections.
    upstream: Arc<Mutex<Vec<TcpStream>>>,
    /// What becomes of the next piece.
    change: Change,
}

impl Eavesdropper {
    fn before(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let eavesdropper = Eavesdropper {
            endpoint: format!("tcp://{}", listener.local_addr().unwrap()),
            heard: Arc::default(),
            upstream: Arc::default(),
            change: Arc::default(),
        };
        let (heard, upstream) = (eavesdropper.heard.clone(), eavesdropper.upstream.clone());
        let change = eavesdropper.change.clone();
        let address = address.to_owned();
        // Ends with the test's process; its connections end with the client's.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(broker) = TcpStream::connect(&address) else {
                    continue;
                };
                let number = heard.lock().unwrap().len();
                heard.lock().unwrap().push(Vec::new());
                upstream.lock().unwrap().push(broker.try_clone().unwrap());
                let (heard, change) = (heard.clone(), change.clone());
                let (from, to) = (client.try_clone().unwrap(), broker.try_clone().unwrap());
                thread::spawn(move || {
                    pass_on(&from, &to, |piece| {
                        heard.lock().unwrap()[number].push(piece.to_vec());
                        let mut change = change.lock().unwrap();
                        let at = change.and_then(|from_end| piece.len().checked_sub(from_end));
                        if let Some(at) = at {
                            piece[at] ^= 1;
                            *change = None;
                        }
                    });
                });
                thread::spawn(move || pass_on(&broker, &client, |_| {}));
            }
        });
        eavesdropper
    }

    fn recording(&self) -> Vec<Vec<u8>> {
        self.heard.lock().unwrap()[0].clone()
    }

    /// Waits until the broker has ended a connection of the client.
    fn wait_for_end_of(&self, number: usize) {
        wait_for("the broker to hang up", || {
            let link = self.upstream.lock().unwrap()[number].try_clone().unwrap();
            link.peek(&mut [0])
                .map_or(Some(()), |count| (count == 0).then_some(()))
        });
    }
}

/// The client of a keyed broker, through somebody on the way.
fn through_an_eavesdropper(context: &Context, file: &Connection) -> (Eavesdropper, Keyed) {
    let eavesdropper = Eavesdropper::before(file.frontend.trim_start_matches("tcp://"));
    let way = Connection {
        frontend: eavesdropper.endpoint.clone(),
        ..file.clone()
    };
    let client = Keyed::connect(context, &way);
    (eavesdropper, client)
}

fn pass_on(mut from: &TcpStream, mut to: &TcpStream, mut listen: impl FnMut(&mut [u8])) {
    let mut bytes = [0; 4096];
    while let Ok(count) = from.read(&mut bytes) {
        if count == 0 {
            break;
        }
        listen(&mut bytes[..count]);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
    let _ = from.shutdown(std::net::Shutdown::Both);
}

#[test]
fn a_recorded_stream_is_refused_in_its_own_connection_and_in_another() {
    let broker = Broker::start(KEYED);
    let context = Context::new(1).unwrap();
    let worker = FakeWorker::join(&context, &broker, "w", 1, &["pay"]);
    let file = role_file(&broker, "client");
    let (eavesdropper, client) = through_an_eavesdropper(&context, &file);
    client.send("pay", json!(["recorded"]));
    let given = worker.call(0);
    worker.reply(0, given.dispatch, "true");
    client.receive(PATIENCE).unwrap();
    let recording = eavesdropper.recording();
    let call = recording.last().unwrap();
    // It is the call alone, encrypted, after greeting, HELLO and INITIATE.
    assert!(recording.len() >= 4, "{} pieces", recording.len());
    let said = recording.concat();
    assert!(
        !said.windows(8).any(|text| text == b"recorded"),
        "it can be read"
    );

    // In the same connection: its number has been used, so the broker hangs up.
    let mut upstream = eavesdropper.upstream.lock().unwrap()[0]
        .try_clone()
        .unwrap();
    upstream.write_all(call).unwrap();
    eavesdropper.wait_for_end_of(0);

    // In another one: the broker's keys are new, so what was said opens nothing.
    let mut again = TcpStream::connect(file.frontend.trim_start_matches("tcp://")).unwrap();
    again.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = again.write_all(&said);
    let mut answer = Vec::new();
    match again.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    // At most greeting and WELCOME: nothing that needs the client's secret.
    assert!(answer.len() <= 64 + 2 + 168, "{} bytes", answer.len());

    // The worker has been given neither.
    let honest = Keyed::connect(&context, &file);
    honest.send("pay", json!(["honest"]));
    let given = worker.call(0);
    assert_eq!(given.params, r#"["honest"]"#);
    worker.reply(0, given.dispatch, "true");
    assert_eq!(honest.receive(PATIENCE).unwrap()["result"], true);
}

/// The authenticator is in front of the text, and what is in front of both is the number.
#[test]
fn a_call_that_was_changed_on_the_way_reaches_nobody() {
    let broker = Broker::start(KEYED);
    let context = Context::new(1).unwrap();
    let worker = FakeWorker::join(&context, &broker, "w", 1, &["pay"]);
    let file = role_file(&broker, "client");
    let text = br#"{"jsonrpc":"2.0","id":1,"method":"pay","params":["some"]}"#.len();
    for (what, from_end) in [
        ("the text's last byte", 1),
        ("a byte of its middle", text / 2),
        ("the authenticator", text + 1 + 16),
        ("the number", text + 1 + 16 + 1),
    ] {
        let (eavesdropper, client) = through_an_eavesdropper(&context, &file);
        client.send("pay", json!(["before"]));
        let given = worker.call(0);
        worker.reply(0, given.dispatch, "true");
        client.receive(PATIENCE).unwrap();
        *eavesdropper.change.lock().unwrap() = Some(from_end);
        client.send("pay", json!(["some"]));
        eavesdropper.wait_for_end_of(0);
        assert_eq!(*eavesdropper.change.lock().unwrap(), None, "{what}");
    }
    // The worker has been given none of them.
    let honest = Keyed::connect(&context, &file);
    honest.send("pay", json!(["honest"]));
    assert_eq!(worker.call(0).params, r#"["honest"]"#);
}
