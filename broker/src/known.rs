//! Method names for a successor: a broker that starts anew in the same runtime directory lets
//! calls wait for methods that its predecessor knew.

use log::warn;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Files larger than this are not ours.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// The file with the names.
#[derive(Debug)]
pub struct KnownMethods {
    path: PathBuf,
    saved: usize,
}

impl KnownMethods {
    /// Reads the file at `path`, if it is there.
    pub fn load(path: PathBuf) -> (Self, Vec<String>) {
        let small = fs::metadata(&path).is_ok_and(|found| found.len() <= FILE_BYTES_MAX);
        let text = if small { fs::read(&path).ok() } else { None };
        let names: Vec<String> = text
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        (
            KnownMethods {
                path,
                saved: names.len(),
            },
            names,
        )
    }

    /// Writes the names when there are more than last time. Names are never forgotten, so their
    /// number tells.
    pub fn save_if_new<'a>(&mut self, names: impl ExactSizeIterator<Item = &'a str>) {
        if names.len() != self.saved {
            self.save(names);
        }
    }

    /// Writes the names, whole or not at all.
    pub fn save<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        let names: Vec<&str> = names.collect();
        let fresh = self.path.with_extension("json.new");
        let text = serde_json::to_vec(&names).expect("strings are JSON");
        // Once is enough said, whatever becomes of it.
        self.saved = names.len();
        let written = write_private(&fresh, &text).and_then(|()| fs::rename(&fresh, &self.path));
        if let Err(error) = written {
            warn!("{}: {error}", self.path.display());
        }
    }
}

/// Whatever the umask says, nobody else reads it.
fn write_private(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text)
}
