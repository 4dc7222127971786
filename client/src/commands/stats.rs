//! `muster stats`: who ran how much, and what takes how long.

use super::{CommandResult, ask_list, connect};
use crate::cli::Common;
use crate::output::Output;
use muster_proto::exit::Exit;
use serde_json::{Value, json};

/// Prints a line per slot and one per method.
pub fn run(common: &Common, out: &mut Output) -> CommandResult {
    let client = connect(common)?;
    let workers = ask_list(&client, "broker.workers", &json!({"slots": true}))?;
    let slots: Vec<Value> = workers
        .iter()
        .flat_map(|(_, worker)| {
            worker["slot_states"]
                .as_array()
                .cloned()
                .unwrap_or_default()
        })
        .collect();
    let sum = |name: &str| {
        slots
            .iter()
            .filter_map(|slot| slot[name].as_f64())
            .sum::<f64>()
    };
    let (all_calls, all_service) = (sum("calls"), sum("service_s"));
    let shares: Vec<Value> = slots
        .iter()
        .map(|slot| {
            let number = |name: &str| slot[name].as_f64().unwrap_or(0.0);
            json!({
                "slot": slot["name"],
                "calls": slot["calls"],
                "share": ratio(number("calls"), all_calls),
                "service_s": slot["service_s"],
                "service_share": ratio(number("service_s"), all_service),
                "service_us": ratio(number("service_s") * 1e6, number("calls")),
                "failures": slot["failures"],
            })
        })
        .collect();
    let methods = ask_list(&client, "broker.methods", &())?;
    if out.json {
        for object in &shares {
            out.line(&object.to_string())?;
        }
        for (_, method) in &methods {
            let object = json!({
                "method": method["name"],
                "workers": method["workers"],
                "slots": method["slots"],
                "queued": method["queued"],
                "service_us": method["service_us"],
            });
            out.line(&object.to_string())?;
        }
        return Ok(Exit::Done);
    }
    let members = [
        "slot",
        "calls",
        "share",
        "service_s",
        "service_share",
        "service_us",
        "failures",
    ];
    let rows: Vec<Vec<Value>> = shares
        .iter()
        .map(|row| members.iter().map(|name| row[*name].clone()).collect())
        .collect();
    let header = [
        "SLOT",
        "CALLS",
        "SHARE",
        "TIME (s)",
        "SHARE",
        "PER CALL (µs)",
        "FAILURES",
    ];
    out.table(&header, &rows)?;
    out.line("")?;
    let members = ["name", "workers", "slots", "queued", "service_us"];
    let rows: Vec<Vec<Value>> = methods
        .iter()
        .map(|(_, row)| members.iter().map(|name| row[*name].clone()).collect())
        .collect();
    out.table(
        &["METHOD", "WORKERS", "SLOTS", "QUEUED", "PER CALL (µs)"],
        &rows,
    )?;
    Ok(Exit::Done)
}

fn ratio(part: f64, whole: f64) -> Value {
    if whole > 0.0 {
        json!(part / whole)
    } else {
        Value::Null
    }
}
