//! `muster calls`, `explain` and `cancel`: calls one by one.

use super::events::time_of_day;
use super::{CommandResult, ask, ask_list, connect, print_list, report};
use crate::cli::{CallIdArgs, CallsArgs, Common};
use crate::output::{Output, clean, counted};
use muster_proto::exit::Exit;
use serde_json::value::RawValue;
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
    if args.failed || args.slow {
        return print_ended(&calls, out);
    }
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

/// Calls that have ended, each with what went wrong.
fn print_ended(calls: &[(Box<RawValue>, Value)], out: &mut Output) -> CommandResult {
    let told: Vec<(Box<RawValue>, Value)> = calls
        .iter()
        .map(|(raw, call)| {
            let mut call = call.clone();
            let ended_s = call["ended_ms"].as_f64().unwrap_or(0.0) / 1e3;
            call["ended"] = json!(time_of_day(ended_s));
            call["what"] = match (&call["error"], call["error"]["message"].as_str()) {
                (Value::Null, _) => Value::Null,
                (error, message) => {
                    json!(format!(
                        "{} ({})",
                        message.unwrap_or("error"),
                        error["code"]
                    ))
                }
            };
            (raw.clone(), call)
        })
        .collect();
    let columns = [
        ("CALL", "id"),
        ("METHOD", "method"),
        ("STATE", "state"),
        ("SLOT", "slot"),
        ("TOOK (s)", "took_s"),
        ("STARTED", "dispatches"),
        ("ENDED", "ended"),
        ("ERROR", "what"),
    ];
    print_list(out, &told, &columns)?;
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
    explanation(&call)
        .iter()
        .try_for_each(|line| out.line(line))?;
    Ok(Exit::Done)
}

/// A call's place and reasons, line by line.
fn explanation(call: &Value) -> Vec<String> {
    let text = |value: &Value| clean(value.as_str().unwrap_or("-"));
    let seconds = |member: &str| call[member].as_f64();
    let mut lines = Vec::new();
    let mut line = |name: &str, text: String| lines.push(format!("{name:<10} {text}"));
    line("call", text(&call["id"]));
    let method = call["method"].as_str().map_or("(raw)".into(), clean);
    let to = call["to"]
        .as_str()
        .map_or(String::new(), |to| format!(", for {} alone", clean(to)));
    line("method", format!("{method}{to}"));
    let slot = call["slot"]
        .as_str()
        .map_or(String::new(), |slot| format!(" on {}", clean(slot)));
    line(
        "state",
        format!("{}{slot}: {}", text(&call["state"]), text(&call["why"])),
    );
    if let Some(age_s) = seconds("age_s") {
        let dispatched = seconds("dispatched_s");
        let there = dispatched.map_or(String::new(), |s| format!(", at its slot for {s:.3} s"));
        line("age", format!("{age_s:.3} s{there}"));
    }
    if let Some(took_s) = seconds("took_s") {
        let ended = time_of_day(call["ended_ms"].as_f64().unwrap_or(0.0) / 1e3);
        line("took", format!("{took_s:.3} s, until {ended}"));
    }
    if let Some(position) = call["position"].as_u64() {
        let waiting = &call["waiting"];
        let of =
            format!("{position} of its client's calls go before it; {waiting} wait for the same");
        line("position", of);
    }
    if let Some(left) = seconds("deadline_in_s") {
        line("deadline", format!("in {left:.3} s"));
    }
    if let Some(left) = seconds("retry_in_s") {
        line("retry", format!("in {left:.3} s"));
    }
    let starts = counted(call["dispatches"].as_u64().unwrap_or(0), "time");
    match (call["charged"].as_u64(), call["attempts_max"].as_u64()) {
        (Some(charged), Some(max)) => {
            line(
                "attempts",
                format!("started {starts}, {charged} of {max} attempts lost"),
            );
        }
        _ => line("attempts", format!("started {starts}")),
    }
    for attempt in call["attempts"].as_array().into_iter().flatten() {
        line("", report::attempt(attempt));
        report::last_words(attempt).for_each(|words| line("", words));
    }
    let workers = call["workers"].as_array().into_iter().flatten();
    for (at, worker) in workers.enumerate() {
        let name = if at == 0 { "workers" } else { "" };
        line(
            name,
            format!("{}: {}", text(&worker["worker"]), text(&worker["why"])),
        );
    }
    let error = &call["error"];
    if !error.is_null() {
        line(
            "error",
            format!("{} ({})", text(&error["message"]), error["code"]),
        );
        let traceback = error["data"]["traceback"].as_str().unwrap_or("");
        traceback.lines().for_each(|text| line("", clean(text)));
    }
    lines
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
