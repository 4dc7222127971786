//! A memory group of the kernel, version 2 or 1 of its interface.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Where a group can be made, and what its files are called.
#[derive(Clone, Copy)]
struct Interface {
    root: &'static str,
    limit: &'static str,
    peak: &'static str,
    events: &'static str,
}

const INTERFACES: [Interface; 2] = [
    Interface {
        root: "/sys/fs/cgroup",
        limit: "memory.max",
        peak: "memory.peak",
        events: "memory.events",
    },
    Interface {
        root: "/sys/fs/cgroup/memory",
        limit: "memory.limit_in_bytes",
        peak: "memory.max_usage_in_bytes",
        events: "memory.oom_control",
    },
];

/// A group with a limit. It is taken away when it is dropped; whoever is in it has ended by then.
pub struct MemoryGroup {
    path: PathBuf,
    interface: Interface,
}

impl MemoryGroup {
    /// `None` where this machine lets nobody make one, which is said: the test can't be done there.
    pub fn new(bytes_max: u64) -> Option<Self> {
        let made = INTERFACES
            .into_iter()
            .find_map(|interface| Self::make(interface, bytes_max));
        if made.is_none() {
            println!("SKIPPED: no memory group can be made here");
        }
        made
    }

    fn make(interface: Interface, bytes_max: u64) -> Option<Self> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("muster-test-{}-{serial}", std::process::id());
        let path = Path::new(interface.root).join(name);
        fs::create_dir(&path).ok()?;
        let group = MemoryGroup { path, interface };
        let limit = group.path.join(interface.limit);
        // Where version 1 is mounted, the root is an ordinary folder for version 2.
        let is_group = limit.is_file() && fs::write(limit, bytes_max.to_string()).is_ok();
        is_group.then_some(group)
    }

    /// The words of a command that runs the command after it in this group.
    pub fn starter(&self) -> Vec<String> {
        let script = format!(
            r#"echo $$ > {}/cgroup.procs && exec "$0" "$@""#,
            self.path.display()
        );
        ["sh", "-c", &script].map(str::to_owned).to_vec()
    }

    /// The most that it has used; `None` where the kernel does not say.
    pub fn peak_bytes(&self) -> Option<u64> {
        let text = fs::read_to_string(self.path.join(self.interface.peak)).ok()?;
        text.trim().parse().ok()
    }

    /// How many of its processes the kernel has killed for their memory.
    pub fn kills(&self) -> u64 {
        let text = fs::read_to_string(self.path.join(self.interface.events)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|number| number.parse().ok()).unwrap_or(0)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Those in it are reaped by others, in a moment.
        let start = Instant::now();
        while fs::remove_dir(&self.path).is_err() && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
