//! The machine that the figures are from.

use serde::Serialize;
use std::fmt;
use std::fs;

/// What matters of a machine.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory in GiB.
    pub memory_gib: f64,
    /// The system.
    pub system: String,
    /// What else ran when the measurement began: the load of the last minute.
    pub load: f64,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine {
            processor,
            cores,
            memory_gib,
            system,
            load,
        } = self;
        write!(
            f,
            "{processor}, {cores} cores, {memory_gib:.0} GiB, {system}; load {load} at start"
        )
    }
}

/// This machine.
pub fn describe() -> Machine {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| -> Option<String> {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
    let memory_kib: f64 = memory
        .split_whitespace()
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or_default();
    let uname = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let load = read("/proc/loadavg");
    Machine {
        processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or("unknown".into()),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_gib: memory_kib / f64::from(1 << 20),
        system: [uname.sysname(), uname.release(), uname.machine()]
            .map(text)
            .join(" "),
        load: load
            .split_whitespace()
            .next()
            .and_then(|text| text.parse().ok())
            .unwrap_or_default(),
    }
}
