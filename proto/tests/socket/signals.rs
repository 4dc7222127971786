//! A storm of signals.

// Installing a handler and aiming a signal at a thread have no safe wrapper.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use muster_proto::socket::{Frame, Interest, Kind, PollItem, Profile, SendOutcome, poll};

use crate::{PATIENCE, SetOnDrop, context, dial, listen, nonce};

static CAUGHT: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_signal: libc::c_int) {
    CAUGHT.fetch_add(1, Ordering::Relaxed);
}

/// Handles SIGUSR1 without SA_RESTART, so that system calls end with EINTR.
fn catch_signals() {
    // SAFETY: the handler only counts; the structure is valid when zero but for the handler.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count as extern "C" fn(libc::c_int) as usize;
        assert_eq!(
            libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()),
            0
        );
    }
}

fn this_thread() -> libc::pthread_t {
    // SAFETY: it has no condition.
    unsafe { libc::pthread_self() }
}

#[test]
fn signals_at_1_khz_neither_lose_nor_repeat_a_message_nor_end_a_wait() {
    const SIGNALS: u64 = 1_500;
    catch_signals();
    let context = context();
    let (router, endpoint) = listen(
        &context,
        Kind::Router,
        Profile::Workers {
            disconnect: nonce(),
        },
    );
    let dealer = dial(&context, Kind::Dealer, Profile::DataLink, &endpoint);
    let (storm_ends, echo_ends) = (AtomicBool::new(false), AtomicBool::new(false));
    let (aim, target) = std::sync::mpsc::channel();

    std::thread::scope(|scope| {
        // Also when an assertion fails; the storm ends first, as it aims at the other's thread.
        let echo_end = SetOnDrop(&echo_ends);
        let storm_end = SetOnDrop(&storm_ends);

        let (ends, storm_is_over) = (&echo_ends, &storm_ends);
        let echo = scope.spawn(move || {
            aim.send(this_thread()).unwrap();
            let mut frames = Vec::new();
            while !ends.load(Ordering::Relaxed) {
                // Short waits, so that the end is seen.
                if router
                    .recv_timeout(&mut frames, Duration::from_millis(20))
                    .unwrap()
                {
                    assert_eq!(router.send_frames(&mut frames).unwrap(), SendOutcome::Sent);
                }
            }
        });
        let targets = [target.recv().unwrap(), this_thread()];
        let storm = scope.spawn(move || {
            while !storm_is_over.load(Ordering::Relaxed) {
                for target in targets {
                    // SAFETY: the test's thread waits for this one, and the echo's is joined later.
                    unsafe { libc::pthread_kill(target, libc::SIGUSR1) };
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });

        let deadline = Instant::now() + PATIENCE;
        let mut frames = Vec::new();
        let mut number = 0u64;
        while CAUGHT.load(Ordering::Relaxed) < SIGNALS || number < 20_000 {
            assert!(Instant::now() < deadline, "{number} messages");
            // Some messages wait for an answer through each way of waiting.
            let burst = 1 + number % 50;
            for sent in number..number + burst {
                let mut message = vec![Frame::from(&sent.to_be_bytes()), vec![3; 600].into()];
                let outcome = dealer.send_timeout(&mut message, PATIENCE).unwrap();
                assert_eq!(outcome, SendOutcome::Sent);
            }
            for expected in number..number + burst {
                if expected % 2 == 0 {
                    let mut items = [PollItem::socket(&dealer, Interest::Read)];
                    assert_eq!(poll(&mut items, Some(PATIENCE)).unwrap(), 1);
                }
                assert!(dealer.recv_timeout(&mut frames, PATIENCE).unwrap());
                assert_eq!(frames[0][..], expected.to_be_bytes());
                assert_eq!(frames.len(), 2);
            }
            number += burst;
        }
        // A wait without an event keeps its length.
        let start = Instant::now();
        assert!(
            !dealer
                .recv_timeout(&mut frames, Duration::from_millis(100))
                .unwrap()
        );
        assert!(start.elapsed() >= Duration::from_millis(100));

        drop(storm_end);
        storm.join().unwrap();
        drop(echo_end);
        echo.join().unwrap();
    });
}
