//! The program `muster-broker`.

use anyhow::Context as _;
use clap::CommandFactory;
use log::{error, info, warn};
use muster_broker::cli::Cli;
use muster_broker::clock::Clock;
use muster_broker::config::{self, Fit, Listen, Security};
use muster_broker::desk::About;
use muster_broker::door::{Doors, Identity};
use muster_broker::events::Events;
use muster_broker::frontend::Frontend;
use muster_broker::keyring::{Keyring, KeyringError};
use muster_broker::known::KnownMethods;
use muster_broker::lanes::Lanes;
use muster_broker::logging;
use muster_broker::memory;
use muster_broker::room::Room;
use muster_broker::server::{Leave, Parts, Server};
use muster_broker::workers::{Ids, Workers};
use muster_broker::zap;
use muster_core::Core;
use muster_proto::exit::Exit;
use muster_proto::id::Epoch;
use muster_proto::parent::end_with_parent;
use muster_proto::runtime::{RuntimeDir, RuntimeError, state_dir};
use muster_proto::socket::{Context, Nonce, Wake, raise_file_limit, random_bytes};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// libzmq's threads: one for this machine's own sockets, one for whoever comes over TCP.
const IO_THREADS: usize = 2;

fn main() -> ExitCode {
    end_on_panic();
    end_with_parent();
    if let Some(exit) = muster_manual::answer(Cli::command()) {
        return exit;
    }
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => {
            eprintln!("muster-broker: {error}");
            return ExitCode::from(Exit::Usage.number() as u8);
        }
    };
    logging::init();
    let exit = match serve(&cli) {
        Ok(exit) => exit,
        Err(error) => {
            error!("{error:#}");
            exit_of(&error)
        }
    };
    ExitCode::from(exit.number() as u8)
}

/// Ends the process when any of its threads panics, before anything is unwound: half a broker would
/// take calls that it can't answer. Whoever started it starts another; workers and clients come back.
fn end_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::abort();
    }));
}

fn exit_of(error: &anyhow::Error) -> Exit {
    let is_usage = error.downcast_ref::<config::ConfigError>().is_some()
        || matches!(error.downcast_ref(), Some(RuntimeError::BadName(_)));
    if is_usage { Exit::Usage } else { Exit::Failed }
}

fn serve(cli: &Cli) -> anyhow::Result<Exit> {
    let clock = Clock::start();
    let (before, files_max) = raise_file_limit();
    let listen = config::listen(cli)?;
    let dir = RuntimeDir::locate(&cli.cluster, cli.runtime_dir.as_deref())?;
    let context = Context::new(IO_THREADS).context("ZeroMQ")?;
    let sockets_max = context.sockets_max();
    info!("at most {files_max} open files (was {before}) and {sockets_max} sockets");
    let servers = config::servers(cli)?;
    let leave = leave_on_signals()?;
    let room = Room::new(cli.connections_max, files_max);
    let keyring = keyring(cli, &listen, &context, room)?;
    let disconnect = Nonce::random().context("random bytes")?;
    let system = rustix::system::uname();
    let identity = Identity {
        host: &system.nodename().to_string_lossy(),
        started: clock.started(),
        advertise: cli.advertise.as_deref(),
        disconnect,
        keyring: keyring.as_ref(),
    };
    let doors = Doors::open(&context, &dir, &listen, &identity)?;
    room.bound_listeners();
    let (known, names) = KnownMethods::load(dir.path().join("methods.json"));
    let epoch = Epoch(u64::from_be_bytes(random_bytes().context("random bytes")?));
    let seed = u64::from_be_bytes(random_bytes().context("random bytes")?);
    doors.announce()?;
    tell_addresses(&doors);
    if let (Some(keyring), Some(remote)) = (&keyring, &doors.remote) {
        for path in keyring.write_role_files(remote)? {
            info!("connection file for other machines: {}", path.display());
        }
    }
    let Doors {
        frontend,
        workers,
        events,
        splice,
        keyed_backends,
        keyed_events,
        local,
        remote,
        ..
    } = doors;
    let mut lanes =
        Lanes::new(&context, splice, keyring.clone(), keyed_backends).context("stock workers")?;
    for server in servers {
        lanes.add(server)?;
    }
    let fit = fit(cli);
    let config = config::core_config(cli, fit, epoch);
    let mut core = Core::new(config, seed, clock.now(), names.registered);
    core.expect_of_lanes(names.served_by_lanes);
    let mut server = Server::new(Parts {
        core,
        clock,
        frontend: Frontend::new(
            frontend,
            disconnect,
            config::frontend_config(cli, fit),
            keyring.clone(),
        ),
        workers: Workers::new(
            workers,
            disconnect,
            epoch,
            Ids {
                keyless_tcp: remote.is_some() && keyring.is_none(),
                ..Ids::default()
            },
            keyring.clone(),
        ),
        events: Events::new(events, keyed_events),
        lanes,
        about: About {
            local,
            remote,
            epoch: format!("{:016x}", epoch.0),
        },
        leave: leave.clone(),
        grace: cli.grace,
        known,
        keyring,
        room,
    });
    server.run().context("serving")?;
    let stopped = leave.asked.load(Ordering::Relaxed) > 1;
    info!("{}", if stopped { "stopped" } else { "left" });
    Ok(Exit::Done)
}

fn tell_addresses(doors: &Doors) {
    info!(
        "serving cluster {}: {}",
        doors.local.name, doors.local.frontend
    );
    let Some(remote) = &doors.remote else { return };
    let addresses = [
        ("clients", &remote.frontend),
        ("stock workers", &remote.backend),
        ("managed workers", &remote.workers),
        ("events", &remote.events),
    ];
    for (who, endpoint) in addresses {
        if !endpoint.is_empty() {
            info!("{who} at {endpoint}");
        }
    }
}

/// The caps, smaller than those of the flags where the system gives this process little memory.
fn fit(cli: &Cli) -> Fit {
    let memory_max = memory::limit_bytes();
    let fit = Fit::new(cli, memory_max);
    if let Some(max) = memory_max
        && fit != Fit::new(cli, None)
    {
        warn!(
            "this process may have {} MiB of memory: at most {} calls of {} MiB together may wait",
            max >> 20,
            fit.queued_calls_max,
            fit.queued_bytes_max >> 20
        );
    }
    fit
}

/// The keys and the thread that judges by them, when some door asks for keys.
fn keyring(
    cli: &Cli,
    listen: &Listen,
    context: &Context,
    room: Room,
) -> anyhow::Result<Option<Keyring>> {
    match listen.security(cli) {
        Security::Keys if !listen.is_open() => return Ok(None),
        Security::Keys => {}
        Security::KeylessLoopback => {
            warn!("TCP on loopback without keys: every user of this machine can call (--curve)");
            return Ok(None);
        }
        Security::Keyless => {
            warn!(
                "--insecure: whoever reaches this address can call every function, join as a \
                 worker and read what passes, without a key and unseen"
            );
            return Ok(None);
        }
    }
    let dir = state_dir(&cli.cluster).ok_or(KeyringError::NoHome)?;
    let keyring = Keyring::open(&dir)?;
    zap::start(context, keyring.clone(), room).context("ZAP handler")?;
    Ok(Some(keyring))
}

/// The first signal asks the loop to drain, the second to stop.
fn leave_on_signals() -> anyhow::Result<Leave> {
    let leave = Leave {
        asked: Arc::new(AtomicU32::new(0)),
        wake: Wake::new().context("eventfd")?,
    };
    let heard = leave.clone();
    ctrlc::set_handler(move || {
        heard.asked.fetch_add(1, Ordering::Relaxed);
        heard.wake.wake();
    })
    .context("signals")?;
    Ok(leave)
}
