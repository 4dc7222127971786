//! `muster status`: the broker in numbers.

use super::{CommandResult, ask, connect};
use crate::cli::{Common, StatusArgs};
use crate::output::{Output, clean, duration_text};
use muster_proto::exit::Exit;
use serde_json::Value;

/// Prints the broker's status or its addresses.
pub fn run(common: &Common, args: &StatusArgs, out: &mut Output) -> CommandResult {
    let client = connect(common)?;
    if out.json {
        let method = if args.endpoints {
            "broker.endpoints"
        } else {
            "broker.status"
        };
        out.line(client.call(method, &())?.text())?;
        return Ok(Exit::Done);
    }
    let status = ask(&client, "broker.status", &())?;
    let over_tcp = &status["tcp_endpoints"];
    if args.endpoints {
        let here = ask(&client, "broker.endpoints", &())?;
        for door in ["frontend", "backend", "workers", "events"] {
            let ways = ways(here[door].as_str(), over_tcp[door].as_str());
            out.line(&format!("{door:<9} {}", ways.join("  ")))?;
        }
        return Ok(Exit::Done);
    }
    let text = |member: &str| clean(status[member].as_str().unwrap_or("?"));
    let draining = if status["draining"] == true {
        ", draining"
    } else {
        ""
    };
    out.line(&format!(
        "cluster   {}: broker {} on {}, pid {}, up {}{draining}",
        text("name"),
        text("version"),
        text("host"),
        status["pid"],
        duration_text(status["uptime_s"].as_f64().unwrap_or(0.0)),
    ))?;
    let ways = ways(Some(client.endpoint()), over_tcp["frontend"].as_str());
    out.line(&format!("address   {}", ways.join("  ")))?;
    out.line(&format!(
        "workers   {}",
        counts(&status["workers"], &["managed", "lanes"])
    ))?;
    let states = ["ready", "busy", "starting", "draining", "backoff", "lost"];
    let slots = &status["slots"];
    out.line(&format!(
        "slots     {}: {}",
        slots["total"],
        non_zero(slots, &states)
    ))?;
    let calls = &status["calls"];
    out.line(&format!(
        "calls     {}",
        counts(calls, &["queued", "running", "admitted"])
    ))?;
    let ends = [
        "succeeded",
        "failed",
        "expired",
        "cancelled",
        "lost",
        "shed",
        "not_found",
        "retried",
        "fenced",
        "bad_replies",
    ];
    out.line(&format!("so far    {}", non_zero(calls, &ends)))?;
    out.line(&format!("clients   {}", status["clients"]))?;
    out.line(&format!("methods   {}", status["methods"]))?;
    Ok(Exit::Done)
}

/// The addresses of a door, the one that serves here first.
fn ways(here: Option<&str>, over_tcp: Option<&str>) -> Vec<String> {
    let other = over_tcp.filter(|&endpoint| here != Some(endpoint));
    here.into_iter().chain(other).map(clean).collect()
}

fn counts(object: &Value, names: &[&str]) -> String {
    let number = |name: &str| object[name].as_u64().unwrap_or(0);
    let texts = names.iter().map(|name| format!("{} {name}", number(name)));
    texts.collect::<Vec<_>>().join(", ")
}

fn non_zero(object: &Value, names: &[&str]) -> String {
    let some: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| object[name].as_u64() > Some(0))
        .collect();
    if some.is_empty() {
        "none".into()
    } else {
        counts(object, &some).replace('_', " ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_door_has_the_address_that_serves_here_and_the_one_for_others() {
        assert_eq!(ways(Some("ipc://a"), None), ["ipc://a"]);
        assert_eq!(
            ways(Some("ipc://a"), Some("tcp://b:1")),
            ["ipc://a", "tcp://b:1"]
        );
        assert_eq!(ways(Some("tcp://b:1"), Some("tcp://b:1")), ["tcp://b:1"]);
        assert!(ways(None, None).is_empty());
    }

    #[test]
    fn zeros_are_left_out_where_they_say_nothing() {
        let slots = json!({"ready": 3, "busy": 0, "backoff": 1});
        assert_eq!(
            non_zero(&slots, &["ready", "busy", "backoff"]),
            "3 ready, 1 backoff"
        );
        assert_eq!(non_zero(&slots, &["busy"]), "none");
        assert_eq!(counts(&slots, &["busy", "absent"]), "0 busy, 0 absent");
    }
}
