//! The keys that the broker knows: its own, and those of whoever may come in.
//!
//! They live in the cluster's state directory (0700), each file 0600: `server.json` with the
//! broker's own pair, `keys.json` with public keys and their rights, and a connection file per
//! role with the first key of that role, to be copied to other machines.

mod key;
mod store;

pub use key::Key;

use key::{check_glob, check_name};
use muster_proto::connection::{Connection, ConnectionError, Curve, Role};
use muster_proto::socket::{Keypair, SocketError, curve_keypair};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use store::{private_dir, read_json, write_json};

/// Keys of one cluster; more would be a mistake in a script.
const KEYS_MAX: usize = 100_000;
/// Why the keys can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// There is no place for them.
    #[error("neither XDG_STATE_HOME nor HOME says where keys can be kept")]
    NoHome,
    /// Somebody else could read them.
    #[error("{}: {reason}", path.display())]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system refused.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A name that is taken, that no key has, or that can't be one; or a glob that can't be.
    #[error("{0}")]
    Name(String),
    /// No key pair could be made.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A connection file.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

/// The broker's keys, shared with the thread that judges newcomers.
#[derive(Clone, Debug)]
pub struct Keyring {
    dir: PathBuf,
    server: Arc<ServerKey>,
    /// By public key.
    keys: Arc<RwLock<BTreeMap<String, Arc<Key>>>>,
    /// The key behind each lane that was let in, by the peer's address: the lane's own link is the
    /// splice's.
    lanes: Arc<RwLock<BTreeMap<String, String>>>,
}

#[derive(Serialize, Deserialize)]
struct ServerKey {
    public_key: String,
    secret_key: String,
}

impl std::fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ServerKey({})", self.public_key)
    }
}

impl Keyring {
    /// Reads the keys in `dir`, or makes the broker's own at the first start.
    ///
    /// # Errors
    /// [`KeyringError`]: the directory is not private, or a file is damaged.
    pub fn open(dir: &Path) -> Result<Self, KeyringError> {
        private_dir(dir)?;
        let server_path = dir.join("server.json");
        let server = match read_json::<ServerKey>(&server_path)? {
            Some(server) => server,
            None => {
                let Keypair { public, secret } = curve_keypair()?;
                let server = ServerKey {
                    public_key: public,
                    secret_key: secret,
                };
                write_json(&server_path, &server)?;
                server
            }
        };
        let list: Vec<Key> = read_json(&dir.join("keys.json"))?.unwrap_or_default();
        let keys = list
            .into_iter()
            .map(|key| (key.public_key.clone(), Arc::new(key)));
        Ok(Keyring {
            dir: dir.to_owned(),
            server: Arc::new(server),
            keys: Arc::new(RwLock::new(keys.collect())),
            lanes: Arc::default(),
        })
    }

    /// The broker's secret key (Z85).
    pub fn server_secret(&self) -> &str {
        &self.server.secret_key
    }

    /// The broker's public key (Z85).
    pub fn server_public(&self) -> &str {
        &self.server.public_key
    }

    /// The key, unless it is unknown or revoked.
    pub fn find(&self, public_key: &str) -> Option<Arc<Key>> {
        self.read()
            .get(public_key)
            .filter(|key| !key.is_revoked)
            .cloned()
    }

    /// Every key, by name.
    pub fn list(&self) -> Vec<Arc<Key>> {
        let mut list: Vec<_> = self.read().values().cloned().collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }

    /// Makes a key and gives it with its secret, which is kept nowhere else.
    ///
    /// # Errors
    /// [`KeyringError::Name`] when the name is taken.
    pub fn issue(
        &self,
        name: &str,
        role: Role,
        methods: Vec<String>,
        now_s: u64,
    ) -> Result<Curve, KeyringError> {
        check_name(name)?;
        methods.iter().try_for_each(|glob| check_glob(glob))?;
        let Keypair { public, secret } = curve_keypair()?;
        let key = Key {
            name: name.to_owned(),
            role,
            methods,
            public_key: public.clone(),
            created: now_s,
            is_revoked: false,
        };
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.values().any(|key| key.name == name && !key.is_revoked) {
            return Err(KeyringError::Name(format!("a key is named {name} already")));
        }
        if keys.len() >= KEYS_MAX {
            return Err(KeyringError::Name(format!(
                "there are {KEYS_MAX} keys already"
            )));
        }
        keys.insert(public.clone(), Arc::new(key));
        if let Err(error) = self.save(&keys) {
            // A key that the next start does not know is none.
            keys.remove(&public);
            return Err(error);
        }
        let server_key = self.server.public_key.clone();
        Ok(Curve {
            server_key,
            public_key: public,
            secret_key: secret,
            role,
        })
    }

    /// Revokes the key with this name; gives its public key.
    ///
    /// # Errors
    /// [`KeyringError::Name`] when there is none.
    pub fn revoke(&self, name: &str) -> Result<String, KeyringError> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let found = keys
            .values()
            .find(|key| key.name == name && !key.is_revoked)
            .cloned();
        let Some(key) = found else {
            return Err(KeyringError::Name(format!("no key is named {name}")));
        };
        let revoked = Key {
            is_revoked: true,
            ..Key::clone(&key)
        };
        keys.insert(key.public_key.clone(), Arc::new(revoked));
        self.save(&keys)?;
        Ok(key.public_key.clone())
    }

    /// Takes note of the key that a lane's peer has shown.
    pub fn note_lane(&self, peer: &str, public_key: &str) {
        let mut lanes = self.lanes.write().unwrap_or_else(PoisonError::into_inner);
        lanes.insert(peer.to_owned(), public_key.to_owned());
    }

    /// Whether the peer of a lane came with this key.
    pub fn has_lane(&self, peer: &str, public_key: &str) -> bool {
        let lanes = self.lanes.read().unwrap_or_else(PoisonError::into_inner);
        lanes.get(peer).is_some_and(|shown| shown == public_key)
    }

    /// The key that the peer of a lane has shown.
    pub fn lane_key(&self, peer: &str) -> Option<Arc<Key>> {
        let lanes = self.lanes.read().unwrap_or_else(PoisonError::into_inner);
        self.find(lanes.get(peer)?)
    }

    /// The lane is gone.
    pub fn forget_lane(&self, peer: &str) {
        let mut lanes = self.lanes.write().unwrap_or_else(PoisonError::into_inner);
        lanes.remove(peer);
    }

    /// Writes a connection file per role for other machines, with the role's first key, which is
    /// made if there is none.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn write_role_files(&self, remote: &Connection) -> Result<Vec<PathBuf>, KeyringError> {
        let roles = [
            (Role::Client, "client"),
            (Role::Worker, "worker"),
            (Role::Admin, "admin"),
        ];
        let mut paths = Vec::new();
        for (role, name) in roles {
            let path = self.dir.join(format!("{name}.json"));
            let kept = Connection::read(&path).ok().and_then(|old| old.curve);
            let kept = kept.filter(|curve| {
                curve.server_key == self.server.public_key && self.find(&curve.public_key).is_some()
            });
            let curve = match kept {
                Some(curve) => curve,
                None => self.issue(&self.free_name(name), role, Vec::new(), remote.started)?,
            };
            Connection {
                curve: Some(curve),
                ..remote.clone()
            }
            .write(&path)?;
            paths.push(path);
        }
        Ok(paths)
    }

    /// The wished name, or the same with the first number that makes it free.
    pub fn free_name(&self, wished: &str) -> String {
        let taken = |name: &str| {
            self.read()
                .values()
                .any(|key| key.name == name && !key.is_revoked)
        };
        let numbered = (2..).map(|n: u32| format!("{wished}-{n}"));
        let mut names = std::iter::once(wished.to_owned()).chain(numbered);
        names
            .find(|name| !taken(name))
            .expect("there are more numbers than keys")
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Arc<Key>>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn save(&self, keys: &BTreeMap<String, Arc<Key>>) -> Result<(), KeyringError> {
        let list: Vec<&Key> = keys.values().map(Arc::as_ref).collect();
        write_json(&self.dir.join("keys.json"), &list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn keyring(folder: &Path) -> Keyring {
        Keyring::open(&folder.join("keys")).unwrap()
    }

    #[test]
    fn keys_outlive_the_broker_and_revoked_ones_let_nobody_in() {
        let folder = tempfile::tempdir().unwrap();
        let ring = keyring(folder.path());
        let curve = ring
            .issue("anna", Role::Client, vec!["math.*".into()], 1)
            .unwrap();
        assert!(ring.issue("anna", Role::Admin, vec![], 2).is_err());
        let again = keyring(folder.path());
        assert_eq!(again.server_public(), ring.server_public());
        let key = again.find(&curve.public_key).unwrap();
        assert!(key.allows("math.add") && !key.allows("os.system"));
        assert_eq!(again.revoke("anna").unwrap(), curve.public_key);
        assert!(again.find(&curve.public_key).is_none());
        assert!(again.revoke("anna").is_err());
        assert!(again.issue("anna", Role::Client, vec![], 3).is_ok());
    }

    #[test]
    fn names_and_globs_that_would_confuse_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let ring = keyring(folder.path());
        let issue = |name: &str, globs: &[&str]| {
            let globs = globs.iter().map(|glob| (*glob).to_owned()).collect();
            ring.issue(name, Role::Client, globs, 1)
        };
        for name in ["", "../x", "a b", "a\nb", &"x".repeat(65)] {
            assert!(
                matches!(issue(name, &[]), Err(KeyringError::Name(_))),
                "{name}"
            );
        }
        assert!(issue("a", &[""]).is_err());
        assert!(issue("a", &[&"x".repeat(257)]).is_err());
        assert!(issue("anna@lab-2", &["math.*"]).is_ok());
        assert_eq!(ring.free_name("anna@lab-2"), "anna@lab-2-2");
    }

    #[test]
    fn every_file_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let ring = keyring(folder.path());
        ring.issue("a", Role::Worker, vec![], 1).unwrap();
        for entry in fs::read_dir(folder.path().join("keys")).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(
            Keyring::open(&open),
            Err(KeyringError::Unsafe { .. })
        ));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("keys"), &link).unwrap();
        assert!(Keyring::open(&link).is_err());
    }

    #[test]
    fn role_files_keep_their_keys_when_addresses_change() {
        let folder = tempfile::tempdir().unwrap();
        let ring = keyring(folder.path());
        let remote = Connection {
            version: 1,
            name: "c".into(),
            host: "h".into(),
            pid: 1,
            started: 1,
            frontend: "tcp://h:1".into(),
            backend: String::new(),
            workers: String::new(),
            events: String::new(),
            curve: None,
        };
        let paths = ring.write_role_files(&remote).unwrap();
        let before = Connection::read(&paths[0]).unwrap();
        let moved = Connection {
            frontend: "tcp://h:2".into(),
            ..remote
        };
        ring.write_role_files(&moved).unwrap();
        let after = Connection::read(&paths[0]).unwrap();
        assert_eq!(
            (after.curve, after.frontend),
            (before.curve, "tcp://h:2".into())
        );
    }
}
