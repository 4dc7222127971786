//! The worker's log, on standard error and in a file that `muster logs` reads.
//!
//! Source: docs/protocol.md, "Logs of workers".

use muster_proto::runtime::state_dir;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// A file becomes `NAME.log.1` at this size.
const BYTES_MAX: u64 = 16 << 20;
/// Logs of workers that ended longer ago are removed.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// The file of this process, once it is open.
static OPEN: Mutex<Option<LogFile>> = Mutex::new(None);

/// An open log file. Its lock shows that its worker lives.
#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
}

/// What is logged from now on goes to the file of the worker `name`, too; its path. `None`: there is
/// no place for one.
///
/// # Errors
/// When the file can't be made.
pub(crate) fn open(cluster: &str, name: &str) -> io::Result<Option<PathBuf>> {
    let Some(state) = state_dir(cluster) else {
        return Ok(None);
    };
    let folder = state.join("workers");
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)?;
    remove_old(&folder);
    let mut path = folder.join(format!("{name}.log"));
    let mut file = open_file(&path)?;
    if file.try_lock().is_err() {
        // Another worker of that name lives; the broker will give this one another name.
        path = folder.join(format!("{name}-{}.log", std::process::id()));
        file = open_file(&path)?;
        let _ = file.try_lock();
    }
    let bytes = file.metadata()?.len();
    let log = LogFile {
        path: path.clone(),
        file,
        bytes,
    };
    *lock() = Some(log);
    Ok(Some(path))
}

/// The worker goes by another name: so does its file, unless another one's is there.
pub(crate) fn rename(name: &str) {
    let mut open = lock();
    let Some(log) = &mut *open else { return };
    let path = log.path.with_file_name(format!("{name}.log"));
    let is_free = |path: &Path| match File::open(path) {
        Ok(file) => file.try_lock().is_ok(),
        Err(_) => true,
    };
    if path != log.path && is_free(&path) && fs::rename(&log.path, &path).is_ok() {
        log.path = path;
    }
}

/// Writes a line that has its time and level already, to both places.
pub(crate) fn pass(line: &str) {
    eprintln!("{line}");
    write(format!("{line}\n").as_bytes());
}

/// For a logger: what is written to it goes to the file, if there is one.
#[derive(Clone, Copy, Debug, Default)]
pub struct ToFile;

impl Write for ToFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A full disk or a removed folder is no reason to end a worker.
fn write(bytes: &[u8]) {
    let mut open = lock();
    let Some(log) = &mut *open else { return };
    if log.file.write_all(bytes).is_ok() {
        log.bytes += bytes.len() as u64;
    }
    if log.bytes >= BYTES_MAX {
        // Begun anew or not, it is not tried again before the next 16 MiB.
        log.bytes = 0;
        let _ = begin_anew(log);
    }
}

fn begin_anew(log: &mut LogFile) -> io::Result<()> {
    let mut old = log.path.clone().into_os_string();
    old.push(".1");
    fs::rename(&log.path, old)?;
    let file = open_file(&log.path)?;
    let _ = file.try_lock();
    log.file = file;
    Ok(())
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

/// Removes what workers left that ended long ago.
fn remove_old(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.ends_with(".log") && !name.ends_with(".log.1") {
            continue;
        }
        let is_old = |file: &File| {
            let written = file.metadata().and_then(|it| it.modified());
            let age = written.map(|at| SystemTime::now().duration_since(at));
            matches!(age, Ok(Ok(age)) if age > KEPT) && file.try_lock().is_ok()
        };
        if File::open(&path).is_ok_and(|file| is_old(&file)) {
            let _ = fs::remove_file(&path);
        }
    }
}

fn lock() -> std::sync::MutexGuard<'static, Option<LogFile>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_full_log_is_begun_anew_and_old_ones_are_removed_unless_locked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.log");
        let mut log = LogFile {
            file: open_file(&path).unwrap(),
            path: path.clone(),
            bytes: 0,
        };
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        log.file.write_all(b"before\n").unwrap();
        begin_anew(&mut log).unwrap();
        log.file.write_all(b"after\n").unwrap();
        let old = folder.path().join("w.log.1");
        assert_eq!(fs::read_to_string(&path).unwrap(), "after\n");
        assert_eq!(fs::read_to_string(&old).unwrap(), "before\n");
        let long_ago = SystemTime::now() - 2 * KEPT;
        log.file.set_modified(long_ago).unwrap();
        File::options()
            .append(true)
            .open(&old)
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
        remove_old(folder.path());
        assert!(path.exists() && !old.exists());
    }
}
