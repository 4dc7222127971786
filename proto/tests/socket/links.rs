//! Messages over links, and the ends of links.

use std::fs;
use std::time::{Duration, Instant};

use muster_proto::socket::{
    Frame, Interest, Kind, LinkEvent, PollItem, Profile, SendOutcome, SocketError, Watch, poll,
};

use crate::process;
use crate::{PATIENCE, context, dial, listen, nonce, open, receive, send, wait_until};

#[test]
fn a_message_arrives_whole_and_its_reply_goes_back() {
    let context = context();
    let (router, endpoint) = listen(
        &context,
        Kind::Router,
        Profile::Frontend {
            disconnect: nonce(),
        },
    );
    let dealer = dial(&context, Kind::Dealer, Profile::ClientLink, &endpoint);
    send(&dealer, [b"", b"body", &[7; 100_000]]);

    let mut frames = receive(&router);
    assert_eq!(frames.len(), 4);
    assert_eq!((&frames[1][..], &frames[2][..]), (&b""[..], &b"body"[..]));
    assert!(frames[3].len() == 100_000 && frames[3].iter().all(|&byte| byte == 7));
    assert_eq!(
        frames[2].property("Peer-Address").as_deref(),
        Some("127.0.0.1")
    );

    assert_eq!(router.send_frames(&mut frames).unwrap(), SendOutcome::Sent);
    assert!(frames.is_empty());
    assert_eq!(receive(&dealer).len(), 3);
    assert!(!router.recv_into(&mut frames).unwrap() && frames.is_empty());
}

#[test]
fn a_received_attachment_goes_to_many_peers_without_a_copy() {
    let context = context();
    let (router, endpoint) = listen(
        &context,
        Kind::Router,
        Profile::Frontend {
            disconnect: nonce(),
        },
    );
    let dealer = dial(&context, Kind::Dealer, Profile::ClientLink, &endpoint);
    send(&dealer, [&[1; 1 << 20]]);
    let frames = receive(&router);
    let share = frames[1].share();
    assert_eq!(share.as_ptr(), frames[1].as_ptr());

    for _ in 0..3 {
        let message = [frames[0].share(), frames[1].share()];
        assert_eq!(router.send(message).unwrap(), SendOutcome::Sent);
    }
    drop(frames);
    for _ in 0..3 {
        assert_eq!(receive(&dealer)[0], share);
    }
}

#[test]
fn a_killed_peer_is_told_of_once_and_after_its_last_message() {
    let context = context();
    let disconnect = nonce();
    for transport in ["tcp", "ipc"] {
        let folder = tempfile::tempdir().unwrap();
        let router = open(&context, Kind::Router, Profile::Frontend { disconnect });
        router
            .bind(&match transport {
                "tcp" => "tcp://127.0.0.1:*".to_owned(),
                _ => format!("ipc://{}/s", folder.path().display()),
            })
            .unwrap();
        let mut peer = process::start("sender", &router.last_endpoint().unwrap());
        let id = receive(&router)[0].share();

        peer.kill();
        // The peer wrote ahead: its messages come without a gap, then the nonce, then nothing.
        for number in 1u64.. {
            let frames = receive(&router);
            assert_eq!(frames[0], id, "{transport}");
            if frames.len() == 2 {
                assert!(disconnect.matches(&frames[1]), "{transport}");
                break;
            }
            assert_eq!(frames[1][..], number.to_be_bytes(), "{transport}");
        }
        assert!(
            !router
                .recv_timeout(&mut Vec::new(), Duration::from_millis(50))
                .unwrap()
        );

        let outcome = router.send([id, Frame::from("too late")]).unwrap();
        assert_eq!(outcome, SendOutcome::Unreachable, "{transport}");
    }
}

#[test]
fn a_closed_peer_is_told_of_even_when_the_receive_limit_is_reached() {
    let context = context();
    let disconnect = nonce();
    let (router, endpoint) = listen(&context, Kind::Router, Profile::Frontend { disconnect });
    let dealer = dial(&context, Kind::Dealer, Profile::ClientLink, &endpoint);
    // As many as the frontend reads ahead (RCVHWM 64), so nothing waits in the peer.
    for number in 0..64u8 {
        send(&dealer, [&[number]]);
    }
    receive(&router);
    drop(dealer);
    let mut seen = 1;
    while receive(&router)[1].len() == 1 {
        seen += 1;
    }
    assert!(seen <= 64);
}

#[test]
fn a_message_to_a_stranger_is_unreachable() {
    let context = context();
    let (router, _) = listen(
        &context,
        Kind::Router,
        Profile::Workers {
            disconnect: nonce(),
        },
    );
    let mut frames = vec![Frame::from("nobody"), Frame::from("body")];
    assert_eq!(
        router.send_frames(&mut frames).unwrap(),
        SendOutcome::Unreachable
    );
    assert_eq!(
        (&frames[0][..], &frames[1][..]),
        (&b"nobody"[..], &b"body"[..])
    );
}

#[test]
fn a_slow_peer_gets_every_message_that_was_taken_and_the_rest_is_handed_back() {
    let context = context();
    let (router, endpoint) = listen(
        &context,
        Kind::Router,
        Profile::Frontend {
            disconnect: nonce(),
        },
    );
    let dealer = open(&context, Kind::Dealer, Profile::ClientLink);
    dealer.set_queue_limits(8, 8).unwrap();
    dealer.connect(&endpoint).unwrap();
    send(&dealer, [b"here"]);
    let id = receive(&router)[0].share();

    let message = |number: u32| {
        vec![
            id.share(),
            Frame::from(""),
            Frame::from(&number.to_be_bytes()),
            vec![9; 32_768].into(),
        ]
    };
    let mut number = 0;
    let mut refused = loop {
        let mut frames = message(number);
        match router.send_frames(&mut frames).unwrap() {
            SendOutcome::Sent => number += 1,
            SendOutcome::WouldBlock => break frames,
            SendOutcome::Unreachable => panic!("the peer is there"),
        }
        assert!(
            number < 100_000,
            "a peer that does not read has no end of room"
        );
    };
    assert_eq!(refused, message(number), "the refused message is whole");

    for expected in 0..number {
        assert_eq!(receive(&dealer)[1][..], expected.to_be_bytes());
    }
    wait_until("room for the refused message", || {
        router.send_frames(&mut refused).unwrap() == SendOutcome::Sent
    });
    assert_eq!(receive(&dealer)[1][..], number.to_be_bytes());
}

#[test]
fn dropping_sockets_with_unsent_messages_does_not_wait_for_a_peer() {
    let theirs = context();
    let (router, endpoint) = listen(
        &theirs,
        Kind::Router,
        Profile::Frontend {
            disconnect: nonce(),
        },
    );
    let ours = context();
    let dealer = dial(&ours, Kind::Dealer, Profile::ClientLink, &endpoint);
    send(&dealer, [b"here"]);
    receive(&router);
    // Their router lives and nobody reads, so these fill the buffers and wait in libzmq.
    while dealer.send([Frame::from(vec![0; 65_536])]).unwrap() == SendOutcome::Sent {}

    let start = Instant::now();
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop((dealer, ours));
        done.send(()).unwrap();
    });
    is_done.recv_timeout(PATIENCE).expect("the context ends");
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "took {:?}",
        start.elapsed()
    );
    drop(router);
}

#[test]
fn a_shutdown_ends_the_wait_of_another_thread() {
    let context = context();
    let (router, _) = listen(
        &context,
        Kind::Router,
        Profile::Workers {
            disconnect: nonce(),
        },
    );
    let waiting = std::thread::spawn(move || {
        let first = router.recv_timeout(&mut Vec::new(), PATIENCE);
        let second = router.send([Frame::from("id"), Frame::from("body")]);
        (first, second)
    });
    context.shutdown();
    let (first, second) = waiting.join().unwrap();
    assert!(matches!(first, Err(SocketError::Terminated)), "{first:?}");
    assert!(matches!(second, Err(SocketError::Terminated)), "{second:?}");
}

#[test]
fn a_monitor_tells_of_links_that_come_and_go() {
    let context = context();
    let (router, endpoint) = listen(
        &context,
        Kind::Router,
        Profile::Workers {
            disconnect: nonce(),
        },
    );
    let mut monitor = router.monitor(Watch::Links).unwrap();
    let mut next = || {
        let mut items = [PollItem::socket(monitor.socket(), Interest::Read)];
        assert_eq!(poll(&mut items, Some(PATIENCE)).unwrap(), 1);
        monitor.next_event().unwrap()
    };
    let dealer = dial(&context, Kind::Dealer, Profile::ControlLink, &endpoint);
    assert_eq!(next(), Some(LinkEvent::Up));
    drop(dealer);
    assert_eq!(next(), Some(LinkEvent::Down));
}

#[test]
fn an_unread_monitor_does_not_stop_the_socket() {
    let context = context();
    let (router, endpoint) = listen(
        &context,
        Kind::Router,
        Profile::Workers {
            disconnect: nonce(),
        },
    );
    let _unread = router.monitor(Watch::Links).unwrap();
    // libzmq's default limits would block its I/O thread after about a thousand events.
    for _ in 0..1_200 {
        let dealer = dial(&context, Kind::Dealer, Profile::DataLink, &endpoint);
        send(&dealer, [b"x"]);
        // The message, or the news that the one before is gone.
        receive(&router);
    }
}

#[test]
fn both_ends_of_a_tcp_link_have_the_kernels_keepalive_timer() {
    let context = context();
    for (bound, kind, dialling) in [
        (
            Profile::Frontend {
                disconnect: nonce(),
            },
            Kind::Dealer,
            Profile::ClientLink,
        ),
        (
            Profile::Workers {
                disconnect: nonce(),
            },
            Kind::Dealer,
            Profile::DataLink,
        ),
        (
            Profile::Workers {
                disconnect: nonce(),
            },
            Kind::Rep,
            Profile::LaneDial { credit: 1 },
        ),
    ] {
        let bound_kind = if kind == Kind::Rep {
            Kind::Dealer
        } else {
            Kind::Router
        };
        let (listening, endpoint) = listen(&context, bound_kind, bound);
        let port: u16 = endpoint.rsplit(':').next().unwrap().parse().unwrap();
        let _dialling = dial(&context, kind, dialling, &endpoint);
        // Two rows, one for each end. Timer 02 is keepalive, once nothing is unacknowledged.
        wait_until("keepalive timers on both ends", || {
            let timers = established_timers(port);
            timers.len() == 2 && timers.iter().all(|timer| timer.starts_with("02:"))
        });
        drop(listening);
    }
}

/// The timer column of established connections from or to a loopback port.
fn established_timers(port: u16) -> Vec<String> {
    let table = fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    let address = format!("0100007F:{port:04X}");
    table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|row| row.len() > 5 && (row[1] == address || row[2] == address) && row[3] == "01")
        .map(|row| row[5].to_owned())
        .collect()
}

#[test]
fn a_wait_by_the_descriptor_misses_no_message() {
    const ROUNDS: u32 = 3_000;
    let context = context();
    let (near, endpoint) = listen(&context, Kind::Dealer, Profile::Inproc);
    let far = dial(&context, Kind::Dealer, Profile::Inproc, &endpoint);
    let echo = std::thread::spawn(move || {
        for _ in 0..2 * ROUNDS {
            let mut frames = receive(&far);
            assert_eq!(far.send_frames(&mut frames).unwrap(), SendOutcome::Sent);
        }
    });
    let mut frames = Vec::new();
    for round in 0..ROUNDS {
        // What comes while the second one is sent may be taken in by sending it.
        for number in [2 * round, 2 * round + 1] {
            send(&near, [&number.to_le_bytes()]);
        }
        let mut received = 0;
        while received < 2 {
            if !near.has_message().unwrap() {
                let mut items = [PollItem::wake_of(&near).unwrap()];
                assert_eq!(poll(&mut items, Some(PATIENCE)).unwrap(), 1, "{round}");
            }
            while near.recv_into(&mut frames).unwrap() {
                assert_eq!(frames[0][..], (2 * round + received).to_le_bytes());
                received += 1;
            }
        }
    }
    echo.join().unwrap();
}
