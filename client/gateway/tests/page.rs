//! The page in a real browser: headless Chromium, driven by playwright-core from npm.
//!
//! Without Chromium or npm these tests say so and pass; `MUSTER_BROWSER=must` makes that a failure.
//! `MUSTER_SCREENSHOTS=DIR` keeps pictures.

#[path = "common/browser.rs"]
mod browser;
mod common;

use common::{FakeBroker, Gateway};
use muster_gateway::Config;
use std::sync::atomic::Ordering;

fn browse(scenario: &str, gateway: &Gateway) -> bool {
    browser::browse(&gateway.url(), scenario)
}

fn crowd(workers: usize, slots: usize) -> Gateway {
    let broker = FakeBroker {
        workers,
        slots,
        ..FakeBroker::default()
    };
    Gateway::start(broker, Config::default())
}

#[test]
fn browser_a_small_cluster_is_watched_called_and_lost() {
    let gateway = crowd(3, 4);
    browse("small", &gateway);
}

#[test]
fn browser_five_hundred_workers_are_shown_and_stay_usable() {
    let gateway = crowd(500, 4);
    browse("crowd", &gateway);
}

#[test]
fn browser_the_page_is_used_without_a_mouse() {
    let gateway = crowd(3, 4);
    browse("keyboard", &gateway);
}

#[test]
fn browser_a_page_of_another_origin_cannot_call() {
    let gateway = crowd(1, 1);
    browse("foreign", &gateway);
    assert!(gateway.broker.bodies.lock().unwrap().is_empty());
}

#[test]
fn browser_nobody_watches_and_the_broker_is_left_alone() {
    let gateway = crowd(1, 1);
    if browse("leave", &gateway) {
        let polls = gateway.broker.polls.load(Ordering::Relaxed);
        // The page is gone, so at most the poll under way is still counted.
        std::thread::sleep(std::time::Duration::from_millis(2_500));
        let later = gateway.broker.polls.load(Ordering::Relaxed);
        assert!(polls >= 1 && later <= polls + 1, "{polls} then {later}");
    }
}
