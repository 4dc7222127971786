//! The `muster` program.

mod cli;
mod commands;
mod joblog;
mod output;
mod process;
mod progress;
mod upfile;

use cli::Cli;
use commands::Failure;
use muster_client::Error;
use muster_proto::exit::Exit;
use std::io;

fn main() {
    let env = env_logger::Env::new().filter_or("MUSTER_LOG", "warn");
    env_logger::Builder::from_env(env)
        .format_timestamp(None)
        .format_target(false)
        .init();
    let cli = Cli::read().unwrap_or_else(|error| {
        output::note(&error.to_string());
        std::process::exit(Exit::Usage.number());
    });
    commands::detach::leave_terminal();
    let exit = commands::run(&cli).unwrap_or_else(|failure| report(&cli, &failure));
    std::process::exit(exit.number());
}

/// Says what went wrong, once, and how to go on.
fn report(cli: &Cli, failure: &Failure) -> Exit {
    match failure {
        // `muster map … | head`: whoever read has enough.
        Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return Exit::Done,
        Failure::Ended(exit) => return *exit,
        Failure::Client(Error::Rpc(error)) => commands::report::rpc_error(error),
        failure => output::note(&output::with_causes(failure)),
    }
    if let Failure::Client(Error::NoBroker { .. }) = failure {
        let cluster = cli.common.cluster.as_ref();
        let flag = cluster.map_or(String::new(), |name| format!(" --cluster {name}"));
        let others = commands::live_clusters(&cli.common);
        if !others.is_empty() {
            let names = others.join(", ");
            output::note(&format!(
                "up on this machine: {names}; --cluster chooses one"
            ));
        }
        output::note(&format!("to start one: muster up -n 4{flag}"));
    }
    failure.exit()
}
