//! Servers that listen themselves.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use muster_broker::splice::{GoneReason, Origin, SpliceError};
use muster_proto::socket::{Context, Kind, Profile, Socket};

use crate::rig::{Rig, answer};

fn server(context: &Context, endpoint: &str) -> Socket {
    let server = Socket::open(context, Kind::Rep, &Profile::DataLink).unwrap();
    server.bind(endpoint).unwrap();
    server
}

#[test]
fn a_server_is_dialled_and_dialled_again_when_it_is_back() {
    let mut rig = Rig::with(|config| config.listeners.clear());
    let context = Context::new(1).unwrap();
    let first = server(&context, "tcp://127.0.0.1:*");
    let endpoint = first.last_endpoint().unwrap();
    let dial = rig.dial(&endpoint);
    let link = rig.next_ready();
    assert_eq!(rig.arrivals[&link].origin, Origin::Dial(dial));
    assert_eq!(rig.arrivals[&link].address, endpoint);
    assert!(rig.send(link, &[b"x"]));
    answer(&first);
    rig.receive(link);
    drop((first, context));
    assert_eq!(rig.reason(link), GoneReason::Eof);

    let context = Context::new(1).unwrap();
    let second = server(&context, &endpoint);
    let link = rig.next_ready();
    assert!(rig.send(link, &[b"y"]));
    answer(&second);
    rig.receive(link);
    rig.lines.undial(dial);
    assert_eq!(rig.reason(link), GoneReason::Closed);
    rig.until("no links", |rig| rig.splice().links() == 0);
}

#[test]
fn a_server_that_comes_late_is_found() {
    let mut rig = Rig::tcp();
    let port = {
        // A port that was free a moment ago.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let local = format!("ipc://{}/server", rig.folder.path().display());
    let endpoints = [format!("tcp://localhost:{port}"), local];
    for endpoint in &endpoints {
        rig.dial(endpoint);
    }
    // Dialled in vain a few times.
    while rig.step(Duration::from_millis(900)) {}
    assert!(rig.arrivals.is_empty());
    let context = Context::new(1).unwrap();
    let servers = [format!("tcp://127.0.0.1:{port}"), endpoints[1].clone()]
        .map(|endpoint| server(&context, &endpoint));
    rig.until("both", |rig| rig.ready.len() == 2);
    for (server, endpoint) in servers.iter().zip(&endpoints) {
        let arrival = rig
            .arrivals
            .values()
            .find(|arrival| arrival.address == *endpoint);
        let link = arrival.unwrap().link;
        assert!(rig.send(link, &[b"x"]));
        answer(server);
        rig.receive(link);
    }
}

#[test]
fn a_router_that_listens_is_served_too() {
    let mut rig = Rig::tcp();
    let context = Context::new(1).unwrap();
    let router = Socket::open(&context, Kind::Router, &Profile::Inproc).unwrap();
    router.bind("tcp://127.0.0.1:*").unwrap();
    rig.dial(&router.last_endpoint().unwrap());
    let link = rig.next_ready();
    assert!(rig.send(link, &[b"x"]));
    answer(&router);
    assert_eq!(rig.receive(link)[0], *b"x".as_slice());
}

#[test]
fn a_server_that_is_none_is_tried_again_and_nobody_hears_of_it() {
    let mut rig = Rig::with(|config| config.handshake = Duration::from_millis(300));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    let dial = rig.dial(&endpoint);
    // One says nothing, one hangs up, one talks of something else.
    let _mute = listener.accept().unwrap();
    drop(listener.accept().unwrap());
    let (mut other, _) = listener.accept().unwrap();
    std::io::Write::write_all(&mut other, b"220 mail ready\r\n").unwrap();
    let _: (TcpStream, _) = listener.accept().unwrap();
    rig.lines.undial(dial);
    rig.until("no links", |rig| rig.splice().links() == 0);
    assert!(rig.arrivals.is_empty());
}

#[test]
fn what_can_not_be_dialled_is_refused() {
    let mut rig = Rig::tcp();
    for endpoint in ["tcp://127.0.0.1:0", "tcp://*:5", "udp://1.2.3.4:5", "hello"] {
        let error = rig.lines.dial(endpoint).unwrap_err();
        assert!(
            matches!(error, SpliceError::BadEndpoint { .. }),
            "{endpoint}: {error}"
        );
    }
}
