//! The connection file: how every command finds the broker, and with which keys.
//!
//! Source: docs/protocol.md, "Connection file".

use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The version written; readers take this one and ignore members they do not know.
pub const VERSION: u32 = 1;

/// The larger files are refused unread: a connection file has some hundred bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Calls and reads.
    Client,
    /// Joins as a worker, managed or lane.
    Worker,
    /// Everything, keys included.
    Admin,
}

/// CURVE keys as Z85 text of 40 characters, and what they may do.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Curve {
    /// The broker's public key.
    pub server_key: String,
    /// This side's public key.
    pub public_key: String,
    /// This side's secret key.
    pub secret_key: String,
    /// The role the broker gave the key.
    pub role: Role,
}

impl std::fmt::Debug for Curve {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret key never reaches a log.
        f.debug_struct("Curve")
            .field("server_key", &self.server_key)
            .field("public_key", &self.public_key)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// `cluster.json`: the endpoints of one broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// [`VERSION`].
    pub version: u32,
    /// The cluster's name.
    pub name: String,
    /// The broker's host.
    pub host: String,
    /// The broker's process there.
    pub pid: u32,
    /// When it started, in seconds since 1970.
    pub started: u64,
    /// Where clients connect (REQ, DEALER).
    pub frontend: String,
    /// Where stock REP workers connect.
    pub backend: String,
    /// Where managed workers connect.
    pub workers: String,
    /// Where events are published.
    pub events: String,
    /// Keys, when the endpoints ask for them.
    #[serde(default)]
    pub curve: Option<Curve>,
}

/// Why a connection file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// It isn't there.
    #[error("no connection file at {}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It is there and can't be read or written.
    #[error("connection file {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not a connection file of this version.
    #[error("connection file {}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Connection {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`ConnectionError`]: missing, unreadable, or not a connection file.
    pub fn read(path: &Path) -> Result<Self, ConnectionError> {
        let io = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => ConnectionError::Missing { path: path.into() },
            _ => ConnectionError::Io {
                path: path.into(),
                source,
            },
        };
        let bytes = fs::metadata(path).map_err(io)?.len();
        if bytes > FILE_BYTES_MAX {
            let reason = format!("{bytes} bytes, limit {FILE_BYTES_MAX}");
            return Err(ConnectionError::Invalid {
                path: path.into(),
                reason,
            });
        }
        let text = fs::read(path).map_err(io)?;
        Self::parse(&text).map_err(|reason| ConnectionError::Invalid {
            path: path.into(),
            reason,
        })
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let connection: Connection =
            serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if connection.version != VERSION {
            return Err(format!(
                "version {}, this program reads {VERSION}",
                connection.version
            ));
        }
        Ok(connection)
    }

    /// Writes the file with mode 0600, whole or not at all.
    ///
    /// # Errors
    /// [`ConnectionError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), ConnectionError> {
        let io = |source| ConnectionError::Io {
            path: path.into(),
            source,
        };
        let mut text = serde_json::to_vec_pretty(self).map_err(|e| io(e.into()))?;
        text.push(b'\n');
        let fresh = path.with_extension("json.new");
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        // `create_new` with a mode: no umask can widen it and no link is followed.
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)
            .map_err(io)?;
        file.write_all(&text).map_err(io)?;
        fs::rename(&fresh, path).map_err(io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn example() -> Connection {
        Connection {
            version: 1,
            name: "default".into(),
            host: "h".into(),
            pid: 7,
            started: 1,
            frontend: "ipc:///x/frontend".into(),
            backend: "ipc:///x/backend".into(),
            workers: "ipc:///x/workers".into(),
            events: "ipc:///x/events".into(),
            curve: None,
        }
    }

    #[test]
    fn a_written_file_is_private_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cluster.json");
        example().write(&path).unwrap();
        example().write(&path).unwrap();
        assert_eq!(Connection::read(&path).unwrap(), example());
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn unknown_members_are_ignored_and_other_versions_refused() {
        let text = serde_json::to_string(&example()).unwrap();
        let more = text.replacen('{', "{\"later\":[1],", 1);
        assert_eq!(Connection::parse(more.as_bytes()).unwrap(), example());
        let newer = text.replace("\"version\":1", "\"version\":2");
        assert!(
            Connection::parse(newer.as_bytes())
                .unwrap_err()
                .contains("version 2")
        );
        assert!(Connection::parse(b"{").is_err());
    }

    #[test]
    fn a_missing_file_says_where() {
        let error = Connection::read(Path::new("/nonexistent/cluster.json")).unwrap_err();
        assert!(matches!(error, ConnectionError::Missing { .. }));
    }
}
