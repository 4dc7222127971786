//! Maps and single calls beside Python's own pools.

use super::{Measured, pool::Managed};
use crate::bench::Bench;
use crate::broker::Broker;
use crate::figure::{Aim, Figure};
use crate::process::{self, RoleProcess};
use crate::stats::Summary;
use anyhow::{Context as _, ensure};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// `muster map` of a Rust function, against `multiprocessing.Pool(4).map`.
pub fn map(bench: &Bench) -> anyhow::Result<Measured> {
    let muster = process::beside("muster")?;
    let Some(python) = interpreter() else {
        return Ok(Measured::Skipped("python3 is not there".into()));
    };
    let count: u64 = bench.amount(1_000_000, 200_000);
    let folder = tempfile::tempdir()?;
    let (lines, results) = (folder.path().join("in"), folder.path().join("out"));
    let mut file = BufWriter::new(File::create(&lines)?);
    for line in 0..count {
        writeln!(file, "{line}")?;
    }
    file.flush()?;
    let pool = Managed::start(&bench.broker, 4, 1)?;
    let mut pools = Pools::start(&python, None)?;
    let bench = Bench {
        rounds: bench.amount(bench.rounds, 3),
        ..bench.clone()
    };
    let rounds = bench.interleaved(false, |_, side| {
        if side == 1 {
            return pools.seconds("pool-map", count);
        }
        let start = Instant::now();
        let status = Command::new(&muster)
            .args(["map", "square", "--no-progress", "--connection"])
            .arg(pool.broker.connection_path())
            .arg(&lines)
            .stdout(File::create(&results)?)
            .status()?;
        let elapsed = start.elapsed().as_secs_f64();
        ensure!(status.success(), "muster map: {status}");
        let text = fs::read_to_string(&results)?;
        let last = (count - 1) * (count - 1);
        ensure!(text.lines().count() as u64 == count, "lines are missing");
        ensure!(
            text.ends_with(&format!("{last}\n")),
            "the last line is wrong"
        );
        Ok(elapsed)
    })?;
    Ok(Measured::Figures(vec![rate(
        "map",
        format!("muster map of x*x in Rust over {count} lines, started each time"),
        "items/s ÷ multiprocessing.Pool(4).map",
        Aim::AtLeast(1.0),
        count,
        &rounds,
    )]))
}

/// The Python package, against the pools of the standard library.
pub fn pools(bench: &Bench) -> anyhow::Result<Measured> {
    let Some(python) = interpreter() else {
        return Ok(Measured::Skipped("python3 is not there".into()));
    };
    let python = match environment(&python) {
        Ok(python) => python,
        Err(error) => return Ok(Measured::Skipped(format!("{error:#}"))),
    };
    let worker = process::beside("muster-worker")?;
    let broker = Broker::start(&bench.broker, &[])?;
    let path = broker.connection_path().to_str().context("a path")?;
    let square = scripts().join("square.py");
    let text = |path: &Path| path.to_str().map(str::to_owned).context("a path");
    let (worker, square, interpreter) = (text(&worker)?, text(&square)?, text(&python)?);
    let _worker = RoleProcess::launch(&[
        "keeper",
        "--",
        &worker,
        "--connection",
        path,
        "-n",
        "4",
        "--python",
        &square,
        "--interpreter",
        &interpreter,
    ])?;
    broker.await_slots(4, Duration::from_secs(30))?;
    let mut pools = Pools::start(&python, Some(broker.connection_path()))?;
    let bench = Bench {
        rounds: bench.amount(bench.rounds.min(9), 2),
        ..bench.clone()
    };
    let (items, calls) = (
        bench.amount(1_000_000, 100_000),
        bench.amount(20_000, 5_000),
    );
    let mut figures = Vec::new();
    for (ours, theirs, count, work, measure, aim) in [
        (
            "hosted-map",
            "pool-map",
            items,
            "pool.map of a hosted Python function",
            "items/s ÷ multiprocessing.Pool(4).map",
            Aim::AtLeast(0.7),
        ),
        (
            "shipped-map",
            "pool-map",
            items,
            "pool.map of a shipped Python function",
            "items/s ÷ multiprocessing.Pool(4).map",
            Aim::AtLeast(1.0),
        ),
        (
            "hosted-submit",
            "pool-apply",
            calls,
            "single calls in flight from Python",
            "calls/s ÷ Pool(4).apply_async",
            Aim::AtLeast(1.0),
        ),
        (
            "shipped-submit",
            "pool-apply",
            calls,
            "single calls of a shipped function in flight",
            "calls/s ÷ Pool(4).apply_async",
            Aim::AtLeast(1.0),
        ),
        (
            "hosted-submit",
            "executor-submit",
            calls,
            "single calls in flight from Python",
            "calls/s ÷ ProcessPoolExecutor(4).submit",
            Aim::None,
        ),
        (
            "hosted-array",
            "raw-array",
            bench.amount(10, 2),
            "64 MB numpy arrays there and back, one after the other",
            "round trips/s ÷ two pyzmq sockets with copy=False",
            Aim::AtLeast(1.0 / 1.3),
        ),
    ] {
        let rounds =
            bench.interleaved(false, |_, side| pools.seconds([ours, theirs][side], count))?;
        let work = format!("{work}, {count}");
        figures.push(rate("python", work, measure, aim, count, &rounds));
    }
    Ok(Measured::Figures(figures))
}

fn rate(
    row: &str,
    work: String,
    measure: &str,
    aim: Aim,
    count: u64,
    rounds: &[[f64; 2]],
) -> Figure {
    let ratios: Vec<f64> = rounds.iter().map(|[ours, theirs]| theirs / ours).collect();
    let column = |at: usize| {
        let rates = rounds.iter().map(|round| count as f64 / round[at]);
        Some(Summary::of(&rates.collect::<Vec<_>>()))
    };
    Figure {
        row: row.into(),
        work,
        measure: measure.into(),
        value: Summary::of(&ratios),
        aim,
        muster: column(0),
        reference: column(1),
        unit: "items/s".into(),
        rounds: rounds.len(),
        note: String::new(),
    }
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python")
}

fn interpreter() -> Option<PathBuf> {
    let python = PathBuf::from("python3");
    let found = Command::new(&python)
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    found.is_ok_and(|status| status.success()).then_some(python)
}

/// A virtual environment of the benchmark's own with the package in it, made once.
fn environment(python: &Path) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own
        .parent()
        .context("this program's folder")?
        .join("bench-python");
    let inner = folder.join("bin/python");
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../client/python");
    let run = |command: &mut Command| -> anyhow::Result<()> {
        let output = command.stdin(Stdio::null()).output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command:?}: {}", text.trim());
        Ok(())
    };
    let has_package = Command::new(&inner)
        .args(["-c", "import muster, cloudpickle, numpy"])
        .stderr(Stdio::null())
        .status();
    if !has_package.is_ok_and(|status| status.success()) {
        run(Command::new(python).args(["-m", "venv"]).arg(&folder))?;
        // Editable: what is measured is what is in the repository now.
        let install = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "cloudpickle",
            "numpy",
            "--editable",
        ];
        run(Command::new(&inner).args(install).arg(package))?;
    }
    Ok(inner)
}

/// The interpreter with all pools in it.
struct Pools {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Pools {
    fn start(python: &Path, connection: Option<&Path>) -> anyhow::Result<Self> {
        let own = std::env::current_exe()?;
        let mut child = Command::new(python)
            .arg(scripts().join("pools.py"))
            .args(connection)
            .env("MUSTER_BIN", own.parent().context("this program's folder")?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("piped above")?);
        let mut pools = Pools {
            child,
            input,
            output,
        };
        ensure!(pools.hear()? == "ready", "the Python pools do not come up");
        Ok(pools)
    }

    fn seconds(&mut self, what: &str, count: u64) -> anyhow::Result<f64> {
        let input = self.input.as_mut().context("open until the end")?;
        writeln!(input, "{what} {count}")?;
        self.hear()?
            .parse()
            .with_context(|| format!("seconds of {what}"))
    }

    fn hear(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        ensure!(
            self.output.read_line(&mut line)? > 0,
            "the Python pools ended"
        );
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Pools {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.wait();
    }
}
