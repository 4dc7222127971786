//! Manual pages and shell completions, made from a program's own flags, so that they are never
//! behind them.
//!
//! `muster man` and `muster completions` give those of all three programs; they ask the other two
//! with the flags that [`answer`] heeds, since no program knows another's flags.

use clap::{Command, ValueEnum};
pub use clap_complete::Shell;
use clap_mangen::Man;
use std::io::{self, Write};
use std::process::ExitCode;

/// What a program is asked for its manual page with.
pub const MAN: &str = "--man";
/// What a program is asked for its completions with; the shell's name follows.
pub const COMPLETIONS: &str = "--completions";

/// A manual page and the file it belongs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Such as `muster-call.1`.
    pub file: String,
    /// The page in roff.
    pub text: Vec<u8>,
}

/// Prints the program's manual page or completions, if that alone is what it was started for, and
/// gives the exit code. These flags are in no help: they are for `muster` and for packagers.
pub fn answer(command: Command) -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).take(3).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let text = match *arguments {
        [MAN] => page(&command).map(|page| page.text),
        [COMPLETIONS, shell] => Ok(completions(command, Shell::from_str(shell, true).ok()?)),
        _ => return None,
    };
    let mut out = io::stdout().lock();
    let written = text.and_then(|text| out.write_all(&text).and_then(|()| out.flush()));
    Some(match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

/// The pages of a program and of each command that does something.
///
/// # Errors
/// None that can happen: pages are written to memory.
pub fn pages(command: &Command) -> io::Result<Vec<Page>> {
    let mut built = command.clone();
    // Fills in the names and flags that commands have from their program.
    built.build();
    let mut pages = vec![page(&built)?];
    add_pages(&built, built.get_name(), &mut pages)?;
    Ok(pages)
}

fn add_pages(command: &Command, name: &str, pages: &mut Vec<Page>) -> io::Result<()> {
    for inner in command
        .get_subcommands()
        .filter(|inner| !inner.is_hide_set())
    {
        let name = format!("{name}-{}", inner.get_name());
        // One that only holds others needs no page, and could have the name of another program.
        if !inner.has_subcommands() {
            let renamed = inner.clone().name(name.clone()).display_name(name.clone());
            pages.push(page(&renamed)?);
        }
        add_pages(inner, &name, pages)?;
    }
    Ok(())
}

fn page(command: &Command) -> io::Result<Page> {
    let mut text = Vec::new();
    Man::new(command.clone())
        .manual("Muster")
        .render(&mut text)?;
    Ok(Page {
        file: format!("{}.1", command.get_name()),
        text,
    })
}

/// A script for a shell.
pub fn completions(mut command: Command, shell: Shell) -> Vec<u8> {
    let name = command.get_name().to_owned();
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    fn command() -> Command {
        let inner = Command::new("call")
            .about("Call a method")
            .arg(Arg::new("method"));
        let hidden = Command::new("slot").hide(true);
        let holder = Command::new("worker").subcommand(Command::new("add"));
        let flag = Arg::new("cluster")
            .long("cluster")
            .global(true)
            .help("Which cluster");
        Command::new("prog")
            .about("Does things")
            .arg(flag)
            .subcommand(inner)
            .subcommand(hidden)
            .subcommand(holder)
            .disable_help_subcommand(true)
    }

    #[test]
    fn every_command_that_people_see_has_a_page() {
        let pages = pages(&command()).unwrap();
        let files: Vec<&str> = pages.iter().map(|page| &*page.file).collect();
        assert_eq!(files, ["prog.1", "prog-call.1", "prog-worker-add.1"]);
        let text = String::from_utf8(pages[1].text.clone()).unwrap();
        assert!(text.contains(".TH prog-call 1"), "{text}");
        assert!(text.contains("Call a method"), "{text}");
        assert!(
            text.contains("cluster"),
            "global flags are the command's, too: {text}"
        );
    }

    #[test]
    fn every_shell_has_a_script() {
        for shell in Shell::value_variants() {
            let text = String::from_utf8(completions(command(), *shell)).unwrap();
            assert!(text.contains("prog") && text.contains("cluster"), "{shell}");
        }
    }
}
