//! Muster's own programs, for tests of a crate that does not build them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// A program of Muster beside another one, which Cargo has built for the test (`sibling` is its
/// `env!("CARGO_BIN_EXE_…")`). Built now, if it is not there.
///
/// # Panics
/// If it can't be built.
pub fn program(sibling: &str, name: &str) -> PathBuf {
    static BUILDING: Mutex<()> = Mutex::new(());
    let path = Path::new(sibling).with_file_name(name);
    // Whoever panicked has said why.
    let _building = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    if !path.is_file() {
        let package = match name {
            "muster" => "muster-client",
            _ => name,
        };
        let built = Command::new(env!("CARGO"))
            .args(["build", "--release", "--bins", "-p", package])
            .arg("--manifest-path")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"))
            .status();
        assert!(built.expect("cargo runs").success(), "{name} is not built");
    }
    path
}
