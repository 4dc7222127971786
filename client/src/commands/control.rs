//! `muster drain`, `scale`, `reload` and `worker`: the pool's shape.

use super::{CommandResult, Failure, ask, connect};
use crate::cli::{Common, DrainArgs, ReloadArgs, ScaleArgs, WorkerCommand};
use crate::output::{Output, counted};
use muster_proto::exit::Exit;
use serde_json::{Value, json};

/// Lets a worker finish and leave.
pub fn drain(common: &Common, args: &DrainArgs, out: &mut Output) -> CommandResult {
    let told = ask(
        &connect(common)?,
        "broker.drain",
        &json!({"worker": args.worker}),
    )?;
    report(&told, "drains", out)
}

/// Sets a worker's number of slots.
pub fn scale(common: &Common, args: &ScaleArgs, out: &mut Output) -> CommandResult {
    let (worker, slots) = match args.words.as_slice() {
        [worker, slots] => (Some(worker), slots),
        [slots] => (None, slots),
        _ => unreachable!("clap takes one or two"),
    };
    let slots: u32 = slots
        .parse()
        .map_err(|_| Failure::Usage(format!("{slots} is no number of slots")))?;
    let mut params = json!({"slots": slots});
    if let Some(worker) = worker {
        params["worker"] = json!(worker);
    }
    let told = ask(&connect(common)?, "broker.scale", &params)?;
    report(&told, &format!("goes to {}", counted(slots, "slot")), out)
}

/// Has workers read their files again.
pub fn reload(common: &Common, args: &ReloadArgs, out: &mut Output) -> CommandResult {
    let params = args
        .worker
        .as_ref()
        .map_or_else(|| json!({}), |name| json!({"worker": name}));
    let told = ask(&connect(common)?, "broker.reload", &params)?;
    report(&told, "reloads", out)
}

/// Adds or removes a REP server.
pub fn worker(common: &Common, command: &WorkerCommand, out: &mut Output) -> CommandResult {
    let client = connect(common)?;
    let (method, params) = match command {
        WorkerCommand::Add { server, methods } if methods.is_empty() => {
            ("broker.add_worker", json!({"endpoint": server}))
        }
        WorkerCommand::Add { server, methods } => (
            "broker.add_worker",
            json!({"endpoint": server, "methods": methods}),
        ),
        WorkerCommand::Remove { server } => ("broker.remove_worker", json!({"endpoint": server})),
    };
    let answer = client.call(method, &params)?;
    if out.json {
        out.line(answer.text())?;
    }
    Ok(Exit::Done)
}

/// The names of the workers that were told.
fn report(told: &Value, what: &str, out: &mut Output) -> CommandResult {
    let names: Vec<&str> = told
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for name in &names {
        if out.json {
            out.line(&json!({"worker": name}).to_string())?;
        } else {
            out.note(&format!("{name} {what}"));
        }
    }
    if names.is_empty() {
        out.note("no managed worker is there");
        return Ok(Exit::Unavailable);
    }
    Ok(Exit::Done)
}
