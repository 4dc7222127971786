//! Keys, and the ZAP handler in between.

use std::time::Duration;

use muster_proto::socket::{
    Context, Frame, Interest, Kind, LinkEvent, Monitor, PollItem, Profile, SendOutcome, Socket,
    SocketError, Watch, curve_keypair, poll,
};

use crate::{PATIENCE, context, nonce, open, receive, send};

/// A CURVE server with the ZAP domain `clients`, and its public key.
fn server(context: &Context) -> (Socket, String, String) {
    let keys = curve_keypair().unwrap();
    let router = open(
        context,
        Kind::Router,
        Profile::Frontend {
            disconnect: nonce(),
        },
    );
    router.set_curve_server(&keys.secret).unwrap();
    router.set_zap_domain("clients").unwrap();
    router.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = router.last_endpoint().unwrap();
    (router, endpoint, keys.public)
}

/// A ZAP handler (RFC 27) that answers each request with this status, until the context ends.
fn handle_zap(context: &Context, status: &'static str) -> std::thread::JoinHandle<()> {
    let handler = open(context, Kind::Rep, Profile::Inproc);
    handler.bind("inproc://zeromq.zap.01").unwrap();
    std::thread::spawn(move || {
        let mut request = Vec::new();
        while handler
            .recv_timeout(&mut request, PATIENCE)
            .is_ok_and(|received| received)
        {
            assert_eq!(
                (&request[0][..], &request[2][..]),
                (&b"1.0"[..], &b"clients"[..])
            );
            assert_eq!((&request[5][..], request[6].len()), (&b"CURVE"[..], 32));
            let reply = [
                request[0].share(),
                request[1].share(),
                Frame::from(status),
                Frame::from("text"),
                Frame::from(if status == "200" { "alice" } else { "" }),
                Frame::empty(),
            ];
            assert_eq!(handler.send(reply).unwrap(), SendOutcome::Sent);
        }
    })
}

/// A client with a fresh key pair, and its monitor.
fn client(context: &Context, endpoint: &str, server_key: &str) -> (Socket, Monitor) {
    let keys = curve_keypair().unwrap();
    let dealer = open(context, Kind::Dealer, Profile::ClientLink);
    dealer
        .set_curve_client(server_key, &keys.public, &keys.secret)
        .unwrap();
    let monitor = dealer.monitor(Watch::LinksAndRefusals).unwrap();
    dealer.connect(endpoint).unwrap();
    (dealer, monitor)
}

/// A client's link takes messages for a connection to come, so what counts is that none arrives.
/// Only an absence is awaited here: a slow machine can make it pass, never fail.
fn assert_silent(router: &Socket) {
    let quiet = Duration::from_millis(400);
    assert!(!router.recv_timeout(&mut Vec::new(), quiet).unwrap());
}

fn first_event(monitor: &mut Monitor) -> LinkEvent {
    let mut items = [PollItem::socket(monitor.socket(), Interest::Read)];
    assert_eq!(
        poll(&mut items, Some(PATIENCE)).unwrap(),
        1,
        "no event came"
    );
    monitor.next_event().unwrap().expect("polled above")
}

#[test]
fn an_admitted_key_brings_its_user_id_with_every_message() {
    let context = context();
    let zap = handle_zap(&context, "200");
    let (router, endpoint, key) = server(&context);
    let (dealer, mut monitor) = client(&context, &endpoint, &key);
    assert_eq!(first_event(&mut monitor), LinkEvent::Up);
    send(&dealer, [b"", b"body"]);
    let frames = receive(&router);
    assert_eq!(frames[2].property("User-Id").as_deref(), Some("alice"));
    context.shutdown();
    zap.join().unwrap();
}

#[test]
fn a_refused_key_is_told_so_and_sends_nothing() {
    let context = context();
    let zap = handle_zap(&context, "400");
    let (router, endpoint, key) = server(&context);
    let (dealer, mut monitor) = client(&context, &endpoint, &key);
    assert_eq!(first_event(&mut monitor), LinkEvent::KeyRefused(400));
    assert_eq!(dealer.send([Frame::from("x")]).unwrap(), SendOutcome::Sent);
    assert_silent(&router);
    context.shutdown();
    zap.join().unwrap();
}

#[test]
fn without_a_zap_handler_nobody_is_let_in() {
    let context = context();
    let (router, endpoint, key) = server(&context);
    let (dealer, _monitor) = client(&context, &endpoint, &key);
    assert_eq!(dealer.send([Frame::from("x")]).unwrap(), SendOutcome::Sent);
    assert_silent(&router);
}

#[test]
fn a_client_without_keys_or_with_another_servers_key_is_not_let_in() {
    let context = context();
    let zap = handle_zap(&context, "200");
    let (router, endpoint, _key) = server(&context);
    let keyless = open(&context, Kind::Dealer, Profile::ClientLink);
    keyless.connect(&endpoint).unwrap();
    let (misled, _monitor) = client(&context, &endpoint, &curve_keypair().unwrap().public);
    for dealer in [&keyless, &misled] {
        assert_eq!(dealer.send([Frame::from("x")]).unwrap(), SendOutcome::Sent);
    }
    assert_silent(&router);
    context.shutdown();
    zap.join().unwrap();
}

#[test]
fn keys_of_the_wrong_form_are_refused_by_name() {
    let context = context();
    let keys = curve_keypair().unwrap();
    let socket = open(&context, Kind::Dealer, Profile::ClientLink);
    for (server, public, secret, expected) in [
        ("short", &*keys.public, &*keys.secret, "server"),
        (&*keys.public, "", &*keys.secret, "public"),
        (
            &*keys.public,
            &*keys.public,
            "\u{e9}23456789012345678901234567890123456789",
            "secret",
        ),
    ] {
        let error = socket.set_curve_client(server, public, secret).unwrap_err();
        assert!(
            matches!(error, SocketError::BadKey { which } if which == expected),
            "{error}"
        );
    }
    assert!(matches!(
        socket.set_curve_server("x"),
        Err(SocketError::BadKey { which: "secret" })
    ));
}
