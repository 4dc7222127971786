//! The log of one client: what it asked for and what it was told. Only appended to, a line a
//! write, so that nothing of it is lost when the client is killed.
//!
//! | line | meaning |
//! |---|---|
//! | `sent N KIND NS` | the call N is about to be sent; KIND is `managed`, `once` or `lane` |
//! | `answer N VALUE NS` | its result |
//! | `error N WHAT NS` | its error: a code, with `/attempts` behind that of `WorkerLost`; or `unknown` |
//! | `stuck N NS` | the client has waited long enough |
//! | `killed` | written by the one who killed the client, when it was dead |
//! | `end` | the client has nothing more to do |

use crate::clock::now_ns;
use crate::work::Draw;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A log that is written.
#[derive(Debug)]
pub struct ClientLog(File);

impl ClientLog {
    /// Opens it for appending.
    ///
    /// # Errors
    /// When the file can't be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(ClientLog(file))
    }

    /// The call is about to be sent.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn sent(&self, n: u64, draw: Draw) -> io::Result<()> {
        let kind = match draw {
            Draw { is_once: true, .. } => "once",
            Draw {
                is_for_lane: true, ..
            } => "lane",
            _ => "managed",
        };
        self.line(&format!("sent {n} {kind} {}\n", now_ns()))
    }

    /// Its result has come.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn answer(&self, n: u64, value: &str) -> io::Result<()> {
        self.line(&format!("answer {n} {value} {}\n", now_ns()))
    }

    /// Its error has come.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn error(&self, n: u64, what: &str) -> io::Result<()> {
        self.line(&format!("error {n} {what} {}\n", now_ns()))
    }

    /// Nothing has come for too long.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn stuck(&self, n: u64) -> io::Result<()> {
        self.line(&format!("stuck {n} {}\n", now_ns()))
    }

    /// The client was killed.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn killed(&self) -> io::Result<()> {
        self.line("killed\n")
    }

    /// The client is done.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn end(&self) -> io::Result<()> {
        self.line("end\n")
    }

    fn line(&self, text: &str) -> io::Result<()> {
        (&self.0).write_all(text.as_bytes())
    }
}

/// Counts the calls that have ended in a log while it grows.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    read: u64,
    ended: u64,
}

impl Tail {
    /// Of a log that may not be there yet.
    pub fn new(path: PathBuf) -> Self {
        Tail {
            path,
            read: 0,
            ended: 0,
        }
    }

    /// Looks again; how many calls have ended so far.
    ///
    /// # Errors
    /// When the log can't be read.
    pub fn ended(&mut self) -> io::Result<u64> {
        let Ok(mut file) = File::open(&self.path) else {
            return Ok(self.ended);
        };
        let mut text = String::new();
        file.seek(SeekFrom::Start(self.read))?;
        file.read_to_string(&mut text)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.read += whole as u64;
        self.ended += text[..whole]
            .lines()
            .filter(|line| {
                ["answer ", "error ", "stuck "]
                    .iter()
                    .any(|word| line.starts_with(word))
            })
            .count() as u64;
        Ok(self.ended)
    }
}
