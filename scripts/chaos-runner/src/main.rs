//! The program behind `scripts/chaos`: a real cluster under load, whose processes are killed,
//! stopped and started again while every answer is checked.
//!
//! Every process of a run is this program in another role, or one of Muster's own programs beside
//! it. Clients write down what they asked for and what they were told; the judge reads nothing
//! else. The same seed draws the same calls, victims and pauses; what meets what in time is up to
//! the machine.

mod check;
mod clock;
mod cluster;
mod flood;
mod log;
mod redispatch;
mod report;
mod rng;
mod role;
mod starts;
mod storm;
mod work;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use cluster::{Cluster, Kind, Plan};
use report::Report;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use storm::Storm;

/// Kills, stops and restarts a real cluster under load and checks every answer.
///
/// Ends with 1 when a call was lost, answered twice or wrongly, got stuck, or ran twice though it
/// must not.
#[derive(Debug, Parser)]
#[command(name = "muster-chaos", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Judges the clients' logs that an earlier run left in a folder.
    Check {
        /// The folder of --keep.
        folder: PathBuf,
        /// One JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Measures what one client's flood costs another client, and the broker's memory.
    Flood(flood::FloodArgs),
    /// Another process of a run.
    #[command(hide = true, subcommand)]
    Role(role::Role),
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// Calls that have to end.
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    calls: u64,
    /// What calls, victims and times are drawn from.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Calls a second, of all clients together.
    #[arg(long, default_value_t = 800.0, value_name = "N")]
    rate: f64,
    /// Client processes; every other one is a bare DEALER, the others use the client library.
    #[arg(long, default_value_t = 4, value_name = "N")]
    clients: usize,
    /// Calls of one client at once.
    #[arg(long, default_value_t = 16, value_name = "N")]
    in_flight: usize,
    /// Workers made with the worker library, two slots each.
    #[arg(long, default_value_t = 2, value_name = "N")]
    libraries: usize,
    /// muster-worker programs with a Python module, two slots each.
    #[arg(long, default_value_t = 1, value_name = "N")]
    programs: usize,
    /// Stock REP workers.
    #[arg(long, default_value_t = 3, value_name = "N")]
    lanes: usize,
    /// SIGKILLs of workers or their children a second.
    #[arg(long, default_value_t = 5.0, value_name = "N")]
    worker_kills: f64,
    /// SIGSTOPs of workers or their children a second.
    #[arg(long, default_value_t = 1.0, value_name = "N")]
    worker_stops: f64,
    /// SIGKILLs of clients a second.
    #[arg(long, default_value_t = 1.0, value_name = "N")]
    client_kills: f64,
    /// SIGKILLs of the broker a second, each with a new broker at once.
    #[arg(long, default_value_t = 0.1, value_name = "N")]
    broker_kills: f64,
    /// Seconds that a client waits for an answer before the call counts as stuck.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    patience: u64,
    /// How often the holder of a call is killed afterwards, for each kind of worker; 0: never.
    #[arg(long, default_value_t = 20, value_name = "N")]
    rounds: usize,
    /// Leaves logs in this folder, which is made.
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// As a shell reports an end by Ctrl-C.
const INTERRUPTED: u8 = 130;

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Role(role)) => role.run().map(|()| ExitCode::SUCCESS),
        Some(Command::Check { folder, json }) => {
            let verdict = check::folder(&folder)?;
            match json {
                true => println!("{}", serde_json::to_string(&verdict)?),
                false => println!("{verdict:#?}"),
            }
            Ok(ended(verdict.is_clean()))
        }
        Some(Command::Flood(args)) => {
            let interrupted = interrupts()?;
            let folder = temporary()?;
            let Some(flooded) = flood::measure(&args, folder.path(), &interrupted)? else {
                return Ok(INTERRUPTED.into());
            };
            match args.json {
                true => println!("{}", serde_json::to_string(&flooded)?),
                false => flooded.print(),
            }
            Ok(ended(flooded.is_whole()))
        }
        None => run(&cli.run),
    }
}

fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let interrupted = interrupts()?;
    let temporary = temporary()?;
    let folder = match &args.keep {
        Some(folder) => {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            std::path::absolute(folder)?
        }
        None => temporary.path().to_owned(),
    };
    let Some(report) = report(args, &folder, temporary.path(), &interrupted)? else {
        eprintln!("interrupted");
        return Ok(INTERRUPTED.into());
    };
    match args.json {
        true => println!("{}", serde_json::to_string(&report)?),
        false => report.print(),
    }
    Ok(ended(report.is_clean()))
}

/// `None`: interrupted.
fn report(
    args: &RunArgs,
    folder: &Path,
    temporary: &Path,
    interrupted: &AtomicBool,
) -> anyhow::Result<Option<Report>> {
    let plan = Plan {
        libraries: args.libraries,
        programs: args.programs,
        lanes: args.lanes,
    };
    let storm = Storm {
        seed: args.seed,
        calls: args.calls,
        rate: args.rate,
        clients: args.clients,
        in_flight: args.in_flight,
        patience: Duration::from_secs(args.patience),
        worker_kills: args.worker_kills,
        worker_stops: args.worker_stops,
        client_kills: args.client_kills,
        broker_kills: args.broker_kills,
    };
    let machine = muster_bench::machine::describe();
    let mut cluster = Cluster::start(folder, plan)?;
    if !args.json {
        println!("{}", report::describe(&cluster));
    }
    let start = Instant::now();
    let Some(faults) = storm::rage(&storm, &mut cluster, interrupted)? else {
        return Ok(None);
    };
    let seconds = start.elapsed().as_secs_f64();
    let whole_after = whole(&mut cluster, plan)?;
    let left_over = cluster.stop()?;
    let verdict = check::folder(folder)?;
    let (retried, ran_twice) = report::repeats(&storm, &starts::read(folder)?);
    let mut redispatch = Vec::new();
    for (kind, count) in [
        (Kind::Library, args.libraries),
        (Kind::Program, args.programs),
        (Kind::Lane, args.lanes),
    ] {
        if args.rounds > 0 && count > 0 {
            let folder = temporary.join(format!("{kind:?}"));
            std::fs::create_dir(&folder)?;
            match redispatch::measure(&folder, kind, args.rounds, interrupted)? {
                Some(found) => redispatch.push(found),
                None => return Ok(None),
            }
        }
    }
    Ok(Some(Report {
        seed: args.seed,
        seconds,
        faults,
        verdict,
        retried,
        ran_twice,
        whole_after_s: whole_after.as_secs_f64(),
        left_over,
        redispatch,
        machine,
    }))
}

/// Waits until every worker is back.
fn whole(cluster: &mut Cluster, plan: Plan) -> anyhow::Result<Duration> {
    let start = Instant::now();
    while cluster.members.iter().any(|member| member.pid().is_none()) {
        cluster.tend()?;
        std::thread::sleep(Duration::from_millis(5));
    }
    cluster.await_slots(plan.slots(), Duration::from_secs(60))?;
    Ok(start.elapsed())
}

/// Set by Ctrl-C and by SIGTERM.
fn interrupts() -> anyhow::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)).context("signals")?;
    Ok(interrupted)
}

/// A short name: the paths of sockets have a limit.
fn temporary() -> anyhow::Result<tempfile::TempDir> {
    Ok(tempfile::Builder::new().prefix("mc").tempdir()?)
}

fn ended(is_clean: bool) -> ExitCode {
    ExitCode::from(u8::from(!is_clean))
}
