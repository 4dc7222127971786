//! Keeps a program of ours no longer than the measurement: a broker outlives nobody.

use anyhow::Context as _;
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

/// Starts `program`, tells its process id, and kills it when standard input ends.
pub fn run(program: &[String]) -> anyhow::Result<()> {
    let (name, args) = program.split_first().context("which program?")?;
    let mut child = Command::new(name)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("start {name}"))?;
    let mut out = io::stdout();
    writeln!(out, "{}", child.id())?;
    out.flush()?;
    let _ = io::stdin().read_to_end(&mut Vec::new());
    // It may have ended by itself.
    let _ = child.kill();
    child.wait()?;
    Ok(())
}
