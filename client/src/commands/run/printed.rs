//! What jobs wrote, printed whole and in turn.

use crate::output::{Output, note};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Output of jobs that waits for the jobs before them; no further jobs start above it.
const HELD_BYTES_MAX: usize = 256 << 20;
/// The number of such jobs.
const HELD_JOBS_MAX: usize = 100_000;

/// What is to be printed of a job when its turn has come.
pub struct Printed {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// How it failed, in words.
    pub failure: Option<String>,
    /// The object of `--json`.
    pub line: Option<String>,
}

/// Jobs that ended before their turn to be printed.
pub struct Turns {
    is_unordered: bool,
    /// Whose turn it is.
    next: u64,
    held: BTreeMap<u64, Option<Printed>>,
    held_bytes: usize,
}

impl Turns {
    pub fn new(is_unordered: bool) -> Self {
        Turns {
            is_unordered,
            next: 1,
            held: BTreeMap::new(),
            held_bytes: 0,
        }
    }

    /// Whether so much waits for its turn that nothing more is to be started.
    pub fn is_full(&self) -> bool {
        self.held_bytes >= HELD_BYTES_MAX || self.held.len() >= HELD_JOBS_MAX
    }

    /// Prints the job, or keeps it until its turn; `None`: it was left out.
    pub fn print(&mut self, seq: u64, job: Option<Printed>, out: &mut Output) -> io::Result<()> {
        if self.is_unordered {
            return job.map_or(Ok(()), |job| job.write(out));
        }
        self.held_bytes += job.as_ref().map_or(0, Printed::bytes);
        self.held.insert(seq, job);
        while let Some(job) = self.held.remove(&self.next) {
            self.next += 1;
            if let Some(job) = job {
                self.held_bytes -= job.bytes();
                job.write(out)?;
            }
        }
        Ok(())
    }
}

impl Printed {
    fn bytes(&self) -> usize {
        self.stdout.len() + self.stderr.len() + self.line.as_ref().map_or(0, String::len)
    }

    /// What a job wrote goes where this command writes the same.
    fn write(&self, out: &mut Output) -> io::Result<()> {
        if let Some(line) = &self.line {
            out.line(line)?;
            return out.flush();
        }
        out.bytes(&self.stdout)?;
        // A person at a pipe sees every job at once, and both streams in the order of the jobs.
        out.flush()?;
        let _ = io::stderr().lock().write_all(&self.stderr);
        self.failure.iter().for_each(|text| note(text));
        Ok(())
    }
}
