//! What tests need of npm: a browser's driver, schemas and what judges by them.
#![allow(dead_code, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Found from the gateway's folder as well as from the one above it, whose tests use this file, too.
const SCRIPTS: [&str; 2] = [
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/page.mjs"),
    concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/gateway/tests/browser/page.mjs"
    ),
];

/// Browsers are large, and npm is slow: one at a time.
static TURN: Mutex<()> = Mutex::new(());

/// The folder whose `node_modules` holds these packages, or why there is none.
pub fn node_folder(name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for program in ["node", "npm"] {
        if !is_there(program) {
            return Err(format!("{program} is not installed"));
        }
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let done = folder.join("installed");
    if std::fs::read_to_string(&done).is_ok_and(|text| text == packages.join(" ")) {
        return Ok(folder);
    }
    let installed = Command::new("npm")
        .args([
            "install",
            "--no-save",
            "--no-audit",
            "--no-fund",
            "--silent",
            "--prefix",
        ])
        .arg(&folder)
        .args(packages)
        .stdout(Stdio::null())
        .status();
    if !installed.is_ok_and(|status| status.success()) {
        return Err(format!("npm can't install {}", packages.join(", ")));
    }
    std::fs::write(done, packages.join(" ")).unwrap();
    Ok(folder)
}

/// Says that a test did not run, unless `MUSTER_BROWSER` says that it must.
pub fn skip(test: &str, reason: &str) {
    assert!(std::env::var_os("MUSTER_BROWSER").is_none(), "{reason}");
    eprintln!("SKIPPED {test}: {reason}");
}

/// Runs one scenario of the browser's script; false: it was skipped.
pub fn browse(url: &str, scenario: &str) -> bool {
    let folder = match is_there("chromium") {
        true => node_folder("browser", &["playwright-core@1"]),
        false => Err("chromium is not installed".into()),
    };
    let folder = match folder {
        Ok(folder) => folder,
        Err(reason) => {
            skip(&format!("browser test {scenario}"), &reason);
            return false;
        }
    };
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let script = SCRIPTS
        .into_iter()
        .find(|script| Path::new(script).is_file())
        .unwrap();
    let output = Command::new("node")
        .args([script, url, scenario])
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

fn is_there(program: &str) -> bool {
    let mut version = Command::new(program);
    version
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}
