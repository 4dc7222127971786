//! What was typed, checked: every complaint names its flag.

use crate::cli::WorkerArgs;
use muster_proto::limits;
use muster_proto::runtime::RuntimeDir;
use muster_worker::program::Settings;
use muster_worker::{
    BrokerAddress, ChildRules, CommandModes, Environment, PythonSource, RepServers,
};
use std::path::PathBuf;
use std::time::Duration;

/// A flag that makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{flag}: {reason}")]
pub struct ConfigError {
    flag: &'static str,
    reason: String,
}

/// Reads the flags.
///
/// # Errors
/// [`ConfigError`].
pub fn settings(mut args: WorkerArgs) -> Result<Settings, ConfigError> {
    check_values(&args)?;
    check_company(&args)?;
    let Ok(grace) = Duration::try_from_secs_f64(args.grace) else {
        let reason = format!("{} is no number of seconds", args.grace);
        return wrong("--grace", reason);
    };
    let memory_bytes_max = match args.memory_max.as_deref().map(bytes).transpose() {
        Ok(bytes) => bytes,
        Err(reason) => return wrong("--memory-max", reason),
    };
    let rep = match RepServers::parse(&args.rep) {
        Ok(rep) => rep,
        Err(error) => return wrong("--rep", error.to_string()),
    };
    let rules = ChildRules {
        environment: match args.clean_env {
            true => Environment::Listed(args.keep_env),
            false => Environment::Parents,
        },
        memory_bytes_max,
    };
    let cluster = args.cluster.clone();
    let address = match (args.connect, args.connection) {
        (Some(frontend), _) => BrokerAddress::Frontend(frontend),
        (None, Some(file)) => BrokerAddress::File(file),
        (None, None) => BrokerAddress::Cluster {
            name: args.cluster,
            runtime_dir: args.runtime_dir,
        },
    };
    if rep.is_some() {
        // Of the user's settings: what is typed beside it is refused.
        args.python.clear();
        args.allow_apply = false;
        args.commands.clear();
        args.builtin = false;
    }
    let has_python = !args.python.is_empty() || args.allow_apply;
    let is_bare = !has_python && args.commands.is_empty() && rep.is_none() && !args.allow_run;
    let builtin = args.builtin || is_bare;
    let python = has_python.then_some(PythonSource {
        modules: args.python,
        prefix: args.prefix,
        interpreter: args.interpreter,
        init: args.init,
        allow_apply: args.allow_apply,
        environ: environ_of(&address),
        shelf: shelf_of(&address),
        rules: rules.clone(),
        recycle_calls: args.recycle,
    });
    Ok(Settings {
        address,
        cluster,
        slots: args.slots,
        name: args.name,
        builtin,
        python,
        commands: args.commands,
        modes: CommandModes {
            stdin: args.stdin,
            json: args.command_json,
            shell: args.shell,
        },
        allow_run: args.allow_run,
        rules,
        once: args.once,
        plain: args.plain,
        rep,
        grace,
    })
}

fn wrong<T>(flag: &'static str, reason: impl Into<String>) -> Result<T, ConfigError> {
    let reason = reason.into();
    Err(ConfigError { flag, reason })
}

/// Whether each flag has a value that makes sense.
fn check_values(args: &WorkerArgs) -> Result<(), ConfigError> {
    let slots_max = limits::WORKER_SLOTS_MAX;
    if let Some(slots) = args.slots.filter(|n| !(1..=slots_max).contains(n)) {
        return wrong("--slots", format!("{slots} is not from 1 to {slots_max}"));
    }
    if let Some(name) = &args.name {
        let max = limits::WORKER_NAME_BYTES_MAX;
        let is_plain = name.chars().all(|c| !c.is_control() && c != '/');
        if name.is_empty() || name.len() > max || !is_plain {
            let reason = format!("from 1 to {max} printable characters, no /");
            return wrong("--name", reason);
        }
    }
    if let Some(init) = &args.init {
        let is_named = init
            .rsplit_once(':')
            .is_some_and(|(module, function)| !module.is_empty() && !function.is_empty());
        if !is_named {
            return wrong("--init", format!("{init} is not MODULE:FUNCTION"));
        }
    }
    if args.recycle == Some(0) {
        return wrong("--recycle", "0 calls are none");
    }
    Ok(())
}

/// Whether each flag is there with those that it needs, and without those it can't be beside.
fn check_company(args: &WorkerArgs) -> Result<(), ConfigError> {
    let has_python = !args.python.is_empty() || args.allow_apply;
    if args.python.is_empty() && !args.prefix.is_empty() {
        return wrong("--prefix", "there is no --python to put it on");
    }
    if args.init.is_some() && !has_python {
        return wrong("--init", "there is no --python it could prepare");
    }
    if args.recycle.is_some() && !has_python {
        return wrong("--recycle", "there is no --python child to replace");
    }
    let of_commands = [
        (args.stdin, "--stdin"),
        (args.command_json, "--command-json"),
        (args.shell, "--shell"),
    ];
    if let Some(&(_, flag)) = of_commands.iter().find(|(is_set, _)| *is_set)
        && args.commands.is_empty()
    {
        return wrong(flag, "there is no --command it could be for");
    }
    if args.allow_run && !args.plain.is_empty() {
        let reason = "not with --plain: any client of that broker could run anything here";
        return wrong("--allow-run", reason);
    }
    if !args.keep_env.is_empty() && !args.clean_env {
        return wrong("--keep-env", "without --clean-env all is kept");
    }
    Ok(())
}

/// What the Python package reads, so that `muster.connect()` inside a function finds this broker.
fn environ_of(address: &BrokerAddress) -> Vec<(String, String)> {
    let text = |path: &std::path::Path| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        path.to_string_lossy().into_owned()
    };
    let pairs = match address {
        BrokerAddress::Frontend(endpoint) => vec![("MUSTER_ENDPOINT", endpoint.clone())],
        BrokerAddress::File(file) => vec![("MUSTER_CONNECTION", text(file))],
        BrokerAddress::Cluster { name, runtime_dir } => {
            let folder = runtime_dir
                .as_ref()
                .map(|dir| ("MUSTER_RUNTIME_DIR", text(dir)));
            let name = ("MUSTER_CLUSTER", name.clone());
            std::iter::once(name).chain(folder).collect()
        }
        BrokerAddress::Connection(_) => Vec::new(),
    };
    let own = |(name, value): (&str, String)| (name.to_owned(), value);
    pairs.into_iter().map(own).collect()
}

/// Where the broker's shelf is if it is on this machine: in its runtime directory.
fn shelf_of(address: &BrokerAddress) -> Option<PathBuf> {
    let folder = match address {
        BrokerAddress::Cluster { name, runtime_dir } => {
            let dir = RuntimeDir::locate(name, runtime_dir.as_deref()).ok()?;
            dir.path().to_owned()
        }
        BrokerAddress::File(file) if file.ends_with("cluster.json") => file.parent()?.to_owned(),
        _ => return None,
    };
    std::path::absolute(folder.join("shelf")).ok()
}

/// A size such as `512M` or `1.5G`; a number alone is in bytes.
fn bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err(format!("{text} has no unit of K, M, G or T")),
    };
    let number: f64 = digits
        .trim_end()
        .parse()
        .map_err(|_| format!("{text} is no size, such as 512M"))?;
    let bytes = number * f64::from(2u32).powi(unit);
    if !(1024.0 * 1024.0..1e18).contains(&bytes) {
        return Err(format!("{text} is not from 1M on"));
    }
    Ok(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;

    fn read(flags: &[&str]) -> Result<Settings, ConfigError> {
        let cli = Cli::try_parse_from(std::iter::once(&"muster-worker").chain(flags)).unwrap();
        settings(cli.worker)
    }

    #[test]
    fn built_in_functions_are_there_unless_others_are_asked_for() {
        assert!(read(&[]).unwrap().builtin);
        assert!(!read(&["--python", "operator"]).unwrap().builtin);
        assert!(!read(&["--command", "wc=wc -w"]).unwrap().builtin);
        assert!(!read(&["--rep", "tcp://h:5555"]).unwrap().builtin);
        assert!(
            read(&["--python", "operator", "--builtin"])
                .unwrap()
                .builtin
        );
    }

    #[test]
    fn sizes_have_units_of_1024() {
        for (text, size) in [
            ("1048576", 1 << 20),
            ("1.5g", 3 << 29),
            ("64 MiB", 64 << 20),
        ] {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
    }

    #[test]
    fn complaints_name_their_flag() {
        for (flags, flag) in [
            (&["-n", "0"][..], "--slots"),
            (&["--name", "a/b"], "--name"),
            (&["--grace=-1"], "--grace"),
            (&["--prefix", "x."], "--prefix"),
            (&["--stdin"], "--stdin"),
            (&["--shell"], "--shell"),
            (&["--memory-max", "12X"], "--memory-max"),
            (&["--memory-max=-1G"], "--memory-max"),
            (&["--recycle", "5"], "--recycle"),
            (&["--recycle", "0", "--python", "a"], "--recycle"),
            (&["--keep-env", "A"], "--keep-env"),
            (&["--allow-run", "--plain", "tcp://h:1"], "--allow-run"),
            (&["--rep", "5555"], "--rep"),
            (&["--init", "a:b"], "--init"),
            (&["--init", "a", "--python", "a"], "--init"),
        ] {
            assert_eq!(read(flags).unwrap_err().flag, flag, "{flags:?}");
        }
    }

    #[test]
    fn the_broker_is_found_by_the_most_specific_flag() {
        let address = read(&["--connect", "tcp://h:1"]).unwrap().address;
        assert_eq!(address, BrokerAddress::Frontend("tcp://h:1".into()));
        let address = read(&["--connection", "f"]).unwrap().address;
        assert_eq!(address, BrokerAddress::File("f".into()));
        let address = read(&["--cluster", "c"]).unwrap().address;
        assert!(matches!(address, BrokerAddress::Cluster { name, .. } if name == "c"));
    }

    #[test]
    fn the_users_settings_stand_behind_what_is_typed() {
        use clap::FromArgMatches;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let text = "slots = 2\n[worker]\nslots = 8\nbuiltin = true\npython = [\"a\", \"b\"]\n";
        std::fs::write(&path, text).unwrap();
        let found = muster_proto::settings::Settings::read(&path).unwrap();
        let read = |typed: &[&str]| {
            let all = std::iter::once(&"muster-worker").chain(typed);
            let matches = crate::cli::with_settings(&found)
                .unwrap()
                .get_matches_from(all);
            settings(Cli::from_arg_matches(&matches).unwrap().worker).unwrap()
        };
        let plain = read(&[]);
        assert_eq!((plain.slots, plain.builtin), (Some(8), true));
        assert_eq!(plain.python.unwrap().modules, ["a", "b"]);
        let typed = read(&["-n", "3", "--python", "c"]);
        assert_eq!(
            (typed.slots, typed.python.unwrap().modules),
            (Some(3), vec!["c".to_owned()])
        );
        std::fs::write(&path, "[worker]\nslotz = 8\n").unwrap();
        let wrong = muster_proto::settings::Settings::read(&path).unwrap();
        assert!(crate::cli::with_settings(&wrong).is_err());
    }

    #[test]
    fn the_flags_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
