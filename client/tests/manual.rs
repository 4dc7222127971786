//! Manual pages and completions, as the programs make them.

use std::path::PathBuf;
use std::process::{Command, Output};

fn program(name: &str) -> PathBuf {
    muster_test_support::program(env!("CARGO_BIN_EXE_muster"), name)
}

fn muster(args: &[&str]) -> Output {
    // It asks the others for their pages.
    for name in ["muster-broker", "muster-worker"] {
        program(name);
    }
    Command::new(program("muster")).args(args).output().unwrap()
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
    // A cluster of three words, without a cluster.
    let fake = folder.path().join("muster");
    std::fs::write(
        &fake,
        "#!/bin/sh\ncase $1 in methods) printf 'multiply\\nis_even\\n';; workers) printf 'WORKER KIND\\nlab x\\n';; \
         calls) printf 'CALL METHOD\\nc17 x\\n';; esac\necho \"$@\" >> $0.asked\n",
    )
    .unwrap();
    let mut mode = std::fs::metadata(&fake).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    std::fs::set_permissions(&fake, mode).unwrap();
    let complete = |words: &[&str]| {
        let last = words.len() - 1;
        let text = format!(
            "PATH={}:$PATH; source {}; COMP_WORDS=({}); COMP_CWORD={last}; _muster_named {} '{}' {}; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            folder.path().display(),
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
    assert_eq!(complete(&["muster", "call", "mul"]), "multiply\n");
    assert_eq!(complete(&["muster", "help", "''"]), "multiply\nis_even\n");
    assert_eq!(complete(&["muster", "map", "--to", "l"]), "lab\n");
    assert_eq!(
        complete(&["muster", "--cluster", "x", "explain", "c"]),
        "c17\n"
    );
    let asked = std::fs::read_to_string(folder.path().join("muster.asked")).unwrap();
    assert!(asked.ends_with("calls -q --cluster x\n"), "{asked}");
}

#[test]
fn zsh_and_fish_read_their_scripts() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["zsh", "fish"] {
        let script = ok(&["completions", shell]);
        for name in ["methods", "workers", "calls"] {
            assert!(script.contains(name), "{shell}: {name}");
        }
        if !is_here(shell, "zsh_and_fish_read_their_scripts") {
            continue;
        }
        let file = folder.path().join(shell);
        std::fs::write(&file, script).unwrap();
        let read = Command::new(shell).arg("-n").arg(&file).output();
        let read = read.unwrap();
        let said = String::from_utf8_lossy(&read.stderr);
        assert!(read.status.success() && said.is_empty(), "{shell}: {said}");
    }
}

#[test]
fn the_flags_of_packagers_are_in_no_help() {
    for program in ["muster-broker", "muster-worker"] {
        let help = Command::new(self::program(program))
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
