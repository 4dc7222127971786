//! `muster completions`, `muster man`

use super::{CommandResult, Failure, complete};
use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::output::{self, Output};
use crate::process::find_program;
use clap::CommandFactory;
use muster_manual as manual;
use muster_proto::exit::Exit;
use std::io;
use std::path::Path;
use std::process::Command;

/// The programs whose flags this one does not know.
const OTHERS: [&str; 2] = ["muster-broker", "muster-worker"];

pub fn completions(args: &CompletionsArgs, out: &mut Output) -> CommandResult {
    let script = match &*args.program {
        "muster" => {
            let script = manual::completions(Cli::command(), args.shell);
            complete::with_names(&String::from_utf8_lossy(&script), args.shell).into_bytes()
        }
        other => {
            let shell = args.shell.to_string();
            ask(other, &[manual::COMPLETIONS, &shell])?
        }
    };
    out.bytes(&script)?;
    Ok(Exit::Done)
}

pub fn pages(args: &ManArgs, out: &mut Output) -> CommandResult {
    let folder = &args.folder;
    let system = |source| Failure::System {
        what: folder.display().to_string(),
        source,
    };
    std::fs::create_dir_all(folder).map_err(system)?;
    for page in manual::pages(&Cli::command())? {
        write(&folder.join(page.file), &page.text, out)?;
    }
    let mut exit = Exit::Done;
    for program in OTHERS {
        match ask(program, &[manual::MAN]) {
            Ok(text) => write(&folder.join(format!("{program}.1")), &text, out)?,
            Err(failure) => {
                output::note(&failure.to_string());
                exit = Exit::Failed;
            }
        }
    }
    Ok(exit)
}

fn write(path: &Path, text: &[u8], out: &mut Output) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|source| Failure::System {
        what: path.display().to_string(),
        source,
    })?;
    Ok(out.line(&path.display().to_string())?)
}

/// What another program says of itself.
fn ask(program: &str, args: &[&str]) -> Result<Vec<u8>, Failure> {
    let system = |source| Failure::System {
        what: program.to_owned(),
        source,
    };
    let path = find_program(program).map_err(system)?;
    let output = Command::new(path).args(args).output().map_err(system)?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(system(io::Error::other(text)));
    }
    Ok(output.stdout)
}
