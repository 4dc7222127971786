//! The user's settings file: defaults for flags, below the environment.
//!
//! `$XDG_CONFIG_HOME/muster/config.toml`, else `~/.config/muster/config.toml`. A key is a flag's long
//! name. At the top it holds for every program and command that has the flag; in a table `[broker]`,
//! `[worker]` or one named like a command of `muster` for that one alone:
//!
//! ```toml
//! cluster = "lab"
//!
//! [worker]
//! slots = 8
//! python = ["math_01.py", "operator"]
//!
//! [map]
//! timeout = 30
//! ```
//!
//! Source: docs, "Settings".

use crate::runtime::folder_of;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// What the file holds.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    path: PathBuf,
    table: Table,
}

/// Why the settings can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file is there and can't be read.
    #[error("settings {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no TOML.
    #[error("settings {}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// A table names a flag that its program or command does not have.
    #[error("settings {}: [{table}] has no flag --{flag}", path.display())]
    UnknownFlag {
        /// The file.
        path: PathBuf,
        /// The table.
        table: String,
        /// The flag.
        flag: String,
    },
}

impl Settings {
    /// Reads the user's file; without one, or without a home, there are no settings.
    ///
    /// # Errors
    /// [`SettingsError`]: a file that is there and can't be used is not passed over.
    pub fn load() -> Result<Self, SettingsError> {
        let home = || Some(folder_of("HOME")?.join(".config"));
        let folder = folder_of("XDG_CONFIG_HOME").or_else(home);
        match folder {
            Some(folder) => Self::read(&folder.join("muster/config.toml")),
            None => Ok(Self::default()),
        }
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => {
                return Err(SettingsError::Io {
                    path: path.into(),
                    source,
                });
            }
        };
        let table = text
            .parse::<Table>()
            .map_err(|error| SettingsError::Syntax {
                path: path.into(),
                reason: error.to_string(),
            })?;
        Ok(Settings {
            path: path.into(),
            table,
        })
    }

    /// The file, if there is one.
    pub fn path(&self) -> Option<&Path> {
        Some(self.path.as_path()).filter(|path| !path.as_os_str().is_empty())
    }

    /// The default of the flag `--flag`: from `table`, else from the top. A list has several values;
    /// none: the program's own default holds.
    pub fn values(&self, table: &str, flag: &str) -> Vec<String> {
        let inner = self.table.get(table).and_then(Value::as_table);
        let value = inner
            .and_then(|inner| inner.get(flag))
            .or_else(|| self.table.get(flag));
        match value {
            // A switch that is off is as if it were not there.
            None | Some(Value::Table(_) | Value::Boolean(false)) => Vec::new(),
            Some(Value::Array(values)) => values.iter().map(text).collect(),
            Some(value) => vec![text(value)],
        }
    }

    /// Checks that every key of `table` is one of `flags`.
    ///
    /// # Errors
    /// [`SettingsError::UnknownFlag`] with the first that is not.
    pub fn check(&self, table: &str, flags: &[&str]) -> Result<(), SettingsError> {
        let inner = self.table.get(table).and_then(Value::as_table);
        let mut keys = inner.into_iter().flat_map(Table::keys);
        match keys.find(|key| !flags.contains(&key.as_str())) {
            None => Ok(()),
            Some(flag) => Err(SettingsError::UnknownFlag {
                path: self.path.clone(),
                table: table.to_owned(),
                flag: flag.clone(),
            }),
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(is_on) => is_on.to_string(),
        Value::Datetime(time) => time.to_string(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(","),
        Value::Table(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Settings, SettingsError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, text).unwrap();
        Settings::read(&path)
    }

    #[test]
    fn a_table_goes_before_the_top_and_lists_have_several_values() {
        let found = settings(
            "cluster = \"lab\"\nslots = 2\nquiet = true\njson = false\n\
             [worker]\nslots = 8\npython = [\"a.py\", \"b\"]\n[map]\ntimeout = 0.5\n",
        )
        .unwrap();
        assert_eq!(found.values("worker", "cluster"), ["lab"]);
        assert_eq!(found.values("worker", "slots"), ["8"]);
        assert_eq!(found.values("up", "slots"), ["2"]);
        assert_eq!(found.values("worker", "python"), ["a.py", "b"]);
        assert_eq!(found.values("map", "timeout"), ["0.5"]);
        assert_eq!(found.values("call", "timeout"), [""; 0]);
        assert_eq!(found.values("call", "quiet"), ["true"]);
        assert_eq!(found.values("call", "json"), [""; 0]);
        assert_eq!(found.values("call", "map"), [""; 0]);
    }

    #[test]
    fn a_missing_file_is_no_error_and_a_broken_one_is() {
        let none = Settings::read(Path::new("/nonexistent/config.toml")).unwrap();
        assert!(none.path().is_none() && none.values("map", "timeout").is_empty());
        let error = settings("cluster = \n").unwrap_err();
        assert!(matches!(error, SettingsError::Syntax { .. }), "{error}");
    }

    #[test]
    fn a_flag_that_is_not_there_is_named() {
        let found = settings("[map]\ntimout = 3\n").unwrap();
        let error = found.check("map", &["timeout"]).unwrap_err();
        assert!(
            error.to_string().contains("[map] has no flag --timout"),
            "{error}"
        );
        assert!(found.check("call", &[]).is_ok());
    }
}
