//! `muster keys`: who may come in over TCP.

use super::{CommandResult, Failure, ask, ask_list, connect};
use crate::cli::{Common, KeysCommand, NewKeyArgs, RevokeKeyArgs};
use crate::output::{Output, clean, duration_text};
use muster_proto::connection::{Connection, Role};
use muster_proto::exit::Exit;
use serde::Deserialize;
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Makes, lists or revokes keys.
pub fn run(common: &Common, command: &KeysCommand, out: &mut Output) -> CommandResult {
    match command {
        KeysCommand::New(args) => new(common, args, out),
        KeysCommand::List => list(common, out),
        KeysCommand::Revoke(args) => revoke(common, args, out),
    }
}

/// What the broker answers: the key's secret half is in it and kept nowhere else.
#[derive(Deserialize)]
struct NewKey {
    name: String,
    connection: Connection,
}

fn new(common: &Common, args: &NewKeyArgs, out: &mut Output) -> CommandResult {
    let client = connect(common)?;
    // The place is taken before the key is made: no key is left behind whose file can't be written.
    let mut place = match &args.output {
        Some(path) if path.as_os_str() == "-" => None,
        Some(path) => Some(Place::take(path)?),
        None => args.name.as_deref().map(own_file).transpose()?,
    };
    let mut params = json!({"role": Role::from(args.role), "methods": args.methods});
    if let Some(name) = &args.name {
        params["name"] = json!(name);
    }
    let key: NewKey = client
        .call("broker.new_key", &params)?
        .json()
        .map_err(Failure::Client)?;
    let is_printed = place.is_none() && args.output.is_some();
    if is_printed {
        let text = serde_json::to_string_pretty(&key.connection).map_err(io::Error::from)?;
        out.line(&text)?;
        return Ok(Exit::Done);
    }
    let written = place
        .take()
        .map_or_else(|| own_file(&key.name), Ok)
        .and_then(|place| place.fill(&key.connection));
    let path = match written {
        Ok(path) => path,
        Err(failure) => {
            // Nobody will ever hold it.
            let _ = ask(&client, "broker.revoke_key", &json!({"name": key.name}));
            return Err(failure);
        }
    };
    if out.json {
        let line = json!({
            "name": key.name,
            "role": Role::from(args.role),
            "methods": args.methods,
            "public_key": key.connection.curve.as_ref().map(|curve| curve.public_key.as_str()),
            "frontend": key.connection.frontend,
            "file": path,
        });
        out.line(&line.to_string())?;
        return Ok(Exit::Done);
    }
    out.line(&path.display().to_string())?;
    out.note(&format!(
        "this file holds the secret of key {}: copy it to the machine that needs it, then use it \
         there with --connection FILE",
        clean(&key.name)
    ));
    Ok(Exit::Done)
}

fn list(common: &Common, out: &mut Output) -> CommandResult {
    let keys = ask_list(&connect(common)?, "broker.keys", &())?;
    if out.json {
        keys.iter().try_for_each(|(raw, _)| out.line(raw.get()))?;
        return Ok(Exit::Done);
    }
    if keys.is_empty() {
        out.note("no key was made; `muster keys new --role client` makes one");
        return Ok(Exit::Done);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_s = now.map_or(0.0, |since| since.as_secs_f64());
    let row = |key: &Value| {
        let is_revoked = key["is_revoked"] == true;
        let has_globs = key["methods"]
            .as_array()
            .is_some_and(|globs| !globs.is_empty());
        let age_s = (now_s - key["created"].as_f64().unwrap_or(now_s)).max(0.0);
        vec![
            key["name"].clone(),
            key["role"].clone(),
            json!(if is_revoked { "revoked" } else { "valid" }),
            if has_globs {
                key["methods"].clone()
            } else {
                json!("all")
            },
            json!(duration_text(age_s)),
            key["public_key"].clone(),
        ]
    };
    let rows: Vec<Vec<Value>> = keys.iter().map(|(_, key)| row(key)).collect();
    let header = ["NAME", "ROLE", "STATE", "METHODS", "AGE", "PUBLIC KEY"];
    out.table(&header, &rows)?;
    Ok(Exit::Done)
}

fn revoke(common: &Common, args: &RevokeKeyArgs, out: &mut Output) -> CommandResult {
    let client = connect(common)?;
    ask(&client, "broker.revoke_key", &json!({"name": args.name}))?;
    if out.json {
        out.line(&json!({"revoked": args.name}).to_string())?;
    } else {
        out.note(&format!("key {} opens nothing any more", clean(&args.name)));
    }
    Ok(Exit::Done)
}

/// A file that did not exist and is ours now; gone again if nothing is written to it.
struct Place {
    path: PathBuf,
    is_filled: bool,
}

impl Place {
    fn take(path: &Path) -> Result<Self, Failure> {
        let taken = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        match taken {
            Ok(_) => Ok(Place {
                path: path.to_owned(),
                is_filled: false,
            }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let path = path.display();
                Err(Failure::State(format!(
                    "{path} is there already: name another with --output"
                )))
            }
            Err(source) => Err(Failure::System {
                what: path.display().to_string(),
                source,
            }),
        }
    }

    fn fill(mut self, connection: &Connection) -> Result<PathBuf, Failure> {
        let written = connection.write(&self.path);
        written.map_err(|error| Failure::State(error.to_string()))?;
        self.is_filled = true;
        Ok(self.path.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_filled {
            // It is empty; that it stays harms nothing.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// NAME.json in the working directory, and nowhere else.
fn own_file(name: &str) -> Result<Place, Failure> {
    if name.contains('/') || name.starts_with('.') || name.is_empty() {
        return Err(Failure::Usage(format!(
            "{} is no name for a file: say where the key goes with --output",
            clean(name)
        )));
    }
    Place::take(Path::new(&format!("{name}.json")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_place_is_private_taken_once_and_given_back_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.json");
        let place = Place::take(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(Place::take(&path), Err(Failure::State(_))));
        drop(place);
        assert!(!path.exists());
    }

    #[test]
    fn a_keys_name_leads_to_no_other_folder() {
        for name in ["", "../x", "a/b", ".profile"] {
            assert!(matches!(own_file(name), Err(Failure::Usage(_))), "{name}");
        }
    }
}
