//! Whoever is no worker costs a descriptor for a moment, and nothing else.

use std::time::Duration;

use muster_broker::splice::{GoneReason, SpliceConfig};
use muster_proto::socket::{Context, Kind, Profile, Socket};
use muster_test_support::zmtp::{COMMAND, SIGNATURE, frame, greeting, ready};

use crate::raw::RawPeer;
use crate::rig::{Rig, connect};

fn hasty(config: &mut SpliceConfig) {
    config.handshake = Duration::from_millis(500);
}

#[test]
fn other_protocols_are_hung_up_on_and_nobody_hears_of_them() {
    // The usual time for the handshake is longer than a test's patience for one of these.
    let mut rig = Rig::with(|config| config.handshake = Duration::from_secs(3600));
    let zmtp_1 = [1, 0];
    let wrong_version = [&SIGNATURE[..], &[0, 0]].concat();
    let plain = greeting(1, b"PLAIN");
    let almost = [0xFF; 10];
    let said: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0",
        &zmtp_1,
        &wrong_version,
        &plain,
        &almost,
    ];
    for (n, bytes) in (1..).zip(said) {
        let mut stranger = RawPeer::connect(&rig.address());
        stranger.write(bytes);
        assert!(stranger.is_hung_up(), "{bytes:?}");
        rig.until("a stranger's end", |rig| rig.splice().strangers() == n);
    }
    assert!(rig.arrivals.is_empty());
    assert_eq!(rig.splice().links(), 0);
    // The door is open still.
    let mut peer = RawPeer::rep(&rig.address(), 1);
    rig.next_ready();
    peer.finish_handshake();
}

#[test]
fn half_a_greeting_is_dropped_when_its_time_is_over() {
    let mut rig = Rig::with(hasty);
    let whole = greeting(1, b"NULL");
    let mut strangers: Vec<_> = [0, 1, 9, 10, 11, 12, 63]
        .into_iter()
        .map(|count| {
            let mut stranger = RawPeer::connect(&rig.address());
            stranger.write(&whole[..count]);
            stranger
        })
        .collect();
    // One leaves by itself.
    drop(RawPeer::connect(&rig.address()));
    for stranger in &mut strangers {
        assert!(stranger.is_hung_up());
    }
    rig.until("eight strangers", |rig| rig.splice().strangers() == 8);
    assert!(rig.arrivals.is_empty());
    assert_eq!(rig.splice().links(), 0);
}

#[test]
fn a_peer_that_never_gets_ready_is_dropped_with_its_lane() {
    let mut rig = Rig::with(hasty);
    let mut peer = RawPeer::connect(&rig.address());
    peer.write(&greeting(1, b"NULL"));
    rig.until("an arrival", |rig| rig.arrivals.len() == 1);
    let link = *rig.arrivals.keys().next().unwrap();
    assert_eq!(rig.reason(link), GoneReason::HandshakeTimeout);
    assert!(peer.is_hung_up());
    assert!(rig.ready.is_empty());
}

#[test]
fn a_socket_of_the_wrong_type_is_refused() {
    let mut rig = Rig::tcp();
    for (n, socket_type) in (1..).zip(["PUSH", "REQ", "SUB"]) {
        let mut peer = RawPeer::connect(&rig.address());
        peer.write(&greeting(1, b"NULL"));
        peer.write(&ready(socket_type, &[]));
        rig.until("an end", |rig| rig.gone.len() == n);
        assert!(peer.is_hung_up());
    }
    assert!(rig.ready.is_empty());
    let reasons: Vec<_> = rig.gone.into_values().collect();
    assert_eq!(reasons, [GoneReason::Refused; 3]);
}

#[test]
fn a_socket_of_the_wrong_type_is_refused_behind_curve_as_well() {
    let mut rig = Rig::keyed();
    let context = Context::new(1).unwrap();
    let asker = Socket::open(&context, Kind::Req, &Profile::DataLink).unwrap();
    connect(&asker, &rig.endpoint());
    rig.until("an end", |rig| !rig.gone.is_empty());
    assert!(rig.ready.is_empty());
    let reasons: Vec<_> = rig.gone.into_values().collect();
    assert_eq!(reasons[0], GoneReason::Refused);
}

#[test]
fn garbage_after_the_greeting_ends_the_link() {
    let mut rig = Rig::with(hasty);
    let said = [
        &[0xFF; 100][..],
        &frame(COMMAND, b"\x05WRONG"),
        b"\x04\x00\x00\x00",
    ];
    for (n, garbage) in (1..).zip(said) {
        let mut peer = RawPeer::connect(&rig.address());
        peer.write(&greeting(1, b"NULL"));
        peer.write(garbage);
        rig.until("an end", |rig| rig.gone.len() == n);
        assert!(peer.is_hung_up(), "{garbage:?}");
    }
    assert_eq!(rig.splice().links(), 0);
}
