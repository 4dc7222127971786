//! `muster calls`, `explain` and `cancel`: calls one by one.

use super::{CommandResult, ask, ask_list, connect, print_list};
use crate::cli::{CallIdArgs, CallsArgs, Common};
use crate::output::{Output, clean};
use muster_proto::exit::Exit;
use serde_json::{Value, json};

/// Lists calls.
pub fn list(common: &Common, args: &CallsArgs, out: &mut Output) -> CommandResult {
    let mut params = json!({"limit": args.limit});
    let states = [
        (args.running, "running"),
        (args.queued, "queued"),
        (args.failed, "failed"),
        (args.slow, "slow"),
    ];
    if let Some((_, state)) = states.iter().find(|(is_wanted, _)| *is_wanted) {
        params["state"] = json!(state);
    }
    let calls = ask_list(&connect(common)?, "broker.calls", &params)?;
    let columns = [
        ("CALL", "id"),
        ("METHOD", "method"),
        ("STATE", "state"),
        ("SLOT", "slot"),
        ("POSITION", "position"),
        ("AGE (s)", "age_s"),
        ("STARTED", "dispatches"),
        ("ITEMS", "items"),
        ("TO", "to"),
    ];
    print_list(out, &calls, &columns)?;
    Ok(Exit::Done)
}

/// Tells all that is known of one call.
pub fn explain(common: &Common, args: &CallIdArgs, out: &mut Output) -> CommandResult {
    let client = connect(common)?;
    let params = json!({"id": args.id});
    if out.json {
        out.line(client.call("broker.explain", &params)?.text())?;
        return Ok(Exit::Done);
    }
    let call = ask(&client, "broker.explain", &params)?;
    for (name, value) in call.as_object().into_iter().flatten() {
        if value.is_null() {
            continue;
        }
        let name = clean(name).replace('_', " ");
        match value {
            Value::Array(items) if items.iter().any(Value::is_object) => {
                out.line(&format!("{name}:"))?;
                items
                    .iter()
                    .try_for_each(|item| out.line(&format!("  {item}")))?;
            }
            Value::String(text) => out.line(&format!("{name:<12} {}", clean(text)))?,
            value => out.line(&format!("{name:<12} {value}"))?,
        }
    }
    Ok(Exit::Done)
}

/// Cancels one call, whoever made it.
pub fn cancel(common: &Common, args: &CallIdArgs, out: &mut Output) -> CommandResult {
    let answer = ask(&connect(common)?, "broker.cancel", &json!({"id": args.id}))?;
    if out.json {
        out.line(&json!({"id": args.id, "cancelled": answer}).to_string())?;
    } else {
        out.note(&format!("{} is cancelled", args.id));
    }
    Ok(Exit::Done)
}
