//! Runs targets by hand for as long as one likes:
//! `muster-fuzz [--runs N] [--seed N] [TARGET…]`, N for each target.

use muster_fuzz::mutator::{corpus, run};
use muster_fuzz::target::ALL;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let (mut runs, mut seed, mut wanted) = (1_000_000, 1, Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let place = match arg.as_str() {
            "--runs" => &mut runs,
            "--seed" => &mut seed,
            _ => {
                wanted.push(arg);
                continue;
            }
        };
        match args.next().and_then(|text| text.parse::<u64>().ok()) {
            Some(number) => *place = number,
            None => return usage(&format!("{arg} takes a number")),
        }
    }
    if let Some(unknown) = wanted
        .iter()
        .find(|name| ALL.iter().all(|(known, _)| known != name))
    {
        return usage(&format!("no target is named {unknown}"));
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut total = 0;
    for target in ALL {
        if !wanted.is_empty() && wanted.iter().all(|name| name != target.0) {
            continue;
        }
        let inputs = match corpus(&folder.join(target.0)) {
            Ok(inputs) => inputs,
            Err(error) => return usage(&format!("corpus of {}: {error}", target.0)),
        };
        let start = Instant::now();
        let executions = run(*target, &inputs, runs, seed);
        total += executions;
        let seconds = start.elapsed().as_secs_f64();
        println!("{}: {executions} executions in {seconds:.1} s", target.0);
    }
    println!("{total} executions, 0 crashes, 0 hangs");
    ExitCode::SUCCESS
}

fn usage(reason: &str) -> ExitCode {
    eprintln!("muster-fuzz: {reason}");
    eprintln!("usage: muster-fuzz [--runs N] [--seed N] [TARGET…]");
    ExitCode::from(2)
}
