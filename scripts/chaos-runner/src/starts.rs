//! What the workers wrote down: which call was started when, and by which process.

use crate::clock::now_ns;
use anyhow::Context as _;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// A worker's own list, appended to by all its threads.
#[derive(Debug)]
pub struct StartLog(File);

impl StartLog {
    /// That of this process.
    ///
    /// # Errors
    /// When the file can't be opened.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join(format!("starts-{}.log", std::process::id()));
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(StartLog(file))
    }

    /// Call `n` starts now.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn start(&self, n: u64) -> io::Result<()> {
        let line = format!("{n} {} {}\n", std::process::id(), now_ns());
        (&self.0).write_all(line.as_bytes())
    }
}

/// One start of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Who started it.
    pub pid: u32,
    /// When, by the clock of this machine.
    pub at_ns: u64,
}

/// All starts by call, each call's in order of time.
///
/// # Errors
/// When a list can't be read.
pub fn read(folder: &Path) -> anyhow::Result<HashMap<u64, Vec<Start>>> {
    let mut starts: HashMap<u64, Vec<Start>> = HashMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with("starts-") {
            continue;
        }
        for line in fs::read_to_string(&path)?.split_inclusive('\n') {
            // A line without its end is being written, or never will be.
            let Some(line) = line.strip_suffix('\n') else {
                continue;
            };
            let (n, start) = parse(line).with_context(|| format!("{}: {line}", path.display()))?;
            starts.entry(n).or_default().push(start);
        }
    }
    for of_call in starts.values_mut() {
        of_call.sort_by_key(|start| start.at_ns);
    }
    Ok(starts)
}

fn parse(line: &str) -> anyhow::Result<(u64, Start)> {
    let mut words = line.split(' ');
    let mut word = || words.next().context("a word is missing");
    let n = word()?.parse()?;
    let pid = word()?.parse()?;
    let at_ns = word()?.parse()?;
    Ok((n, Start { pid, at_ns }))
}
