//! `muster logs`: what the workers of this machine wrote.

use super::{CommandResult, Failure};
use crate::cli::{Common, LogsArgs};
use crate::output::Output;
use muster_proto::exit::Exit;
use muster_proto::runtime::state_dir;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a followed log is looked at.
const PAUSE: Duration = Duration::from_millis(100);
/// What is read at once.
const READ_BYTES: usize = 1 << 16;

/// Prints the end of the logs, and what is added.
pub fn run(common: &Common, args: &LogsArgs, out: &mut Output) -> CommandResult {
    let cluster = common.target().runtime()?.cluster().to_owned();
    let mut paths = all(&cluster)?;
    let names: Vec<String> = paths.iter().map(|path| name(path)).collect();
    if let Some(worker) = &args.worker {
        paths.retain(|path| name(path) == *worker);
    }
    let mut logs = Vec::new();
    for path in paths {
        match Log::open(&path) {
            Ok(log) => logs.push(log),
            Err(source) if source.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(failed(&path, source)),
        }
    }
    if logs.is_empty() {
        return Err(Failure::State(match (&args.worker, names.as_slice()) {
            (Some(worker), [_, ..]) => {
                format!("no log of {worker} here; there are: {}", names.join(", "))
            }
            _ => format!("cluster {cluster} has no logs on this machine"),
        }));
    }
    let mut shown = None;
    for (place, log) in logs.iter_mut().enumerate() {
        log.seek_lines(args.lines)
            .map_err(|source| failed(&log.path, source))?;
        log.print(place, &mut shown, args, out)?;
    }
    if !args.follow {
        return Ok(Exit::Done);
    }
    loop {
        out.flush()?;
        std::thread::sleep(PAUSE);
        for (place, log) in logs.iter_mut().enumerate() {
            log.reopen_if_replaced();
            log.print(place, &mut shown, args, out)?;
        }
    }
}

/// Every log of the cluster, by name: of its workers, and of `muster up --detach`.
fn all(cluster: &str) -> Result<Vec<PathBuf>, Failure> {
    let Some(folder) = state_dir(cluster) else {
        let text = "no place for logs: set HOME or XDG_STATE_HOME";
        return Err(Failure::Usage(text.into()));
    };
    let workers = folder.join("workers");
    let mut paths = match fs::read_dir(&workers) {
        Ok(entries) => entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|suffix| suffix == "log"))
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(failed(&workers, source)),
    };
    alphanumeric_sort::sort_path_slice(&mut paths);
    let up = folder.join("up.log");
    paths.extend(up.is_file().then_some(up));
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn failed(path: &Path, source: io::Error) -> Failure {
    Failure::System {
        what: path.display().to_string(),
        source,
    }
}

/// A log and how far it was printed.
struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let path = path.to_owned();
        Ok(Log { path, file })
    }

    /// Goes to where the last `count` lines begin; 0: to the first one.
    fn seek_lines(&mut self, count: usize) -> io::Result<()> {
        let mut at = self.file.seek(SeekFrom::End(0))?;
        let (mut buffer, mut found) = (vec![0; READ_BYTES], 0);
        // The newline at the very end belongs to the last line.
        let mut end = at.saturating_sub(1);
        while count > 0 && end > 0 {
            let start = end.saturating_sub(READ_BYTES as u64);
            let part = &mut buffer[..(end - start) as usize];
            self.file.seek(SeekFrom::Start(start))?;
            self.file.read_exact(part)?;
            for newline in memchr::memrchr_iter(b'\n', part) {
                found += 1;
                if found == count {
                    at = start + newline as u64 + 1;
                    self.file.seek(SeekFrom::Start(at))?;
                    return Ok(());
                }
            }
            end = start;
        }
        self.file.rewind()
    }

    /// Prints what has not been printed; of several logs each under its name.
    fn print(
        &mut self,
        place: usize,
        shown: &mut Option<usize>,
        args: &LogsArgs,
        out: &mut Output,
    ) -> Result<(), Failure> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = self.file.read(&mut buffer);
            let count = read.map_err(|source| failed(&self.path, source))?;
            if count == 0 {
                return Ok(());
            }
            if args.worker.is_none() && *shown != Some(place) {
                out.line(&format!("==> {} <==", name(&self.path)))?;
            }
            *shown = Some(place);
            out.bytes(&buffer[..count])?;
        }
    }

    /// A worker that was started again may have begun its log anew.
    fn reopen_if_replaced(&mut self) {
        use std::os::unix::fs::MetadataExt;
        let identity = |found: &fs::Metadata| (found.dev(), found.ino());
        let Ok(named) = fs::metadata(&self.path) else {
            return;
        };
        let Ok(open) = self.file.metadata() else {
            return;
        };
        let at = self.file.stream_position().unwrap_or(0);
        if identity(&named) != identity(&open)
            && let Ok(fresh) = File::open(&self.path)
        {
            self.file = fresh;
        } else if open.len() < at {
            let _ = self.file.rewind();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_found_from_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.log");
        let text: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
        fs::write(&path, &text).unwrap();
        let rest = |count| {
            let mut log = Log::open(&path).unwrap();
            log.seek_lines(count).unwrap();
            let mut rest = String::new();
            log.file.read_to_string(&mut rest).unwrap();
            rest
        };
        assert_eq!(rest(2), "line 19998\nline 19999\n");
        assert_eq!(rest(0), text);
        assert_eq!(rest(20_000), text);
        assert_eq!(rest(10_001).lines().next(), Some("line 9999"));
        fs::write(&path, "").unwrap();
        assert_eq!(rest(5), "");
        fs::write(&path, "a\nb").unwrap();
        assert_eq!(rest(1), "b");
    }
}
