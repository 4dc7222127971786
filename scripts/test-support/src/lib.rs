//! What tests of several crates need.

mod memory_group;
mod process;
mod program;
mod role;
pub mod zmtp;

pub use memory_group::MemoryGroup;
pub use process::{end_of, is_alive, resident_kib};
pub use program::program;
pub use role::Role;

use std::time::{Duration, Instant};

/// Waits until `check` gives something.
///
/// # Panics
/// After `patience`, with what was waited for.
pub fn wait_for<T>(what: &str, patience: Duration, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(start.elapsed() < patience, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until `is_so`.
///
/// # Panics
/// After `patience`, with what was waited for.
pub fn wait_until(what: &str, patience: Duration, mut is_so: impl FnMut() -> bool) {
    wait_for(what, patience, || is_so().then_some(()));
}
