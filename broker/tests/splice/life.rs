//! Who is gone, and who is only busy.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use muster_broker::splice::{GoneReason, SpliceConfig};
use muster_proto::socket::{Context, SendOutcome};
use rustix::process::Signal;

use crate::raw::RawPeer;
use crate::relay::Relay;
use crate::rig::{PATIENCE, Rig, rep};
use crate::role;

/// What the issue allows for finding a frozen peer.
const FROZEN_MAX: Duration = Duration::from_secs(6);

fn impatient(config: &mut SpliceConfig) {
    config.limits.silence = Duration::from_millis(750);
}

#[test]
fn a_frozen_process_is_found_in_six_seconds() {
    let mut rig = Rig::tcp();
    let local = format!("ipc://{}/backend", rig.folder.path().display());
    let mut local_rig = Rig::with(|config| config.listeners[0].endpoint.clone_from(&local));
    let workers = [rig.endpoint(), local].map(|endpoint| role::start("role::echoing", &endpoint));
    let (link, local_link) = (rig.next_ready(), local_rig.next_ready());
    rig.echo(link, b"x");
    local_rig.echo(local_link, b"x");
    for worker in &workers {
        worker.signal(Signal::STOP);
    }
    let start = Instant::now();
    // One holds a request, the other is idle.
    assert!(rig.send(link, &[b"x"]));
    rig.until("both ends", |rig| {
        local_rig.step(Duration::from_millis(20));
        rig.gone.contains_key(&link) && local_rig.gone.contains_key(&local_link)
    });
    assert!(start.elapsed() < FROZEN_MAX, "{:?}", start.elapsed());
    assert_eq!(rig.gone[&link], GoneReason::Silent);
    assert_eq!(local_rig.gone[&local_link], GoneReason::Silent);
    // It comes back, and dials again.
    workers[0].signal(Signal::CONT);
    let link = rig.next_ready();
    rig.echo(link, b"x");
}

#[test]
fn a_frozen_process_is_found_with_a_large_request_on_its_way() {
    let mut rig = Rig::tcp();
    let worker = role::start("role::echoing", &rig.endpoint());
    let link = rig.next_ready();
    rig.echo(link, b"x");
    worker.signal(Signal::STOP);
    // More than all buffers between here and there.
    assert!(rig.send(link, &[&vec![0; 64 << 20]]));
    assert_eq!(rig.reason(link), GoneReason::Silent);
}

#[test]
fn a_frozen_process_is_found_behind_curve() {
    let mut rig = Rig::keyed_with(impatient);
    let relay = Relay::start(&rig.address(), 100 << 20);
    let context = Context::new(1).unwrap();
    let endpoint = rig.endpoint().replace(&rig.address(), relay.address());
    let _worker = rep(&context, &endpoint);
    let link = rig.next_ready();
    // It sits idle for several PINGs, which count as requests, and lives.
    rig.until("some PINGs", {
        let start = Instant::now();
        move |_| start.elapsed() > Duration::from_secs(3)
    });
    assert!(rig.gone.is_empty());
    relay.die();
    assert_eq!(rig.reason(link), GoneReason::Silent);
}

#[test]
fn a_line_that_died_without_a_word_is_found() {
    let mut rig = Rig::with(impatient);
    let relay = Relay::start(&rig.address(), 100 << 20);
    let _worker = role::start("role::echoing", &relay.endpoint());
    let link = rig.next_ready();
    rig.echo(link, b"x");
    relay.die();
    assert_eq!(rig.reason(link), GoneReason::Silent);
}

#[test]
fn a_large_frame_on_a_slow_line_is_not_cut_either_way() {
    let mut rig = Rig::tcp();
    // 8 MB take 5 s each way, longer than the silence that is allowed.
    let relay = Relay::start(&rig.address(), 1_600_000);
    let _worker = role::start("role::echoing", &relay.endpoint());
    let link = rig.next_ready();
    let body = vec![3; 8_000_000];
    assert!(rig.send(link, &[&body]));
    rig.until("the large reply", |rig| {
        assert!(rig.gone.is_empty(), "cut: {:?}", rig.gone);
        rig.has_message(link)
    });
    assert!(rig.receive(link)[0] == body[..]);
}

#[test]
fn a_peer_of_an_older_version_gets_no_ping_and_is_not_judged_by_it() {
    let mut rig = Rig::with(impatient);
    let mut old = RawPeer::rep(&rig.address(), 0);
    let old_link = rig.next_ready();
    assert!(!rig.arrivals[&old_link].answers_pings);
    old.finish_handshake();
    // Two of the newer version that do not answer are found, one after the other.
    for _ in 0..2 {
        let mut mute = RawPeer::rep(&rig.address(), 1);
        let link = rig.next_ready();
        mute.finish_handshake();
        assert_eq!(rig.reason(link), GoneReason::Silent);
        let (_, ping) = mute.read_frame();
        assert!(ping.starts_with(b"\x04PING"));
    }
    assert!(rig.send(old_link, &[b"x"]));
    let (_, first) = old.read_frame();
    assert_eq!(first.len(), 20, "something came in front of the request");
    assert_eq!(rig.gone.get(&old_link), None);
}

#[test]
fn a_busy_worker_is_not_gone() {
    let mut rig = Rig::with(impatient);
    let context = Context::new(1).unwrap();
    let worker = rep(&context, &rig.endpoint());
    let link = rig.next_ready();
    assert!(rig.send(link, &[b"x"]));
    let (done, is_done) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        let mut frames = Vec::new();
        assert!(worker.recv_timeout(&mut frames, PATIENCE).unwrap());
        // Long work, during which only libzmq's own thread answers.
        let _ = is_done.recv_timeout(Duration::from_secs(4));
        assert_eq!(worker.send_frames(&mut frames).unwrap(), SendOutcome::Sent);
        worker
    });
    rig.receive(link);
    drop(done);
    assert!(!rig.step(Duration::ZERO), "{:?}", rig.gone);
    drop(thread.join());
}

/// The loop's half in a process of its own, to be frozen.
#[test]
#[ignore = "a role that other tests start"]
fn broker() {
    let mut rig = Rig::with(|config| {
        config.limits.silence = Duration::from_secs(1);
        config.listeners[0].endpoint = role::endpoint();
    });
    rig.next_ready();
    println!("ready now");
    // Longer than its parent lets it live.
    let start = Instant::now();
    rig.until("the end of the test", |rig| {
        assert!(rig.gone.is_empty(), "{:?}", rig.gone);
        start.elapsed() > Duration::from_secs(10)
    });
}

#[test]
fn a_broker_that_was_frozen_blames_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = format!("ipc://{}/backend", folder.path().display());
    let _worker = role::start("role::echoing", &endpoint);
    let mut broker = role::start("life::broker", &endpoint);
    broker.line("ready now");
    for _ in 0..3 {
        broker.signal(Signal::STOP);
        // Frozen for longer than a peer may be silent: the time itself is what is tested.
        thread::sleep(Duration::from_millis(1700));
        broker.signal(Signal::CONT);
        thread::sleep(Duration::from_millis(300));
    }
    broker.finish();
}
