//! Method names for a successor: a broker that starts anew in the same runtime directory lets
//! calls wait for methods that its predecessor knew.

use log::warn;
use serde::{Deserialize, Serialize};
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

/// The names, as the file has them.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Names<Name = String> {
    /// Workers registered these.
    pub registered: Vec<Name>,
    /// Stock workers, which register nothing, answered these.
    pub served_by_lanes: Vec<Name>,
}

impl KnownMethods {
    /// Reads the file at `path`, if it is there.
    pub fn load(path: PathBuf) -> (Self, Names) {
        let small = fs::metadata(&path).is_ok_and(|found| found.len() <= FILE_BYTES_MAX);
        let text = if small { fs::read(&path).ok() } else { None };
        let names: Names = text
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let saved = names.len();
        (KnownMethods { path, saved }, names)
    }

    /// Writes the names when there are more than last time. Names are never forgotten, so their
    /// number tells.
    pub fn save_if_new<'a>(
        &mut self,
        registered: impl ExactSizeIterator<Item = &'a str>,
        served_by_lanes: impl ExactSizeIterator<Item = &'a str>,
    ) {
        if registered.len() + served_by_lanes.len() != self.saved {
            self.save(registered, served_by_lanes);
        }
    }

    /// Writes the names, whole or not at all.
    pub fn save<'a>(
        &mut self,
        registered: impl Iterator<Item = &'a str>,
        served_by_lanes: impl Iterator<Item = &'a str>,
    ) {
        let names = Names {
            registered: registered.collect(),
            served_by_lanes: served_by_lanes.collect(),
        };
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

impl<Name> Names<Name> {
    fn len(&self) -> usize {
        self.registered.len() + self.served_by_lanes.len()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_reads_what_was_saved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("methods.json");
        let (mut known, names) = KnownMethods::load(path.clone());
        assert_eq!(names, Names::default());
        known.save_if_new(["a"].into_iter(), ["b", "c"].into_iter());
        let (mut known, names) = KnownMethods::load(path.clone());
        assert_eq!(names.registered, ["a"]);
        assert_eq!(names.served_by_lanes, ["b", "c"]);
        // As many as before: nothing is written.
        known.save_if_new(["x"].into_iter(), ["y", "z"].into_iter());
        assert_eq!(KnownMethods::load(path).1.registered, ["a"]);
    }
}
