//! The joblog: a line for each finished job, in the columns of GNU parallel and two more.
//!
//! A job is known by its place in the input and by the hash of what it is, so that `--resume` leaves
//! out what was done and nothing else, also when the input has changed meanwhile.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The first line.
pub const HEADER: &str =
    "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\tKey\tAttempts\n";
const COLUMNS: usize = 11;
/// Of a longer command the log has the beginning; the key is of the whole.
const COMMAND_BYTES_MAX: usize = 4_096;
/// More than the longest line: a command and a host with each byte escaped, and the figures.
const LINE_BYTES_MAX: u64 = 4 * COMMAND_BYTES_MAX as u64 + 1_024;

/// The hash of what a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobKey(u64);

impl JobKey {
    /// Of the parts that make the job: FNV-1a, the same on every machine and in every version.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        for part in parts {
            part.iter().copied().for_each(&mut add);
            // Parts of other lengths are other jobs.
            (part.len() as u64)
                .to_le_bytes()
                .into_iter()
                .for_each(&mut add);
        }
        JobKey(hash)
    }
}

/// One finished job.
#[derive(Debug)]
pub struct Row<'a> {
    /// Its place in the input, from 1.
    pub seq: u64,
    /// Where it ran, if that is known.
    pub host: Option<&'a str>,
    /// When it was sent, or started where that is known.
    pub started: SystemTime,
    /// How long it took.
    pub runtime: Duration,
    /// Bytes of its item.
    pub sent_bytes: u64,
    /// Bytes of its result.
    pub received_bytes: u64,
    /// Its exit code; of a call the one that `muster call` would end with.
    pub exit: i32,
    /// The signal that ended it, or 0.
    pub signal: i32,
    /// What was run.
    pub command: &'a str,
    /// The hash of it.
    pub key: JobKey,
    /// How often it was started.
    pub attempts: u32,
}

/// What `--resume` and `--resume-failed` ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Start anew.
    No,
    /// Leave out what has ended.
    Ended,
    /// Leave out what has ended well.
    Succeeded,
}

/// Why a joblog can't be used.
#[derive(Debug, thiserror::Error)]
pub enum JoblogError {
    /// The file can't be opened, read or written.
    #[error("joblog {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It begins with something else than a joblog's header.
    #[error("{} is no joblog of muster: it begins with another line", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
}

/// The file to which rows are added.
#[derive(Debug)]
pub struct Joblog {
    path: PathBuf,
    file: File,
    /// Rows not yet written.
    rows: String,
}

/// Jobs to leave out, by place.
#[derive(Debug, Default)]
pub struct Done(HashMap<u64, JobKey>);

impl Done {
    /// Whether the job was done before.
    pub fn covers(&self, seq: u64, key: JobKey) -> bool {
        self.0.get(&seq) == Some(&key)
    }
}

impl Joblog {
    /// Opens the log at `path`: empty, or as it was left when `resume` asks for that. With it come
    /// the jobs to leave out.
    ///
    /// # Errors
    /// [`JoblogError`].
    pub fn open(path: &Path, resume: Resume) -> Result<(Self, Done), JoblogError> {
        let failed = |source| JoblogError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(resume == Resume::No)
            .open(path)
            .map_err(failed)?;
        let (mut done, mut end) = (Done::default(), 0);
        if resume != Resume::No {
            (done, end) = read(BufReader::new(&mut file), resume)
                .map_err(failed)?
                .ok_or_else(|| JoblogError::NotOurs {
                    path: path.to_owned(),
                })?;
            // Whoever was killed while writing left half a line.
            file.set_len(end).map_err(failed)?;
            file.seek(SeekFrom::End(0)).map_err(failed)?;
        }
        let mut log = Joblog {
            path: path.to_owned(),
            file,
            rows: String::new(),
        };
        if end == 0 {
            log.rows.push_str(HEADER);
            log.flush()?;
        }
        Ok((log, done))
    }

    /// Adds a job; [`Joblog::flush`] writes it.
    pub fn add(&mut self, row: &Row<'_>) {
        let started = row.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let command = one_field(row.command);
        let host = row.host.map_or_else(|| "-".into(), one_field);
        writeln!(
            self.rows,
            "{}\t{host}\t{:.3}\t{:10.3}\t{}\t{}\t{}\t{}\t{command}\t{:016x}\t{}",
            row.seq,
            started.as_secs_f64(),
            row.runtime.as_secs_f64(),
            row.sent_bytes,
            row.received_bytes,
            row.exit,
            row.signal,
            row.key.0,
            row.attempts
        )
        .expect("a String takes all");
    }

    /// Hands the added rows to the system, which keeps them if this process is killed.
    ///
    /// # Errors
    /// When the file takes no more.
    pub fn flush(&mut self) -> Result<(), JoblogError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let written = self.file.write_all(self.rows.as_bytes());
        self.rows.clear();
        written.map_err(|source| JoblogError::Io {
            path: self.path.clone(),
            source,
        })
    }
}

/// The jobs to leave out, and where the last whole line ends; `None`: it is no joblog.
pub fn read(mut reader: impl BufRead, resume: Resume) -> io::Result<Option<(Done, u64)>> {
    let mut done = Done::default();
    let mut line = Vec::new();
    let mut end = 0;
    loop {
        line.clear();
        // Something else than a joblog may have no newline, and a device no end.
        let mut rest = reader.by_ref().take(LINE_BYTES_MAX);
        rest.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            let is_cut_header = end == 0 && !HEADER.as_bytes().starts_with(&line);
            return Ok((!is_cut_header).then_some((done, end)));
        }
        if end == 0 && line != HEADER.as_bytes() {
            return Ok(None);
        }
        end += line.len() as u64;
        let Some((seq, key, is_well)) = std::str::from_utf8(&line).ok().and_then(parse) else {
            continue;
        };
        // Of several lines the last one counts.
        if resume == Resume::Ended || is_well {
            done.0.insert(seq, key);
        } else {
            done.0.remove(&seq);
        }
    }
}

fn parse(line: &str) -> Option<(u64, JobKey, bool)> {
    let fields: Vec<&str> = line.trim_end_matches('\n').split('\t').collect();
    if fields.len() != COLUMNS {
        return None;
    }
    let seq = fields[0].parse().ok()?;
    let key = u64::from_str_radix(fields[9], 16).ok()?;
    Some((seq, JobKey(key), fields[6] == "0" && fields[7] == "0"))
}

/// A text that ends neither a field nor a line.
fn one_field(text: &str) -> String {
    let fits = |(at, c): &(usize, char)| at + c.len_utf8() <= COMMAND_BYTES_MAX;
    let end = text.char_indices().take_while(fits).last();
    text[..end.map_or(0, |(at, c)| at + c.len_utf8())]
        .replace('\\', "\\\\")
        .replace('\t', "\\t")
        .replace('\n', "\\n")
        .replace('\r', "\\r")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seq: u64, key: JobKey, exit: i32) -> Row<'static> {
        Row {
            seq,
            host: Some("h"),
            started: UNIX_EPOCH + Duration::from_millis(1_500),
            runtime: Duration::from_millis(250),
            sent_bytes: 3,
            received_bytes: 4,
            exit,
            signal: 0,
            command: "gzip a\tb\n",
            key,
            attempts: 2,
        }
    }

    fn write(path: &Path, rows: &[Row<'_>]) {
        let (mut log, _) = Joblog::open(path, Resume::Ended).unwrap();
        rows.iter().for_each(|row| log.add(row));
        log.flush().unwrap();
    }

    #[test]
    fn the_columns_are_those_of_gnu_parallel_and_two_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let key = JobKey::of(&[b"gzip {}", b"a"]);
        write(&path, &[row(1, key, 0)]);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], HEADER.trim_end());
        let expected = format!(
            "1\th\t1.500\t     0.250\t3\t4\t0\t0\tgzip a\\tb\\n\t{:016x}\t2",
            key.0
        );
        assert_eq!(lines[1..], [expected.as_str()]);
    }

    #[test]
    fn what_is_left_out_is_known_by_place_and_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let key = |text: &str| JobKey::of(&[text.as_bytes()]);
        write(
            &path,
            &[
                row(1, key("a"), 0),
                row(2, key("b"), 3),
                row(3, key("c"), 3),
            ],
        );
        write(&path, &[row(3, key("c"), 0)]);
        let covered = |resume| {
            let (_, done) = Joblog::open(&path, resume).unwrap();
            [(1, "a"), (1, "x"), (2, "b"), (3, "c"), (4, "d")].map(|(n, t)| done.covers(n, key(t)))
        };
        assert_eq!(covered(Resume::Ended), [true, false, true, true, false]);
        assert_eq!(
            covered(Resume::Succeeded),
            [true, false, false, true, false]
        );
        assert_eq!(covered(Resume::No), [false; 5]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), HEADER);
    }

    #[test]
    fn half_a_line_is_cut_off_and_other_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let key = JobKey::of(&[b"a"]);
        write(&path, &[row(1, key, 0)]);
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{whole}2\th\t1.5")).unwrap();
        let (_, done) = Joblog::open(&path, Resume::Ended).unwrap();
        assert!(done.covers(1, key));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
        std::fs::write(&path, "dear diary\n").unwrap();
        let refused = Joblog::open(&path, Resume::Ended);
        assert!(matches!(refused, Err(JoblogError::NotOurs { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "dear diary\n");
        std::fs::write(&path, &HEADER[..20]).unwrap();
        assert!(Joblog::open(&path, Resume::Ended).is_ok());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), HEADER);
    }

    #[test]
    fn a_device_without_end_is_no_joblog_and_takes_one() {
        let zeros = Path::new("/dev/zero");
        let refused = Joblog::open(zeros, Resume::Ended);
        assert!(
            matches!(refused, Err(JoblogError::NotOurs { .. })),
            "{refused:?}"
        );
        assert!(Joblog::open(Path::new("/dev/null"), Resume::No).is_ok());
    }

    #[test]
    fn other_parts_are_other_jobs() {
        let keys = [
            JobKey::of(&[b"ab", b"c"]),
            JobKey::of(&[b"a", b"bc"]),
            JobKey::of(&[b"abc"]),
            JobKey::of(&[b"abc", b""]),
        ];
        for (place, key) in keys.iter().enumerate() {
            assert!(!keys[..place].contains(key), "{place}");
        }
    }
}
