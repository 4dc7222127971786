//! What was typed, checked: every complaint names its flag.

use crate::cli::WorkerArgs;
use muster_proto::limits;
use muster_worker::program::Settings;
use muster_worker::{BrokerAddress, CommandModes, PythonSource, RepServers};
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
    let wrong = |flag, reason: String| Err(ConfigError { flag, reason });
    if let Some(slots) = args
        .slots
        .filter(|n| !(1..=limits::WORKER_SLOTS_MAX).contains(n))
    {
        return wrong(
            "--slots",
            format!("{slots} is not from 1 to {}", limits::WORKER_SLOTS_MAX),
        );
    }
    if let Some(name) = &args.name {
        let is_plain = name.chars().all(|c| !c.is_control() && c != '/');
        if name.is_empty() || name.len() > limits::WORKER_NAME_BYTES_MAX || !is_plain {
            let max = limits::WORKER_NAME_BYTES_MAX;
            return wrong(
                "--name",
                format!("from 1 to {max} printable characters, no /"),
            );
        }
    }
    let Ok(grace) = Duration::try_from_secs_f64(args.grace) else {
        return wrong("--grace", format!("{} is no number of seconds", args.grace));
    };
    if args.python.is_empty() && !args.prefix.is_empty() {
        return wrong("--prefix", "there is no --python to put it on".into());
    }
    if let Some(init) = &args.init {
        let is_named = init
            .rsplit_once(':')
            .is_some_and(|(module, function)| !module.is_empty() && !function.is_empty());
        if !is_named {
            return wrong("--init", format!("{init} is not MODULE:FUNCTION"));
        }
        if args.python.is_empty() && !args.allow_apply {
            return wrong("--init", "there is no --python it could prepare".into());
        }
    }
    if args.commands.is_empty() && (args.stdin || args.command_json) {
        let flag = if args.stdin {
            "--stdin"
        } else {
            "--command-json"
        };
        return wrong(flag, "there is no --command it could be for".into());
    }
    let address = match (args.connect, args.connection) {
        (Some(frontend), _) => BrokerAddress::Frontend(frontend),
        (None, Some(file)) => BrokerAddress::File(file),
        (None, None) => BrokerAddress::Cluster {
            name: args.cluster,
            runtime_dir: args.runtime_dir,
        },
    };
    let rep = match RepServers::parse(&args.rep) {
        Ok(rep) => rep,
        Err(error) => return wrong("--rep", error.to_string()),
    };
    if rep.is_some() {
        // Of the user's settings: what is typed beside it is refused.
        args.python.clear();
        args.allow_apply = false;
        args.commands.clear();
        args.builtin = false;
    }
    let has_python = !args.python.is_empty() || args.allow_apply;
    let builtin = args.builtin || (!has_python && args.commands.is_empty() && rep.is_none());
    let python = has_python.then_some(PythonSource {
        modules: args.python,
        prefix: args.prefix,
        interpreter: args.interpreter,
        init: args.init,
        allow_apply: args.allow_apply,
        environ: environ_of(&address),
    });
    Ok(Settings {
        address,
        slots: args.slots,
        name: args.name,
        builtin,
        python,
        commands: args.commands,
        modes: CommandModes {
            stdin: args.stdin,
            json: args.command_json,
        },
        once: args.once,
        plain: args.plain,
        rep,
        grace,
    })
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
    fn complaints_name_their_flag() {
        for (flags, flag) in [
            (&["-n", "0"][..], "--slots"),
            (&["--name", "a/b"], "--name"),
            (&["--grace=-1"], "--grace"),
            (&["--prefix", "x."], "--prefix"),
            (&["--stdin"], "--stdin"),
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
