//! Files that nobody else can read, in a directory that nobody else can enter.

use super::KeyringError;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Makes the directory, unless it is there; it must be this user's alone.
pub(super) fn private_dir(dir: &Path) -> Result<(), KeyringError> {
    let io = |source| KeyringError::Io {
        path: dir.into(),
        source,
    };
    DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(dir)
        .map_err(io)?;
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let folder = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(dir)
        .map_err(io)?;
    let found = folder.metadata().map_err(io)?;
    let own = rustix::process::geteuid().as_raw();
    let mode = found.mode() & 0o777;
    if found.uid() != own || mode & 0o077 != 0 {
        let reason = format!("holds keys, so it must be yours with mode 0700, not {mode:04o}");
        return Err(KeyringError::Unsafe {
            path: dir.into(),
            reason,
        });
    }
    Ok(())
}

/// What the file holds; none if there is no file.
pub(super) fn read_json<T: for<'a> Deserialize<'a>>(
    path: &Path,
) -> Result<Option<T>, KeyringError> {
    match fs::read(path) {
        Ok(text) => {
            serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| KeyringError::Invalid {
                    path: path.into(),
                    reason: error.to_string(),
                })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KeyringError::Io {
            path: path.into(),
            source,
        }),
    }
}

/// Writes with mode 0600, whole or not at all.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), KeyringError> {
    let io = |source| KeyringError::Io {
        path: path.into(),
        source,
    };
    let text = serde_json::to_vec_pretty(value).map_err(|error| io(error.into()))?;
    let fresh = path.with_extension("json.new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh);
    let mut file = opened.map_err(io)?;
    file.write_all(&text).map_err(io)?;
    // A revoked key must not come back with the power.
    file.sync_all().map_err(io)?;
    fs::rename(&fresh, path).map_err(io)
}
