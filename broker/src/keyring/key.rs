//! One key: whose it is, what it is for, and what it may do.

use super::KeyringError;
use muster_proto::connection::Role;
use muster_proto::limits::METHOD_BYTES_MAX;
use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

/// A key's name.
const NAME_BYTES_MAX: usize = 64;

/// What a key may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// What people call it, unique.
    pub name: String,
    /// The kind of peer it is for.
    pub role: Role,
    /// Globs over the methods that it may call, or offer; empty: all.
    #[serde(default)]
    pub methods: Vec<String>,
    /// The public key (Z85).
    pub public_key: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// It lets nobody in any more.
    #[serde(default)]
    pub is_revoked: bool,
}

impl Key {
    /// Whether it is for some methods only.
    pub fn is_limited(&self) -> bool {
        !self.methods.is_empty()
    }

    /// The methods it is for, when it names each of them whole.
    pub fn whole_names(&self) -> Option<&[String]> {
        let is_whole = |name: &String| !name.contains(['*', '?']);
        (self.is_limited() && self.methods.iter().all(is_whole)).then_some(&self.methods)
    }

    /// Whether it is for this method, to call it or to offer it.
    pub fn allows(&self, method: &str) -> bool {
        !self.is_limited()
            || self
                .methods
                .iter()
                .any(|glob| WildMatch::new(glob).matches(method))
    }
}

/// It is shown in tables and logs and becomes a file's name.
pub(super) fn check_name(name: &str) -> Result<(), KeyringError> {
    let is_fine = |c: char| c.is_alphanumeric() || "-_.@+".contains(c);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(is_fine) {
        return Err(KeyringError::Name(format!(
            "a key's name has letters, digits and -_.@+, {NAME_BYTES_MAX} bytes at most"
        )));
    }
    Ok(())
}

/// Every call of the key's holder is compared with it.
pub(super) fn check_glob(glob: &str) -> Result<(), KeyringError> {
    if glob.is_empty() || glob.len() > METHOD_BYTES_MAX {
        return Err(KeyringError::Name(format!(
            "a glob over methods has from 1 to {METHOD_BYTES_MAX} bytes"
        )));
    }
    Ok(())
}
