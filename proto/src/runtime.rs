//! The runtime directory: where the programs of one user find each other on one machine.
//!
//! `$XDG_RUNTIME_DIR/muster/NAME`, else `muster-UID/NAME` below the system's temporary folder. The
//! directory is the lock on the door: it belongs to this user, has mode 0700 and is no link, or it
//! is not used.
//!
//! Source: docs/protocol.md, "Runtime directory".

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The longest ipc path libzmq can bind: `sockaddr_un` holds 108 bytes with the final NUL.
pub const IPC_PATH_BYTES_MAX: usize = 107;

/// The cluster meant when none is named.
pub const CLUSTER_DEFAULT: &str = "default";

/// What a broker leaves in its runtime directory when it dies: its connection file and its sockets.
pub const BROKER_FILES: [&str; 6] = [
    "cluster.json",
    "frontend",
    "workers",
    "backend",
    "events",
    "shelf",
];

/// One cluster's runtime directory. Naming it touches nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeDir {
    path: PathBuf,
    cluster: String,
}

/// Why a runtime directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Cluster names become file names.
    #[error(
        "cluster name `{0}`: use 1 to 64 letters, digits, `-`, `_` or `.`, not starting with a dot"
    )]
    BadName(String),
    /// Somebody else could get in.
    #[error("runtime directory {}: {reason}", path.display())]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An endpoint in it would not fit a socket address.
    #[error(
        "ipc path {} has {bytes} bytes, limit {IPC_PATH_BYTES_MAX}; choose a shorter --runtime-dir",
        path.display()
    )]
    PathTooLong {
        /// The socket's path.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// A living broker serves it.
    #[error("a broker is already running in {}", path.display())]
    Held {
        /// The directory.
        path: PathBuf,
    },
    /// The system refused.
    #[error("runtime directory {}", path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Held by a living broker; released by the kernel however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl RuntimeDir {
    /// Names the directory of `cluster`, below `base` or the user's default place.
    ///
    /// # Errors
    /// [`RuntimeError::BadName`].
    pub fn locate(cluster: &str, base: Option<&Path>) -> Result<Self, RuntimeError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let fits = (1..=64).contains(&cluster.len()) && cluster.bytes().all(plain);
        if !fits || cluster.starts_with('.') {
            return Err(RuntimeError::BadName(cluster.chars().take(64).collect()));
        }
        let base = base.map_or_else(base_default, Path::to_path_buf);
        Ok(RuntimeDir {
            path: base.join(cluster),
            cluster: cluster.to_owned(),
        })
    }

    /// Every cluster that has a directory below `base` or the user's default place, by name.
    pub fn all(base: Option<&Path>) -> Vec<Self> {
        let base = base.map_or_else(base_default, Path::to_path_buf);
        let entries = fs::read_dir(&base).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut found: Vec<_> = names
            .filter_map(|name| Self::locate(&name, Some(&base)).ok())
            .collect();
        found.retain(|dir| dir.connection_path().is_file());
        found.sort_by(|a, b| a.cluster.cmp(&b.cluster));
        found
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Where the connection file is.
    pub fn connection_path(&self) -> PathBuf {
        self.path.join("cluster.json")
    }

    /// The `ipc://` endpoint called `name` in this directory.
    ///
    /// # Errors
    /// [`RuntimeError::PathTooLong`] when no socket address can hold it.
    pub fn endpoint(&self, name: &str) -> Result<String, RuntimeError> {
        let path =
            std::path::absolute(self.path.join(name)).map_err(|source| RuntimeError::Io {
                path: self.path.clone(),
                source,
            })?;
        let bytes = path.as_os_str().len();
        if bytes > IPC_PATH_BYTES_MAX {
            return Err(RuntimeError::PathTooLong { path, bytes });
        }
        Ok(format!("ipc://{}", path.display()))
    }

    /// Makes the directory if it isn't there, and checks it in either case.
    ///
    /// # Errors
    /// [`RuntimeError::Unsafe`] when it is a link, belongs to somebody else or lets others in.
    pub fn create(&self) -> Result<(), RuntimeError> {
        let parent = self.path.parent().unwrap_or(Path::new("."));
        for folder in [parent, &self.path] {
            let made = DirBuilder::new()
                .mode(0o700)
                .recursive(folder == parent)
                .create(folder);
            match made {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(RuntimeError::Io {
                        path: folder.into(),
                        source: error,
                    });
                }
                _ => {}
            }
        }
        self.verify()
    }

    /// Checks owner, mode and kind of the directory, on an open descriptor of it.
    ///
    /// # Errors
    /// [`RuntimeError::Unsafe`], or [`RuntimeError::Io`] when it isn't there.
    pub fn verify(&self) -> Result<(), RuntimeError> {
        let folder = open_folder(&self.path)?;
        let reason = |reason: String| RuntimeError::Unsafe {
            path: self.path.clone(),
            reason,
        };
        let found = folder.metadata().map_err(|source| RuntimeError::Io {
            path: self.path.clone(),
            source,
        })?;
        let own = rustix::process::geteuid().as_raw();
        if found.uid() != own {
            return Err(reason(format!(
                "belongs to user {}, not to {own}",
                found.uid()
            )));
        }
        let mode = found.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(reason(format!(
                "mode {mode:04o} lets others in; chmod 700 it"
            )));
        }
        // Whoever can rename in the parent can put another directory here.
        let parent = self.path.parent().filter(|p| !p.as_os_str().is_empty());
        let parent =
            fs::metadata(parent.unwrap_or(Path::new("."))).map_err(|source| RuntimeError::Io {
                path: self.path.clone(),
                source,
            })?;
        let sticky = parent.mode() & 0o1000 != 0;
        if ![own, 0].contains(&parent.uid()) || (parent.mode() & 0o022 != 0 && !sticky) {
            return Err(reason(
                "its parent directory can be changed by others".into(),
            ));
        }
        Ok(())
    }

    /// Takes the broker's lock on the directory.
    ///
    /// # Errors
    /// [`RuntimeError::Held`] when a living broker has it.
    pub fn lock(&self) -> Result<Lock, RuntimeError> {
        let file = self.lock_file(true)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(RuntimeError::Held {
                path: self.path.clone(),
            }),
            Err(TryLockError::Error(source)) => Err(RuntimeError::Io {
                path: self.path.clone(),
                source,
            }),
        }
    }

    /// Whether a living broker holds the lock; a connection file without one is stale.
    pub fn is_live(&self) -> bool {
        let Ok(file) = self.lock_file(false) else {
            return false;
        };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    fn lock_file(&self, create: bool) -> Result<File, RuntimeError> {
        let path = self.path.join("lock");
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(create)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(|source| RuntimeError::Io { path, source })
    }
}

fn open_folder(path: &Path) -> Result<File, RuntimeError> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(|source| match source.raw_os_error() {
            Some(libc::ELOOP | libc::ENOTDIR) => RuntimeError::Unsafe {
                path: path.into(),
                reason: "is a symbolic link or no directory".into(),
            },
            _ => RuntimeError::Io {
                path: path.into(),
                source,
            },
        })
}

fn base_default() -> PathBuf {
    match folder_of("XDG_RUNTIME_DIR") {
        Some(dir) => dir.join("muster"),
        None => {
            let user = rustix::process::geteuid().as_raw();
            std::env::temp_dir().join(format!("muster-{user}"))
        }
    }
}

/// Where keys and logs of `cluster` live: `$XDG_STATE_HOME/muster/NAME`, else below
/// `~/.local/state`; `None` without a home.
pub fn state_dir(cluster: &str) -> Option<PathBuf> {
    let home = || Some(folder_of("HOME")?.join(".local/state"));
    let base = folder_of("XDG_STATE_HOME").or_else(home)?;
    Some(base.join("muster").join(cluster))
}

/// The folder that a variable of the environment names. A relative path counts as none: it would be
/// another folder for each program (XDG Base Directory Specification, "Basics").
pub(crate) fn folder_of(variable: &str) -> Option<PathBuf> {
    absolute(std::env::var_os(variable))
}

fn absolute(value: Option<OsString>) -> Option<PathBuf> {
    value.map(PathBuf::from).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn dir_in(folder: &Path) -> RuntimeDir {
        RuntimeDir::locate("c", Some(&folder.join("muster"))).unwrap()
    }

    #[test]
    fn a_relative_base_directory_counts_as_none() {
        let read = |value: &str| absolute(Some(value.into()));
        assert_eq!(read("/run/user/7"), Some(PathBuf::from("/run/user/7")));
        assert_eq!((read("run"), read("./run"), read("")), (None, None, None));
        assert_eq!(absolute(None), None);
    }

    #[test]
    fn a_created_directory_is_private_whatever_the_umask() {
        let folder = tempfile::tempdir().unwrap();
        let dir = dir_in(folder.path());
        dir.create().unwrap();
        assert_eq!(
            fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777,
            0o700
        );
        dir.create().unwrap();
    }

    #[test]
    fn a_link_or_an_open_directory_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let dir = dir_in(folder.path());
        fs::create_dir(folder.path().join("muster")).unwrap();
        fs::create_dir(folder.path().join("elsewhere")).unwrap();
        symlink(folder.path().join("elsewhere"), dir.path()).unwrap();
        assert!(matches!(dir.create(), Err(RuntimeError::Unsafe { .. })));
        fs::remove_file(dir.path()).unwrap();
        fs::create_dir(dir.path()).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let error = dir.create().unwrap_err();
        assert!(error.to_string().contains("0755"), "{error}");
    }

    #[test]
    fn the_second_lock_is_refused_and_the_first_lives() {
        let folder = tempfile::tempdir().unwrap();
        let dir = dir_in(folder.path());
        dir.create().unwrap();
        assert!(!dir.is_live());
        let lock = dir.lock().unwrap();
        assert!(matches!(dir.lock(), Err(RuntimeError::Held { .. })));
        assert!(dir.is_live());
        drop(lock);
        assert!(!dir.is_live());
    }

    #[test]
    fn names_that_are_paths_are_refused_and_long_paths_named() {
        for name in ["", "..", "a/b", ".x", "ü"] {
            assert!(matches!(
                RuntimeDir::locate(name, None),
                Err(RuntimeError::BadName(_))
            ));
        }
        let deep = PathBuf::from(format!("/{}", "d".repeat(120)));
        let dir = RuntimeDir::locate("c", Some(&deep)).unwrap();
        let error = dir.endpoint("frontend").unwrap_err();
        assert!(error.to_string().contains("limit 107"), "{error}");
    }
}
