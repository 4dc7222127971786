//! What tests of several crates need: waits with an end, and memory groups of the kernel.

mod memory_group;

pub use memory_group::MemoryGroup;

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
