//! `muster stats`: who ran how much, and what takes how long.

use super::{CommandResult, ask_list, connect};
use crate::cli::Common;
use crate::output::Output;
use muster_proto::exit::Exit;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::io;

/// Prints a line per worker, per slot and per method.
pub fn run(common: &Common, out: &mut Output) -> CommandResult {
    let client = connect(common)?;
    let workers = ask_list(&client, "broker.workers", &())?;
    let methods = ask_list(&client, "broker.methods", &())?;
    let mut of_workers = Vec::new();
    let mut of_slots = Vec::new();
    for (_, worker) in &workers {
        let slots = worker["slot_states"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        of_workers.push(Part {
            name: worker["name"].clone(),
            calls: worker["calls"].as_u64().unwrap_or(0),
            service_s: slots
                .iter()
                .filter_map(|slot| slot["service_s"].as_f64())
                .sum(),
            failures: worker["failures"].as_u64().unwrap_or(0),
        });
        of_slots.extend(slots.iter().map(Part::read));
    }
    let called: Vec<Part> = methods
        .iter()
        .map(|(_, method): &(Box<RawValue>, Value)| Part::read(method))
        .collect();
    print("worker", &of_workers, out)?;
    print("slot", &of_slots, out)?;
    print("method", &called, out)?;
    Ok(Exit::Done)
}

/// What one worker, slot or method has of the whole.
struct Part {
    name: Value,
    calls: u64,
    service_s: f64,
    failures: u64,
}

impl Part {
    fn read(object: &Value) -> Self {
        Part {
            name: object["name"].clone(),
            calls: object["calls"].as_u64().unwrap_or(0),
            service_s: object["service_s"].as_f64().unwrap_or(0.0),
            failures: object["failures"].as_u64().unwrap_or(0),
        }
    }
}

fn print(kind: &str, parts: &[Part], out: &mut Output) -> io::Result<()> {
    let all: u64 = parts.iter().map(|part| part.calls).sum();
    let share = |part: &Part| (all > 0).then(|| part.calls as f64 / all as f64);
    let each_us = |part: &Part| (part.calls > 0).then(|| part.service_s * 1e6 / part.calls as f64);
    if out.json {
        return parts.iter().try_for_each(|part| {
            let object = json!({
                kind: part.name,
                "calls": part.calls,
                "share": share(part),
                "service_s": part.service_s,
                "service_us": each_us(part),
                "failures": part.failures,
            });
            out.line(&object.to_string())
        });
    }
    if kind != "worker" {
        out.line("")?;
    }
    // Methods that nobody has called say nothing here.
    let told = parts
        .iter()
        .filter(|part| kind != "method" || part.calls > 0);
    let rows: Vec<Vec<Value>> = told
        .map(|part| {
            let percent = share(part).map(|share| format!("{:.1} %", share * 100.0));
            vec![
                part.name.clone(),
                json!(part.calls),
                json!(percent.unwrap_or_else(|| "-".into())),
                json!(part.service_s),
                json!(each_us(part)),
                json!(part.failures),
            ]
        })
        .collect();
    let title = kind.to_uppercase();
    let header = [
        title.as_str(),
        "CALLS",
        "SHARE",
        "TIME (s)",
        "PER CALL (µs)",
        "FAILURES",
    ];
    out.table(&header, &rows)
}
