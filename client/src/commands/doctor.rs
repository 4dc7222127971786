//! `muster doctor`: what was found where, and what is wrong.

use super::CommandResult;
use crate::cli::Common;
use crate::output::{Output, clean, with_causes};
use crate::process::find_program;
use muster_client::{Call, Client, Target};
use muster_proto::connection::Connection;
use muster_proto::exit::Exit;
use muster_proto::runtime::RuntimeDir;
use muster_proto::settings::Settings;
use muster_proto::socket::{raise_file_limit, self_check};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long the broker may take to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// Under this a broker can hold few connections.
const FILES_MIN: u64 = 1_024;

/// What a look at one thing found.
struct Finding {
    name: &'static str,
    is_ok: bool,
    detail: String,
}

fn finding(name: &'static str, is_ok: bool, detail: impl Into<String>) -> Finding {
    Finding {
        name,
        is_ok,
        detail: detail.into(),
    }
}

/// Looks at everything and says what it saw.
pub fn run(common: &Common, out: &mut Output) -> CommandResult {
    let mut findings = Vec::new();
    for check in self_check() {
        findings.push(finding(check.name, check.ok, check.detail));
    }
    let (before, files) = raise_file_limit();
    let detail = format!("{files} open files at most (was {before})");
    findings.push(finding("files", files >= FILES_MIN, detail));
    for name in ["muster-broker", "muster-worker"] {
        findings.push(match find_program(name) {
            Ok(path) => finding(name, true, path.display().to_string()),
            Err(error) => finding(name, false, with_causes(&error)),
        });
    }
    // One that can't be used has ended every command before this.
    let settings = Settings::load().unwrap_or_default();
    let detail = settings
        .path()
        .map_or("none".into(), |path| path.display().to_string());
    findings.push(finding("settings", true, detail));
    let target = common.target();
    findings.extend(look_at_files(&target));
    findings.extend(look_at_broker(&target));
    for found in &findings {
        if out.json {
            let object = json!({"check": found.name, "ok": found.is_ok, "detail": found.detail});
            out.line(&object.to_string())?;
        } else {
            let mark = if found.is_ok { "ok " } else { "BAD" };
            out.line(&format!(
                "{mark}  {:<14} {}",
                found.name,
                clean(&found.detail)
            ))?;
        }
    }
    let is_well = findings.iter().all(|found| found.is_ok);
    let misses = |name| {
        findings
            .iter()
            .any(|found| found.name == name && !found.is_ok)
    };
    if misses("connection") && common.connection.is_none() {
        out.note("there is no cluster of this name here: muster up -n 4 starts one, muster ls lists those that are");
    }
    Ok(if is_well {
        Exit::Done
    } else {
        Exit::Unavailable
    })
}

/// The directory, the connection file and the lock, as far as this target uses them.
fn look_at_files(target: &Target) -> Vec<Finding> {
    let mut findings = Vec::new();
    let path = match (&target.connection, &target.endpoint) {
        (Some(path), _) => path.clone(),
        (None, Some(_)) => return findings,
        (None, None) => match target.runtime() {
            Err(error) => return vec![finding("cluster", false, with_causes(&error))],
            Ok(dir) => {
                findings.extend(look_at_directory(&dir));
                dir.connection_path()
            }
        },
    };
    findings.push(match Connection::read(&path) {
        Err(error) => finding("connection", false, with_causes(&error)),
        Ok(file) => {
            let keys = match &file.curve {
                Some(curve) => format!("keys for the role {:?}", curve.role).to_lowercase(),
                None => "no keys".into(),
            };
            let (name, host, pid) = (&file.name, &file.host, file.pid);
            let text = format!(
                "{}: cluster {name} on {host}, pid {pid}, {keys}",
                path.display()
            );
            finding("connection", true, text)
        }
    });
    findings
}

fn look_at_directory(dir: &RuntimeDir) -> Vec<Finding> {
    let path = dir.path().display();
    let mut findings = vec![match dir.verify() {
        Ok(()) => finding("directory", true, format!("{path}: yours alone")),
        Err(error) => finding("directory", false, with_causes(&error)),
    }];
    if dir.path().is_dir() {
        findings.push(match dir.is_live() {
            true => finding("lock", true, "held by a living broker"),
            false => finding(
                "lock",
                false,
                "free: no broker lives here; muster up starts one",
            ),
        });
    }
    findings
}

/// The address, the handshake, the broker's own words.
fn look_at_broker(target: &Target) -> Vec<Finding> {
    let mut findings = Vec::new();
    let address = match target.resolve() {
        Ok(address) => address,
        Err(error) => return vec![finding("address", false, with_causes(&error))],
    };
    let source = match (&target.endpoint, &target.connection) {
        (Some(_), _) => "as given",
        (None, Some(_)) => "from the file given",
        (None, None) => "from the runtime directory",
    };
    findings.push(finding(
        "address",
        true,
        format!("{} ({source})", address.endpoint),
    ));
    let start = Instant::now();
    let client = match Client::connect(target) {
        Ok(client) => client,
        Err(error) => {
            findings.push(finding("connect", false, with_causes(&error)));
            return findings;
        }
    };
    findings.push(finding("connect", true, format!("in {:.1} ms", ms(start))));
    let start = Instant::now();
    let ask = || -> Result<Value, muster_client::Error> {
        let call = Call::new("broker.status", &())?.timeout(PING_TIMEOUT);
        client.submit(call)?.wait()?.json()
    };
    match ask() {
        Err(error) => findings.push(finding("ping", false, with_causes(&error))),
        Ok(status) => {
            findings.push(finding("ping", true, format!("{:.2} ms", ms(start))));
            let theirs = status["version"].as_str().unwrap_or("?");
            let ours = env!("CARGO_PKG_VERSION");
            let text = format!("broker {theirs}, this program {ours}");
            findings.push(finding("versions", theirs == ours, text));
            let (total, draining) = (&status["slots"]["total"], &status["draining"]);
            let text = match draining == true {
                true => format!("{total} slots; the broker drains and takes no calls"),
                false if total == 0 => "none: start muster-worker -n 4".into(),
                false => format!("{total}"),
            };
            findings.push(finding("slots", total != 0 && draining != true, text));
        }
    }
    findings
}

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
