//! What holds for every process that runs functions or commands: its environment, and how much
//! memory it may have.

use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::process::Command;

/// Variables that children get under `--clean-env`: what programs need to find their files, their
/// language and their time zone, and what Muster's own programs read.
pub(crate) const LISTED: [&str; 13] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
    "MUSTER_*",
];

/// The rules for the children of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildRules {
    /// Which variables they get.
    pub environment: Environment,
    /// How much resident memory a child may have, with what it started itself.
    pub memory_bytes_max: Option<u64>,
}

/// Which environment variables a child gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Environment {
    /// All that the worker has.
    #[default]
    Parents,
    /// Those of the documented list, and these: names, or beginnings of names before a `*`.
    Listed(Vec<String>),
}

impl ChildRules {
    /// Gives a command its environment.
    pub(crate) fn apply(&self, command: &mut Command) {
        if let Environment::Listed(kept) = &self.environment {
            let passed: Vec<(OsString, OsString)> = std::env::vars_os()
                .filter(|(name, _)| is_kept(name, kept))
                .collect();
            command.env_clear().envs(passed);
        }
    }
}

fn is_kept(name: &OsStr, kept: &[String]) -> bool {
    let name = name.as_encoded_bytes();
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning.as_bytes()),
        None => name == pattern.as_bytes(),
    };
    LISTED.into_iter().any(fits) || kept.iter().any(|pattern| fits(pattern))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_kept_by_name_or_beginning() {
        let kept = ["TOKEN".to_owned(), "AWS_*".to_owned()];
        for (name, is_there) in [
            ("PATH", true),
            ("PATHS", false),
            ("LC_ALL", true),
            ("MUSTER_CLUSTER", true),
            ("SECRET", false),
            ("TOKEN", true),
            ("AWS_REGION", true),
        ] {
            assert_eq!(is_kept(OsStr::new(name), &kept), is_there, "{name}");
        }
    }
}
