//! `muster trace`: the life of calls, one by one, from the broker's events.

use super::events::{subscribe, time_of_day, unreachable};
use super::{CommandResult, Failure, ask, connect};
use crate::cli::{Common, TraceArgs};
use crate::output::{Output, clean};
use muster_client::{Events, Heard};
use muster_proto::exit::Exit;
use muster_proto::id::CallId;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Calls under way that are remembered; of more, the oldest are told without their beginning.
const OPEN_MAX: usize = 100_000;
/// Silence is no reason to end.
const PATIENCE: Duration = Duration::from_secs(3_600);
/// Between two looks at whether a call that is followed has ended unseen.
const LOOK: Duration = Duration::from_secs(2);

/// Follows one call, or prints each that ends.
pub fn run(common: &Common, args: &TraceArgs, out: &mut Output) -> CommandResult {
    let prefixes = ["call.".to_owned(), "cap.".to_owned()];
    let events = subscribe(common, &prefixes)?.ok_or_else(|| unreachable("trace"))?;
    let id = args
        .subject
        .as_deref()
        .and_then(|subject| subject.parse::<CallId>().ok());
    match id {
        Some(id) => follow(common, id, events, out),
        None => stream(args, events, out),
    }
}

/// One line for each call that ends.
fn stream(args: &TraceArgs, mut events: Events, out: &mut Output) -> CommandResult {
    let mut lives = Lives::default();
    let mut left = args.count;
    out.note("subscribed");
    while left != Some(0) {
        let mut event = next(&mut events, Duration::ZERO)?;
        if event.is_none() {
            out.flush()?;
            event = next(&mut events, PATIENCE)?;
        }
        let Some(event) = event else { continue };
        if lives.tell(&event, args.subject.as_deref(), out)? {
            left = left.map(|left| left - 1);
        }
    }
    Ok(Exit::Done)
}

/// What happens to one call, until it ends.
fn follow(common: &Common, id: CallId, mut events: Events, out: &mut Output) -> CommandResult {
    let client = connect(common)?;
    let name = id.to_string();
    // Asked after the subscription: what ends in between is told by one of the two.
    let mut told = ask(&client, "broker.explain", &json!({"id": name}))?;
    tell_state(&told, out)?;
    let mut looked = Instant::now();
    loop {
        if told.get("ended_ms").is_some() {
            return Ok(exit_of(told["error"].is_null()));
        }
        out.flush()?;
        let event = next(&mut events, LOOK)?;
        if let Some(event) = event.filter(|event| event["call"] == name.as_str()) {
            tell_event(&event, out)?;
            match event["event"].as_str() {
                Some("call.answered") => return Ok(exit_of(event["ok"] == true)),
                Some("call.failed" | "call.expired" | "call.cancelled") => {
                    return Ok(Exit::Failed);
                }
                _ => {}
            }
        }
        if looked.elapsed() >= LOOK {
            looked = Instant::now();
            // Its end may have been among events that were missed.
            told = ask(&client, "broker.explain", &json!({"id": name}))?;
            if told.get("ended_ms").is_some() {
                tell_state(&told, out)?;
            }
        }
    }
}

fn exit_of(is_ok: bool) -> Exit {
    if is_ok { Exit::Done } else { Exit::Failed }
}

fn tell_event(event: &Value, out: &mut Output) -> Result<(), Failure> {
    if out.json {
        return Ok(out.line(&event.to_string())?);
    }
    let time = time_of_day(event["time"].as_f64().unwrap_or(0.0));
    let kind = clean(event["event"].as_str().unwrap_or(""));
    let slot = event["slot"]
        .as_str()
        .map_or(String::new(), |slot| format!("  on {}", clean(slot)));
    let took = event["took_ms"]
        .as_f64()
        .map_or(String::new(), |ms| format!("  after {ms:.3} ms"));
    let error = event["error"]["message"]
        .as_str()
        .map_or(String::new(), |text| format!("  {}", clean(text)));
    Ok(out.line(&format!("{time}  {kind}{slot}{took}{error}"))?)
}

fn tell_state(told: &Value, out: &mut Output) -> Result<(), Failure> {
    if out.json {
        return Ok(out.line(&told.to_string())?);
    }
    let text = |member: &str| clean(told[member].as_str().unwrap_or("-"));
    let slot = told["slot"]
        .as_str()
        .map_or(String::new(), |slot| format!(" on {}", clean(slot)));
    let why = told["why"]
        .as_str()
        .map_or(String::new(), |why| format!(": {}", clean(why)));
    Ok(out.line(&format!(
        "{}  {}  {}{slot}{why}",
        text("id"),
        text("method"),
        text("state")
    ))?)
}

fn next(events: &mut Events, timeout: Duration) -> Result<Option<Value>, Failure> {
    loop {
        match events.next(timeout)? {
            None => return Ok(None),
            Some(Heard::Event(text)) => {
                if let Ok(event) = serde_json::from_str(&text) {
                    return Ok(Some(event));
                }
            }
            Some(Heard::Linked | Heard::Unlinked) => {}
        }
    }
}

/// Calls under way, as far as their beginning was seen.
#[derive(Default)]
struct Lives {
    open: BTreeMap<u64, Life>,
}

#[derive(Clone, Debug, Default)]
struct Life {
    admitted: Option<f64>,
    dispatched: Option<f64>,
    slot: Option<String>,
    attempts: u64,
}

impl Lives {
    /// Takes an event in. Prints the call's line when it was its last; true: it was printed.
    fn tell(
        &mut self,
        event: &Value,
        method: Option<&str>,
        out: &mut Output,
    ) -> Result<bool, Failure> {
        if method.is_some_and(|method| event["method"] != method) {
            return Ok(false);
        }
        let Some(line) = self.take(event) else {
            return Ok(false);
        };
        if out.json {
            out.line(&line.to_string())?;
            return Ok(true);
        }
        let text = |member: &str| clean(line[member].as_str().unwrap_or("-"));
        let ms = |member: &str| {
            line[member]
                .as_f64()
                .map_or("-".into(), |ms| format!("{ms:.3} ms"))
        };
        let attempts = match line["attempts"].as_u64() {
            Some(attempts) if attempts > 1 => format!("  {attempts} attempts"),
            _ => String::new(),
        };
        out.line(&format!(
            "{}  {:<8} {}  waited {}  ran {} on {}  {}{attempts}",
            time_of_day(line["time"].as_f64().unwrap_or(0.0)),
            text("call"),
            text("method"),
            ms("waited_ms"),
            ms("ran_ms"),
            text("slot"),
            text("end"),
        ))?;
        Ok(true)
    }

    /// The call's whole life when this was its last event.
    fn take(&mut self, event: &Value) -> Option<Value> {
        let time = event["time"].as_f64()?;
        let name = event["event"].as_str()?;
        let id = event["call"]
            .as_str()
            .and_then(|id| id.parse::<CallId>().ok());
        match (name, id) {
            ("call.admitted", Some(id)) => {
                self.open.insert(
                    id.0,
                    Life {
                        admitted: Some(time),
                        ..Life::default()
                    },
                );
                if self.open.len() > OPEN_MAX {
                    self.open.pop_first();
                }
                return None;
            }
            ("call.dispatched" | "call.retried", Some(id)) => {
                let life = self.open.entry(id.0).or_default();
                life.dispatched = Some(time);
                life.slot = event["slot"].as_str().map(str::to_owned);
                life.attempts = event["attempt"].as_u64().unwrap_or(1);
                return None;
            }
            _ => {}
        }
        let end = match (name, &event["ok"]) {
            ("call.answered", Value::Bool(true)) => "ok",
            ("call.answered", _) => "error",
            ("call.expired", _) => "expired",
            ("call.cancelled", _) => "cancelled",
            ("cap.reached", _) => "shed",
            ("call.failed", _) => "failed",
            _ => return None,
        };
        let life = id
            .and_then(|id| self.open.remove(&id.0))
            .unwrap_or_default();
        let between = |from: Option<f64>, to: Option<f64>| Some((to? - from?).max(0.0) * 1e3);
        let waited = between(life.admitted, life.dispatched.or(Some(time)));
        Some(json!({
            "time": time,
            "call": event["call"],
            "method": event["method"],
            "end": end,
            "slot": life.slot,
            "attempts": life.attempts,
            "waited_ms": waited,
            "ran_ms": between(life.dispatched, Some(time)),
            "error": event["error"],
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_told_when_it_ends() {
        let mut lives = Lives::default();
        let events = [
            json!({"event": "call.admitted", "call": "c7", "method": "m", "time": 1.0}),
            json!({"event": "call.dispatched", "call": "c7", "method": "m", "attempt": 1, "slot": "w.1", "time": 1.5}),
            json!({"event": "call.retried", "call": "c7", "method": "m", "attempt": 2, "slot": "v.1", "time": 2.0}),
        ];
        assert!(events.iter().all(|event| lives.take(event).is_none()));
        let end = json!({"event": "call.answered", "call": "c7", "method": "m", "ok": true, "time": 2.25});
        let life = lives.take(&end).unwrap();
        assert_eq!(life["waited_ms"], 1_000.0);
        assert_eq!(life["ran_ms"], 250.0);
        assert_eq!(
            (&life["slot"], &life["attempts"], &life["end"]),
            (&json!("v.1"), &json!(2), &json!("ok"))
        );
        assert!(lives.open.is_empty());
        let shed = json!({"event": "cap.reached", "call": null, "method": null, "time": 3.0});
        assert_eq!(lives.take(&shed).unwrap()["end"], "shed");
    }
}
