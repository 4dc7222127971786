//! `muster up --detach`: the same in the background.

use super::{CommandResult, Failure};
use crate::cli::Common;
use crate::output::Output;
use crate::process::{Process, start_of};
use crate::upfile::UpFile;
use muster_proto::exit::Exit;
use muster_proto::runtime::{RuntimeDir, state_dir};
use rustix::process::Signal;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Tells the process in the background that it is one.
pub const MARK: &str = "MUSTER_DETACHED";
/// How often the other process is looked at.
const PAUSE: Duration = Duration::from_millis(20);
/// How long an interrupted start may take to end what it has started.
const INTERRUPT_GRACE: Duration = Duration::from_secs(10);
/// Of the log of a start that failed, this much is shown.
const TAIL_BYTES: u64 = 4_096;

/// Starts `muster up` in the background and returns when its slots are ready.
pub fn run(common: &Common, dir: &RuntimeDir, out: &mut Output) -> CommandResult {
    let (path, log) = open_log(common)?;
    let start = log.metadata().map_or(0, |found| found.len());
    let mut child = spawn(&log).map_err(|source| system("muster", source))?;
    let started = start_of(child.id());
    let is_interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_interrupted);
    super::on_interrupt(move || flag.store(true, Ordering::SeqCst))?;
    loop {
        if is_interrupted.load(Ordering::SeqCst) {
            // Nobody has been told that it runs, so nobody would end it.
            if let Some(up) = Process::open(child.id()) {
                up.end(INTERRUPT_GRACE);
            }
            return Ok(Exit::Signal(Signal::INT.as_raw()));
        }
        if let Some(status) = child
            .try_wait()
            .map_err(|source| system("muster", source))?
        {
            crate::output::note(&format!("it did not start; from {}:", path.display()));
            eprint!("{}", tail(&path, start));
            let code = status.code().unwrap_or(1);
            let is_usage = code == Exit::Usage.number();
            return Ok(if is_usage { Exit::Usage } else { Exit::Failed });
        }
        let file = UpFile::read(dir);
        let is_own = |file: &UpFile| file.pid == child.id() && Some(file.started) == started;
        if let Some(ready) = file.filter(is_own).and_then(|file| file.ready) {
            super::up::print_ready(dir, &ready, out)?;
            out.note(&format!(
                "its log: {}; to end it: muster down",
                path.display()
            ));
            return Ok(Exit::Done);
        }
        std::thread::sleep(PAUSE);
    }
}

/// In the background: leaves the terminal, so that its end is not ours.
pub fn leave_terminal() {
    if std::env::var_os(MARK).is_some() {
        // Refused only where it has been done.
        let _ = rustix::process::setsid();
    }
}

fn spawn(log: &File) -> io::Result<std::process::Child> {
    let args = std::env::args_os().skip(1).filter(|arg| arg != "--detach");
    Command::new(std::env::current_exe()?)
        .args(args)
        .env(MARK, "1")
        .env(
            "MUSTER_LOG",
            std::env::var_os("MUSTER_LOG").unwrap_or_else(|| "info".into()),
        )
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        .spawn()
}

fn open_log(common: &Common) -> Result<(PathBuf, File), Failure> {
    let cluster = common.target().runtime()?;
    let folder = state_dir(cluster.cluster())
        .ok_or_else(|| Failure::Usage("no place for the log: set HOME or XDG_STATE_HOME".into()))?;
    let path = folder.join("up.log");
    let open = || {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
    };
    let file = open().map_err(|source| system(&path.display().to_string(), source))?;
    Ok((path, file))
}

fn tail(path: &Path, start: u64) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let end = fs::metadata(path)?.len();
        file.seek(SeekFrom::Start(start.max(end.saturating_sub(TAIL_BYTES))))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_default()
}

fn system(what: &str, source: io::Error) -> Failure {
    Failure::System {
        what: what.to_owned(),
        source,
    }
}
