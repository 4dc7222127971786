//! The linked library is the one that was asked for.

use std::ffi::{CStr, c_int};

fn has(capability: &CStr) -> bool {
    // SAFETY: the string ends in NUL.
    unsafe { zmq_sys::zmq_has(capability.as_ptr()) == 1 }
}

#[test]
fn the_version_is_4_3_5() {
    let (mut major, mut minor, mut patch): (c_int, c_int, c_int) = (0, 0, 0);
    // SAFETY: three valid places for numbers.
    unsafe { zmq_sys::zmq_version(&raw mut major, &raw mut minor, &raw mut patch) };
    assert_eq!((major, minor, patch), (4, 3, 5));
}

#[test]
fn curve_local_sockets_and_drafts_are_built_in() {
    assert!(has(c"curve"));
    assert!(has(c"ipc"));
    assert!(has(c"draft"));
}

#[test]
fn keys_come_from_libsodium() {
    let (mut public, mut secret) = ([0; 41], [0; 41]);
    // SAFETY: each buffer has room for 40 characters and NUL.
    let status = unsafe { zmq_sys::zmq_curve_keypair(public.as_mut_ptr(), secret.as_mut_ptr()) };
    assert_eq!(status, 0);
    let mut derived = [0; 41];
    // SAFETY: as above; the secret key ends in NUL.
    let status = unsafe { zmq_sys::zmq_curve_public(derived.as_mut_ptr(), secret.as_ptr()) };
    assert_eq!((status, derived), (0, public));
}

#[test]
fn libzmq_reads_the_monotonic_clock() {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a stopwatch of this release is a `uint64_t` with its start, freed once.
    let started_us = unsafe {
        assert_eq!(libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now), 0);
        let watch = zmq_sys::zmq_stopwatch_start();
        let started_us = *watch.cast::<u64>();
        zmq_sys::zmq_stopwatch_stop(watch);
        started_us
    };
    let now_us = now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000;
    assert!(
        started_us.abs_diff(now_us) < 10_000_000,
        "{started_us} {now_us}"
    );
}
