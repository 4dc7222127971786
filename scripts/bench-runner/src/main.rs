//! The program behind `scripts/bench`: Muster beside libzmq's own proxy, in one run.
//!
//! Every process of a measurement is this program in another role, or the broker that stands
//! beside it. Both sides are measured in turns, and what counts is the ratio within a round.

mod bench;
mod broker;
mod figure;
mod function;
mod gateway;
mod histogram;
mod plot;
mod report;
mod role;
mod row;

use anyhow::{Context as _, bail};
use bench::Bench;
use clap::{Parser, Subcommand};
use muster_bench::{machine, process, stats};
use report::Report;
use row::{Measured, ROWS};
use std::path::PathBuf;
use std::time::Instant;

/// Measures Muster beside libzmq's zmq_proxy: ratios of interleaved rounds.
#[derive(Debug, Parser)]
#[command(name = "muster-bench", version)]
struct Cli {
    #[command(subcommand)]
    internal: Option<Internal>,

    /// Only this row; may be given several times. Without it, all.
    #[arg(long = "row", value_name = "NAME")]
    rows: Vec<String>,

    /// Fewer and shorter rounds: under a minute in all.
    #[arg(long)]
    quick: bool,

    /// Rounds of each row.
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,

    /// How long each side is loaded in a round, in ms.
    #[arg(long, value_name = "MS")]
    window_ms: Option<u64>,

    /// One object a figure instead of the table.
    #[arg(long)]
    json: bool,

    /// Also writes the figures as a plot.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// The broker's program instead of the one beside this.
    #[arg(long, value_name = "FILE")]
    broker: Option<PathBuf>,

    /// Another broker as the reference of the echo rows, instead of zmq_proxy.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,

    /// Prints the names of the rows.
    #[arg(long)]
    list: bool,
}

#[derive(Debug, Subcommand)]
enum Internal {
    /// Another process of a measurement.
    #[command(hide = true, subcommand)]
    Role(role::Role),
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    if let Some(Internal::Role(role)) = &cli.internal {
        return role.run();
    }
    if cli.list {
        for row in ROWS {
            println!("{}", row.name);
        }
        return Ok(());
    }
    measure(&cli)
}

fn measure(cli: &Cli) -> anyhow::Result<()> {
    if let Some(unknown) = cli
        .rows
        .iter()
        .find(|name| ROWS.iter().all(|row| row.name != *name))
    {
        bail!("no row is named {unknown}; --list prints them");
    }
    let bench = Bench {
        broker: match &cli.broker {
            Some(path) => path.clone(),
            None => process::beside("muster-broker")?,
        },
        against: cli.against.clone(),
        rounds: cli.rounds.unwrap_or(if cli.quick { 5 } else { 15 }).max(1),
        window_ms: cli
            .window_ms
            .unwrap_or(if cli.quick { 150 } else { 500 })
            .max(1),
        is_quick: cli.quick,
    };
    let mut report = Report::new(machine::describe());
    let start = Instant::now();
    for row in ROWS
        .iter()
        .filter(|row| cli.rows.is_empty() || cli.rows.iter().any(|name| name == row.name))
    {
        eprintln!("{:4.0} s  {}", start.elapsed().as_secs_f64(), row.name);
        match (row.run)(&bench).with_context(|| format!("row {}", row.name)) {
            Ok(Measured::Figures(figures)) => report.figures.extend(figures),
            Ok(Measured::Curves(curves)) => report.curves.extend(curves),
            Ok(Measured::Skipped(reason)) => report.skipped.push((row.name.into(), reason)),
            // One row's failure is not the others'.
            Err(error) => report.failed.push((row.name.into(), format!("{error:#}"))),
        }
    }
    if let Some(path) = &cli.svg {
        std::fs::write(path, plot::svg(&report)).with_context(|| path.display().to_string())?;
    }
    if cli.json {
        report.print_json()?;
    } else {
        report.print_table();
    }
    if report.failed.is_empty() {
        Ok(())
    } else {
        bail!("{} rows failed", report.failed.len())
    }
}
