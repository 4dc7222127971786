//! `muster workers`: who is there.

use super::{CommandResult, ask_list, connect, print_list};
use crate::cli::{Common, WorkersArgs};
use crate::output::Output;
use muster_proto::exit::Exit;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

/// Lists the workers, or their slots.
pub fn run(common: &Common, args: &WorkersArgs, out: &mut Output) -> CommandResult {
    let client = connect(common)?;
    let mut workers = ask_list(&client, "broker.workers", &json!({"slots": args.slots}))?;
    if args.slots {
        let mut slots = Vec::new();
        for (_, worker) in &workers {
            for slot in worker["slot_states"].as_array().into_iter().flatten() {
                let mut slot = slot.clone();
                slot["worker"] = worker["name"].clone();
                slot["kind"] = worker["kind"].clone();
                slot["host"] = worker["host"].clone();
                slots.push((to_raw_value(&slot).expect("a value is JSON"), slot));
            }
        }
        let columns = [
            ("SLOT", "name"),
            ("STATE", "state"),
            ("KIND", "kind"),
            ("HOST", "host"),
            ("PID", "pid"),
            ("IN FLIGHT", "in_flight"),
            ("CALLS", "calls"),
            ("FAILURES", "failures"),
            ("CALL", "call"),
        ];
        print_list(out, &slots, &columns)?;
        return Ok(Exit::Done);
    }
    for (_, worker) in &mut workers {
        let count = worker["methods"].as_array().map(Vec::len);
        worker["method_count"] = count.map_or(Value::Null, Value::from);
    }
    let columns = [
        ("WORKER", "name"),
        ("KIND", "kind"),
        ("STATE", "state"),
        ("SLOTS", "slots"),
        ("IN FLIGHT", "in_flight"),
        ("CALLS", "calls"),
        ("FAILURES", "failures"),
        ("METHODS", "method_count"),
        ("HOST", "host"),
        ("PID", "pid"),
        ("ADDRESS", "address"),
    ];
    print_list(out, &workers, &columns)?;
    Ok(Exit::Done)
}
