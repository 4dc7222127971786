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
    for (number, attempt) in (1..).zip(details["attempts"].as_array().into_iter().flatten()) {
        lines.push(format!("attempt {number}: {}", pairs(attempt)));
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

/// The members of an object in a row.
fn pairs(value: &Value) -> String {
    let Some(object) = value.as_object() else {
        return clean(&value.to_string());
    };
    let shown = object
        .iter()
        .filter(|(_, value)| !value.is_null() && *value != "");
    let shown = shown.map(|(name, value)| match value {
        Value::String(text) => format!("{name} {}", clean(text.trim_end())),
        value => format!("{name} {value}"),
    });
    shown.collect::<Vec<_>>().join(", ")
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
    fn attempts_are_told_member_by_member() {
        let attempt = json!({"worker": "w.1", "signal": 9, "stderr": "", "pid": null});
        assert_eq!(pairs(&attempt), "signal 9, worker w.1");
    }
}
