//! Completions of `muster` itself: clap's script, and the names that only the cluster knows.

use muster_manual::Shell;

const BASH: &str = include_str!("names.bash");
const ZSH: &str = include_str!("names.zsh");
const FISH: &str = include_str!("names.fish");

/// Where zsh's script begins to act.
const ZSH_START: &str = "if [ \"$funcstack[1]\" = \"_muster\" ]";

/// What zsh's script completes like files, and is completed by one of our functions instead: how
/// the line begins, behind its quote and colons, or what stands before the end.
const ZSH_NAMES: [(&str, &str); 6] = [
    ("method -- ", "_muster_methods"),
    ("worker -- ", "_muster_workers"),
    ("words -- ", "_muster_workers"),
    ("id -- ", "_muster_calls"),
    ("subject -- ", "_muster_calls"),
    ("--to=", "_muster_workers"),
];

/// The script with names of methods, workers and calls.
pub fn with_names(script: &str, shell: Shell) -> String {
    match shell {
        Shell::Bash => format!("{script}{BASH}"),
        Shell::Fish => format!("{script}{FISH}"),
        Shell::Zsh => {
            let lines = script.lines().map(named);
            let text: String = lines.map(|line| line + "\n").collect();
            text.replacen(ZSH_START, &format!("{ZSH}{ZSH_START}"), 1)
        }
        _ => script.to_owned(),
    }
}

fn named(line: &str) -> String {
    let start = line.trim_start_matches(['\'', ':', '*']);
    let function = ZSH_NAMES.iter().find(|(name, _)| start.starts_with(name));
    let head = line.strip_suffix(":_default' \\");
    match (function, head) {
        (Some((_, function)), Some(head)) => format!("{head}:{function}' \\"),
        _ => line.to_owned(),
    }
}
