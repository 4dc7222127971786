//! The page in a real browser: headless Chromium, driven by playwright-core from npm.
//!
//! Without Chromium or npm these tests say so and pass; `MUSTER_BROWSER=must` makes that a failure.
//! `MUSTER_SCREENSHOTS=DIR` keeps pictures.

mod common;

use common::{FakeBroker, Gateway};
use muster_gateway::Config;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, OnceLock};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/page.mjs");
/// Browsers are large: one at a time.
static TURN: Mutex<()> = Mutex::new(());

/// The folder with playwright-core in it, or why there is none.
fn playwright() -> Result<&'static Path, &'static str> {
    static FOLDER: OnceLock<Result<PathBuf, &'static str>> = OnceLock::new();
    let install = || {
        let is_there = |program: &str| {
            let mut version = Command::new(program);
            version
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            version.status().is_ok_and(|status| status.success())
        };
        if !is_there("chromium") {
            return Err("chromium is not installed");
        }
        if !is_there("node") || !is_there("npm") {
            return Err("node and npm are not installed");
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser");
        std::fs::create_dir_all(&folder).unwrap();
        if !folder
            .join("node_modules/playwright-core/package.json")
            .is_file()
        {
            let installed = Command::new("npm")
                .args([
                    "install",
                    "--no-save",
                    "--no-audit",
                    "--no-fund",
                    "--silent",
                    "playwright-core@1",
                ])
                .arg("--prefix")
                .arg(&folder)
                .status();
            if !installed.is_ok_and(|status| status.success()) {
                return Err("npm can't install playwright-core");
            }
        }
        Ok(folder)
    };
    FOLDER
        .get_or_init(install)
        .as_deref()
        .map_err(|reason| *reason)
}

/// Runs one scenario of the script; false: it was skipped.
fn browse(scenario: &str, gateway: &Gateway) -> bool {
    let _turn = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = match playwright() {
        Ok(folder) => folder,
        Err(reason) => {
            assert!(std::env::var_os("MUSTER_BROWSER").is_none(), "{reason}");
            eprintln!("SKIPPED browser test {scenario}: {reason}");
            return false;
        }
    };
    let output = Command::new("node")
        .args([SCRIPT, &gateway.url(), scenario])
        .env(
            "PLAYWRIGHT",
            folder.join("node_modules/playwright-core/index.mjs"),
        )
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    print!("{text}");
    true
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
