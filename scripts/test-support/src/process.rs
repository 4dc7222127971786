//! What the system says of a process, and its end.

use std::fs;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// Whether a process is there, and no zombie.
pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Its name, in parentheses, may hold anything.
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
    state.is_some_and(|state| !state.starts_with('Z'))
}

/// Memory that a process has in use, in KiB.
///
/// # Panics
/// If there is no such process.
pub fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .expect("the kernel says how much")
}

/// Waits until a process ends by itself, for a minute at most. Like [`Child::wait`], it closes the
/// process's standard input first.
///
/// # Panics
/// If it does not end. It is killed then.
pub fn end_of(child: &mut Child) -> ExitStatus {
    drop(child.stdin.take());
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            return status;
        }
        if start.elapsed() > Duration::from_secs(60) {
            let _ = child.kill();
            let _ = child.wait();
            panic!("process {} does not end", child.id());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
