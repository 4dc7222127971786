//! `muster-worker`: hosts functions for a Muster cluster.

mod cli;
mod config;
mod logging;

use anyhow::Context;
use clap::CommandFactory;
use cli::{Cli, Hidden};
use config::ConfigError;
use muster_proto::exit::Exit;
use muster_proto::parent::end_with_parent;
use muster_proto::settings::SettingsError;
use muster_proto::socket::keep_memory;
use muster_worker::program::{self, ProgramError};
use muster_worker::{FindError, ServeError, Stopper};
use std::process::ExitCode;

/// Free memory that a slot's process keeps for the next large frame, in each of its heaps.
const SLOT_KEPT_BYTES_MAX: usize = 16 << 20;

fn main() -> ExitCode {
    end_with_parent();
    if let Some(exit) = muster_manual::answer(Cli::command()) {
        return exit;
    }
    logging::init();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("muster-worker: {error:#}");
            ExitCode::from(exit_of(&error).number() as u8)
        }
    }
}

fn run() -> anyhow::Result<()> {
    let cli = Cli::read()?;
    match cli.command {
        Some(Hidden::Slot { .. }) => {
            keep_memory(SLOT_KEPT_BYTES_MAX);
            Ok(program::run_slot()?)
        }
        Some(Hidden::Guard { .. }) => {
            program::run_guard();
            Ok(())
        }
        None => serve(cli),
    }
}

fn serve(cli: Cli) -> anyhow::Result<()> {
    // Before anything is looked for: files on the command line are seen from there.
    if let Some(folder) = &cli.worker.chdir {
        std::env::set_current_dir(folder)
            .with_context(|| format!("--chdir {}", folder.display()))?;
    }
    let settings = config::settings(cli.worker)?;
    let stopper = program::stopper()?;
    handle_signals(stopper.clone())?;
    Ok(program::run(settings, stopper)?)
}

/// The first SIGINT or SIGTERM drains, the second stops.
fn handle_signals(stopper: Stopper) -> anyhow::Result<()> {
    ctrlc::set_handler(move || stopper.signal()).context("cannot handle signals")
}

fn exit_of(error: &anyhow::Error) -> Exit {
    if error.is::<ConfigError>() || error.is::<SettingsError>() {
        return Exit::Usage;
    }
    match error.downcast_ref::<ProgramError>() {
        Some(
            ProgramError::Command(_)
            | ProgramError::Registry(_)
            | ProgramError::Python(_)
            | ProgramError::NotASlot
            | ProgramError::Serve(ServeError::Find(FindError::Runtime(_))),
        ) => Exit::Usage,
        Some(ProgramError::Serve(ServeError::Refused(refused))) => Exit::of_code(refused.code),
        _ => Exit::Failed,
    }
}
