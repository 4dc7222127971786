//! A program that ends with the one that started it.

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// Names the process whose end is to be the end of its children as well. `muster up` sets it for the
/// broker and the worker. A process that merely inherited it has another parent and is not meant.
pub const PARENT_VARIABLE: &str = "MUSTER_PARENT";

/// If the parent asked for it, has the kernel send SIGTERM when the parent ends, however it does.
///
/// For the first line of a program: the kernel's promise holds from here on.
pub fn end_with_parent() {
    let named = std::env::var(PARENT_VARIABLE).ok();
    let named = named.and_then(|text| Pid::from_raw(text.parse().ok()?));
    if named.is_none() || getppid() != named {
        return;
    }
    // Refused only by a kernel without it; then a parent that is killed leaves its children.
    let _ = set_parent_process_death_signal(Some(Signal::TERM));
    if getppid() != named {
        // It ended in between, so nobody will tell us any more.
        let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::TERM);
    }
}
