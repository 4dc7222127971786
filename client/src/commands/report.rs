//! A failed call, for people.

use crate::output::{clean, note};
use muster_client::RpcError;
use serde_json::Value;
use std::io::Write;

/// Prints what a call failed with, and what is known beyond it, on standard error.
pub fn rpc_error(error: &RpcError) {
    let details: Value = error
        .data
        .as_ref()
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or(Value::Null);
    note(&headline(error, &details));
    let mut lines = Vec::new();
    if let Some(traceback) = details["traceback"].as_str() {
        lines.extend(traceback.lines().map(clean));
    }
    for (number, told) in (1..).zip(details["attempts"].as_array().into_iter().flatten()) {
        lines.push(format!("attempt {number} {}", attempt(told)));
        lines.extend(last_words(told));
    }
    let mut stderr = std::io::stderr().lock();
    for line in lines {
        let _ = writeln!(stderr, "  {line}");
    }
}

/// One line: the code's name, what happened, where.
fn headline(error: &RpcError, details: &Value) -> String {
    let name = error
        .known_code()
        .map_or_else(String::new, |code| code.message().to_owned());
    let mut line = match (details["type"].as_str(), details["message"].as_str()) {
        (Some(kind), Some(message)) => format!("{kind}: {message}"),
        _ => error.message.clone(),
    };
    if !name.is_empty() && !line.starts_with(&name) {
        line = format!("{name}: {line}");
    }
    if let Some(reason) = details["reason"].as_str() {
        line += &format!(": {reason}");
    }
    for member in ["method", "state", "by", "worker", "pid"] {
        match &details[member] {
            Value::Null => {}
            Value::String(text) if line.contains(text.as_str()) => {}
            Value::String(text) => line += &format!(", {member} {text}"),
            value => line += &format!(", {member} {value}"),
        }
    }
    format!("{} ({})", clean(&line), error.code)
}

/// Where an attempt ran, for how long, and how it ended.
pub fn attempt(told: &Value) -> String {
    let text = |member: &str| told[member].as_str().map_or("?".into(), clean);
    let place = match told["pid"].as_u64() {
        Some(pid) => format!(" (pid {pid} on {})", text("host")),
        None => String::new(),
    };
    let elapsed_ms = told["elapsed_ms"].as_f64().unwrap_or(0.0);
    format!(
        "on {}{place}, after {elapsed_ms:.1} ms: {}",
        text("slot"),
        text("ended")
    )
}

/// The last lines that its process wrote to standard error.
pub fn last_words(attempt: &Value) -> impl Iterator<Item = String> {
    let stderr = attempt["stderr"].as_str().unwrap_or("");
    stderr.lines().map(|line| format!("  {}", clean(line)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::code::Code;
    use serde_json::json;

    #[test]
    fn the_headline_says_what_happened_and_where() {
        let details = json!({"type": "TypeError", "message": "no", "worker": "w", "pid": 7});
        let error = RpcError::new(Code::CallFailed)
            .message("TypeError: no")
            .data(&details);
        assert_eq!(
            headline(&error, &details),
            "CallFailed: TypeError: no, worker w, pid 7 (-32000)"
        );
        let details = json!({"method": "nope"});
        let error = RpcError::new(Code::MethodNotFound).data(&details);
        assert_eq!(
            headline(&error, &details),
            "Method not found, method nope (-32601)"
        );
        let error = RpcError::new(Code::MethodNotFound);
        assert_eq!(headline(&error, &Value::Null), "Method not found (-32601)");
    }

    #[test]
    fn an_attempt_is_told_by_place_time_end_and_last_words() {
        let told = json!({
            "worker": "w", "slot": "w.1", "host": "atlas", "pid": 7, "started": 1.5,
            "elapsed_ms": 2.0010000000000003, "ended": "signal 9", "exit_code": null,
            "signal": 9, "out_of_memory": false, "stderr": "one\n\x1b[2Jtwo\n",
        });
        assert_eq!(
            attempt(&told),
            "on w.1 (pid 7 on atlas), after 2.0 ms: signal 9"
        );
        let lines: Vec<String> = last_words(&told).collect();
        assert_eq!(lines, ["  one", "  \u{fffd}[2Jtwo"]);
        let silent = json!({"slot": "lane.1", "pid": null, "ended": "silent", "stderr": ""});
        assert_eq!(attempt(&silent), "on lane.1, after 0.0 ms: silent");
        assert_eq!(last_words(&silent).count(), 0);
    }
}
