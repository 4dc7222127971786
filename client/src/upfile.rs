//! `up.json` in the runtime directory: which `muster up` runs the cluster.

use crate::process::{Process, start_of};
use muster_proto::runtime::{BROKER_FILES, RuntimeDir};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// What else is in the runtime directory of a cluster that has ended. The lock is last: while it is
/// there and held, nobody else starts here.
const FILES: [&str; 3] = ["methods.json", "up.json", "lock"];

/// The file's content.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UpFile {
    /// The process of `muster up`.
    pub pid: u32,
    /// When it started, in ticks since boot.
    pub started: u64,
    /// Once the slots are ready: how many, and of how many methods.
    pub ready: Option<Ready>,
}

/// What is ready.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ready {
    /// Slots of the worker that was started.
    pub slots: u64,
    /// The methods on offer.
    pub methods: Vec<String>,
}

impl UpFile {
    /// This process, not yet ready.
    pub fn own() -> Self {
        let pid = std::process::id();
        UpFile {
            pid,
            started: start_of(pid).unwrap_or(0),
            ready: None,
        }
    }

    /// Reads the file of a runtime directory, if there is one.
    pub fn read(dir: &RuntimeDir) -> Option<Self> {
        serde_json::from_slice(&fs::read(path(dir)).ok()?).ok()
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, dir: &RuntimeDir) -> io::Result<()> {
        let fresh = dir.path().join("up.json.new");
        let _ = fs::remove_file(&fresh);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(&fresh, path(dir))
    }

    /// The `muster up` it names, if it lives.
    pub fn process(&self) -> Option<Process> {
        Process::open_started(self.pid, self.started)
    }
}

/// Removes what a dead broker left, and the directory when nothing else is in it. A living broker
/// holds the lock, and its files stay.
pub fn clean(dir: &RuntimeDir) {
    if !dir.path().is_dir() {
        return;
    }
    let Ok(_lock) = dir.lock() else { return };
    for name in BROKER_FILES.into_iter().chain(FILES) {
        let _ = fs::remove_file(dir.path().join(name));
    }
    let _ = fs::remove_dir(dir.path());
}

fn path(dir: &RuntimeDir) -> PathBuf {
    dir.path().join("up.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_names_this_process_and_cleaning_spares_a_living_broker() {
        let folder = tempfile::tempdir().unwrap();
        let dir = RuntimeDir::locate("c", Some(folder.path())).unwrap();
        dir.create().unwrap();
        assert!(UpFile::read(&dir).is_none());
        UpFile::own().write(&dir).unwrap();
        let read = UpFile::read(&dir).unwrap();
        assert_eq!(read.process().unwrap().pid(), std::process::id());
        let lock = dir.lock().unwrap();
        clean(&dir);
        assert!(UpFile::read(&dir).is_some());
        drop(lock);
        clean(&dir);
        assert!(!dir.path().exists());
    }
}
