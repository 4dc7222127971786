//! Machines that vanish: real network stacks in namespaces of this test's own, joined by a pair of
//! virtual cables. A cable that is set down is a dead machine; a route into nothing loses what goes
//! one way. Needs root and `ip` (iproute2); without them each test says that it was skipped.

mod lab;

use lab::{Lab, wait_for};
use std::time::{Duration, Instant};

/// Twice the time after which a silent worker is given up (three heartbeats of 1 s).
const WORKER_GONE_MAX: Duration = Duration::from_secs(6);
/// Kernel keepalive: 5 s of silence and three probes 2 s apart; and time to see it here.
const CLIENT_GONE_MAX: Duration = Duration::from_secs(15);

/// W20, N1: a managed worker's machine is lost, and comes back.
#[test]
fn the_call_of_a_lost_machine_runs_elsewhere_and_the_machine_is_welcome_again() {
    let Some(lab) = Lab::build("the_call_of_a_lost_machine_runs_elsewhere") else {
        return;
    };
    let _far = lab.worker_there("far");
    lab.await_slots(1);
    let call = lab.call_here(&["sleep", "2"]);
    lab.await_running(1);
    let _near = lab.worker_here("near");
    lab.await_slots(2);
    lab.cable(false);
    let dead = Instant::now();
    wait_for("the machine to be given up", || {
        (lab.managed() == 1).then_some(())
    });
    lab.found(
        "a lost machine with a managed worker",
        dead,
        WORKER_GONE_MAX,
    );
    assert_eq!(lab.result(call).trim(), "2");
    lab.cable(true);
    // Its late answer is nobody's, and it serves again under its name.
    lab.await_slots(2);
    assert_eq!(lab.count("succeeded"), 1);
    assert_eq!(lab.count("retried"), 1);
    assert_eq!(
        lab.result(lab.call_here(&["--to", "far", "echo", "7"]))
            .trim(),
        "7"
    );
}

/// N2: what the worker sends is lost, what it is sent arrives.
#[test]
fn a_line_that_carries_one_way_only_is_found_by_the_heartbeat() {
    let Some(lab) = Lab::build("a_line_that_carries_one_way_only") else {
        return;
    };
    let _far = lab.worker_there("far");
    lab.await_slots(1);
    let call = lab.call_here(&["sleep", "2"]);
    lab.await_running(1);
    let _near = lab.worker_here("near");
    lab.await_slots(2);
    lab.lose_what_comes_from_there(true);
    let dead = Instant::now();
    wait_for("the worker to be given up", || {
        (lab.managed() == 1).then_some(())
    });
    lab.found("a one-way line", dead, WORKER_GONE_MAX);
    assert_eq!(lab.result(call).trim(), "2");
    lab.lose_what_comes_from_there(false);
    lab.await_slots(2);
    assert_eq!(lab.count("succeeded"), 1);
}

/// W20 for a stock REP worker: the splice asks, and nothing comes.
#[test]
fn a_stock_worker_on_a_lost_machine_is_found() {
    let Some(lab) = Lab::build("a_stock_worker_on_a_lost_machine") else {
        return;
    };
    let _far = lab.lane_there();
    wait_for("the lane", || (lab.lanes() == 1).then_some(()));
    let call = lab.call_here(&["lane_mix", "1", "1000"]);
    lab.await_running(1);
    lab.cable(false);
    let dead = Instant::now();
    wait_for("the lane to be given up", || {
        (lab.lanes() == 0).then_some(())
    });
    lab.found("a lost machine with a stock worker", dead, WORKER_GONE_MAX);
    let _near = lab.lane_here();
    assert_eq!(lab.result(call).trim(), lab::MIX_OF_1);
    assert_eq!(lab.count("succeeded"), 1);
}

/// C2: a client's machine is lost while its call runs.
#[test]
fn the_calls_of_a_client_on_a_lost_machine_are_given_up() {
    let Some(lab) = Lab::build("the_calls_of_a_client_on_a_lost_machine") else {
        return;
    };
    let _near = lab.worker_here("near");
    lab.await_slots(1);
    let _running = lab.keyless_call_there();
    lab.await_running(1);
    lab.cable(false);
    let dead = Instant::now();
    // The slot is free again: the call was cancelled on the worker. It has no key, or it would go
    // on for a while.
    wait_for("the call to be cancelled", || {
        (lab.count("running") == 0).then_some(())
    });
    lab.found("a client on a lost machine", dead, CLIENT_GONE_MAX);
    assert_eq!(lab.result(lab.call_here(&["echo", "3"])).trim(), "3");
}
