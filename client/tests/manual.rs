//! Manual pages and completions, as the programs make them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn programs() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_muster")).parent().unwrap();
    for name in ["muster-broker", "muster-worker"] {
        if !folder.join(name).is_file() {
            let built = Command::new(env!("CARGO"))
                .args([
                    "build",
                    "--release",
                    "--bins",
                    "-p",
                    name,
                    "--manifest-path",
                ])
                .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
                .status();
            assert!(built.unwrap().success());
        }
    }
    folder.to_path_buf()
}

fn muster(args: &[&str]) -> Output {
    Command::new(programs().join("muster"))
        .args(args)
        .output()
        .unwrap()
}

fn ok(args: &[&str]) -> String {
    let output = muster(args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a program is here to judge with; says so when it is not.
fn is_here(program: &str, test: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        eprintln!("SKIPPED {test}: {program} is not installed");
    }
    found
}

#[test]
fn every_program_and_every_command_has_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("man1");
    ok(&["man", target.to_str().unwrap()]);
    let read = |name: &str| std::fs::read_to_string(target.join(name)).unwrap();
    for (page, said) in [
        ("muster.1", "gateway"),
        ("muster-call.1", "timeout"),
        ("muster-gateway.1", "token"),
        ("muster-worker-add.1", "methods"),
        ("muster-broker.1", "settle"),
        // The program's page, not that of `muster worker`.
        ("muster-worker.1", "python"),
    ] {
        let text = read(page);
        assert!(
            text.contains(&format!(".TH {}", page.trim_end_matches(".1"))),
            "{page}"
        );
        assert!(text.contains(said), "{page} says nothing of {said}");
    }
    let names: Vec<String> = std::fs::read_dir(&target)
        .unwrap()
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .collect();
    let help = ok(&["--help"]);
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    for line in commands.take_while(|line| !line.is_empty()) {
        let Some(name) = line
            .strip_prefix("  ")
            .filter(|rest| !rest.starts_with(' '))
        else {
            continue;
        };
        let name = name.split(' ').next().unwrap();
        // One that holds others, such as `muster keys`, has theirs.
        let (own, inner) = (format!("muster-{name}.1"), format!("muster-{name}-"));
        let has_page = names
            .iter()
            .any(|page| *page == own || page.starts_with(&inner));
        assert!(has_page, "{name} has no page");
    }
    if is_here("groff", "pages through groff") {
        for page in std::fs::read_dir(&target).unwrap() {
            let page = page.unwrap().path();
            let judged = Command::new("groff")
                .args(["-man", "-Tutf8", "-ww", "-z"])
                .arg(&page)
                .output();
            let complaints = String::from_utf8(judged.unwrap().stderr).unwrap();
            assert_eq!(complaints, "", "{}", page.display());
        }
    }
}

#[test]
fn completions_are_made_for_every_shell_and_program() {
    for program in ["muster", "muster-broker", "muster-worker"] {
        for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
            let script = ok(&["completions", shell, program]);
            assert!(script.contains("cluster"), "{shell} {program}");
        }
    }
    assert_eq!(muster(&["completions", "cmd"]).status.code(), Some(2));
    assert_eq!(
        muster(&["completions", "bash", "other"]).status.code(),
        Some(2)
    );
}

#[test]
fn bash_completes_commands_and_flags() {
    if !is_here("bash", "bash_completes_commands_and_flags") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("muster.bash");
    std::fs::write(&script, ok(&["completions", "bash"])).unwrap();
    let complete = |words: &[&str]| {
        let last = words.len() - 1;
        let text = format!(
            "source {}; COMP_WORDS=({}); COMP_CWORD={last}; _muster {} {} {}; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            script.display(),
            words.join(" "),
            words[0],
            words[last],
            words[last - 1]
        );
        let output = Command::new("bash").args(["-c", &text]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(complete(&["muster", "gat"]), "gateway\n");
    assert_eq!(complete(&["muster", "call", "--prio"]), "--priority\n");
}

#[test]
fn the_flags_of_packagers_are_in_no_help() {
    for program in ["muster-broker", "muster-worker"] {
        let help = Command::new(programs().join(program))
            .arg("--help")
            .output()
            .unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        assert!(
            !help.contains("--man") && !help.contains("--completions"),
            "{program}"
        );
    }
}
