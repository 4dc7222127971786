//! `muster events`: what happens, as it happens.

use super::{CommandResult, Failure, ask, ask_list, connect, connect_patiently};
use crate::cli::{Common, EventsArgs};
use crate::output::{Output, clean, note};
use muster_client::{Client, Events, Heard};
use muster_proto::exit::Exit;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A door that does not open within this time is one that can't be reached.
const REACH_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Between two looks at the status.
const PERIOD: Duration = Duration::from_secs(1);
/// How long a broker that went away may take to come back.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// Prints events until it is ended, or until there were enough.
pub fn run(common: &Common, args: &EventsArgs, out: &mut Output) -> CommandResult {
    let prefixes = match args.filter.as_slice() {
        [] => vec![String::new()],
        some => some.to_vec(),
    };
    let mut printer = Printer {
        left: args.count,
        counts: BTreeMap::new(),
    };
    if !args.poll {
        match subscribe(common, &prefixes)? {
            Some(events) => return printer.follow(events, out),
            None => {
                out.note("the events' door can't be reached; asking for the status each second");
            }
        }
    }
    printer.poll(&connect_patiently(common, PATIENCE)?, &prefixes, out)
}

/// A subscription that is up; `None` when only the frontend can be reached.
pub(super) fn subscribe(common: &Common, prefixes: &[String]) -> Result<Option<Events>, Failure> {
    let endpoints = ask(&connect(common)?, "broker.endpoints", &())?;
    let Some(endpoint) = endpoints["events"].as_str() else {
        return Ok(None);
    };
    let mut events = Events::subscribe(&common.target(), endpoint, prefixes)?;
    Ok(events.is_reachable(REACH_TIMEOUT)?.then_some(events))
}

/// Prints events and sees what is missing between them.
struct Printer {
    left: Option<u64>,
    /// The last number of each name.
    counts: BTreeMap<String, u64>,
}

impl Printer {
    fn follow(&mut self, mut events: Events, out: &mut Output) -> CommandResult {
        out.note("subscribed");
        while self.left != Some(0) {
            // What is there is printed at once, and written in as few pieces as can be.
            let heard = match events.next(Duration::ZERO)? {
                Some(heard) => heard,
                None => {
                    out.flush()?;
                    match events.next(PATIENCE)? {
                        Some(heard) => heard,
                        None => continue,
                    }
                }
            };
            match heard {
                Heard::Event(text) => self.event(&text, out)?,
                Heard::Unlinked => out.note("the broker is away"),
                Heard::Linked => {
                    self.counts.clear();
                    out.note("the broker is back");
                }
            }
        }
        Ok(Exit::Done)
    }

    fn event(&mut self, text: &str, out: &mut Output) -> Result<(), Failure> {
        let Ok(event) = serde_json::from_str::<Value>(text) else {
            return Ok(());
        };
        let name = event["event"].as_str().unwrap_or("?");
        let missed = self.missed(name, event["nth"].as_u64());
        if missed > 0 {
            let gap = json!({"event": "gap", "of": name, "missed": missed, "time": event["time"]});
            let text = gap.to_string();
            print(&gap, &text, out)?;
        }
        print(&event, text, out)?;
        self.left = self.left.map(|left| left.saturating_sub(1));
        Ok(())
    }

    /// How many events of this name are missing in front of its `nth`.
    fn missed(&mut self, name: &str, nth: Option<u64>) -> u64 {
        let Some(nth) = nth else { return 0 };
        let last = self.counts.insert(name.to_owned(), nth);
        // A smaller number is of another broker.
        last.map_or(0, |last| nth.saturating_sub(last + 1))
    }

    /// The same as far as the status tells it.
    fn poll(&mut self, client: &Client, prefixes: &[String], out: &mut Output) -> CommandResult {
        let mut before: Option<Look> = None;
        loop {
            let now = Look::take(client)?;
            for event in before.iter().flat_map(|before| now.changes(before)) {
                let name = event["event"].as_str().unwrap_or_default();
                if prefixes
                    .iter()
                    .any(|prefix| name.starts_with(prefix.as_str()))
                {
                    self.event(&event.to_string(), out)?;
                    if self.left == Some(0) {
                        return Ok(Exit::Done);
                    }
                }
            }
            before = Some(now);
            out.flush()?;
            std::thread::sleep(PERIOD);
        }
    }
}

/// One look at the status.
struct Look {
    /// Whether each worker is draining.
    workers: BTreeMap<String, bool>,
    calls: Value,
}

impl Look {
    fn take(client: &Client) -> Result<Self, Failure> {
        let status = ask(client, "broker.status", &())?;
        let workers = ask_list(client, "broker.workers", &())?;
        let named = workers.iter().map(|(_, worker)| {
            let name = worker["name"].as_str().unwrap_or_default();
            (name.to_owned(), worker["state"] == "draining")
        });
        Ok(Look {
            workers: named.collect(),
            calls: status["calls"].clone(),
        })
    }

    /// What happened since, as events; of calls only how many.
    fn changes(&self, before: &Look) -> Vec<Value> {
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        let time = time.unwrap_or_default().as_secs_f64();
        let event =
            |name: &str, worker: &str| json!({"event": name, "worker": worker, "time": time});
        let mut events = Vec::new();
        for (name, is_draining) in &self.workers {
            match before.workers.get(name) {
                None => events.push(event("worker.up", name)),
                Some(false) if *is_draining => events.push(event("worker.draining", name)),
                Some(_) => {}
            }
        }
        let gone = before
            .workers
            .keys()
            .filter(|name| !self.workers.contains_key(*name));
        events.extend(gone.map(|name| event("worker.down", name)));
        let names = [
            ("admitted", "call.admitted"),
            ("succeeded", "call.answered"),
            ("failed", "call.answered"),
            ("retried", "call.retried"),
            ("expired", "call.expired"),
            ("cancelled", "call.cancelled"),
            ("lost", "call.failed"),
            ("shed", "cap.reached"),
        ];
        let number = |look: &Look, member: &str| look.calls[member].as_u64().unwrap_or(0);
        for (member, name) in names {
            let more = number(self, member).saturating_sub(number(before, member));
            if more > 0 {
                events.push(json!({"event": name, "calls": more, "what": member, "time": time}));
            }
        }
        events
    }
}

fn print(event: &Value, text: &str, out: &mut Output) -> Result<(), Failure> {
    if out.json {
        return Ok(out.line(text)?);
    }
    let name = clean(event["event"].as_str().unwrap_or("?"));
    let time = time_of_day(event["time"].as_f64().unwrap_or(0.0));
    Ok(out.line(format!("{time}  {name:<15}  {}", details(event)).trim_end())?)
}

/// What an event is about comes first.
const SUBJECTS: [&str; 3] = ["call", "method", "worker"];

/// The members that are not in every event, each in a word or two.
fn details(event: &Value) -> String {
    let mut words = Vec::new();
    let subjects = SUBJECTS.iter().map(|name| (*name, &event[*name]));
    let others = event.as_object().into_iter().flatten();
    let others = others.map(|(name, value)| (name.as_str(), value));
    let others = others.filter(|(name, _)| !SUBJECTS.contains(name));
    for (name, value) in subjects.chain(others) {
        match (name, value) {
            ("event" | "seq" | "nth" | "time", _) | (_, Value::Null) => {}
            ("call" | "method" | "worker" | "what", Value::String(text)) => words.push(clean(text)),
            ("ok", Value::Bool(is_ok)) => words.push(if *is_ok { "ok" } else { "error" }.into()),
            ("took_ms", value) => words.push(format!("{:.3} ms", value.as_f64().unwrap_or(0.0))),
            ("error", error) => {
                let message = error["message"].as_str().unwrap_or("");
                words.push(format!("{} ({})", clean(message), error["code"]));
            }
            (name, Value::String(text)) => words.push(format!("{name} {}", clean(text))),
            (name, value) => words.push(format!("{name} {value}")),
        }
    }
    words.join("  ")
}

/// Hours, minutes, seconds and milliseconds, UTC as in the logs.
pub(super) fn time_of_day(seconds: f64) -> String {
    let ms = (seconds * 1e3) as u64;
    let (hours, minutes) = (ms / 3_600_000 % 24, ms / 60_000 % 60);
    format!(
        "{hours:02}:{minutes:02}:{:02}.{:03}Z",
        ms / 1_000 % 60,
        ms % 1_000
    )
}

/// Says that something needs the events, and ends as without a broker.
pub(super) fn unreachable(what: &str) -> Failure {
    note(&format!(
        "{what} needs the broker's events, and only its frontend can be reached; `muster events --poll` and `muster explain` do without"
    ));
    Failure::Ended(Exit::Unavailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_what_is_missing_of_one_name() {
        let mut printer = Printer {
            left: None,
            counts: BTreeMap::new(),
        };
        assert_eq!(printer.missed("a", Some(7)), 0);
        assert_eq!(printer.missed("b", Some(1)), 0);
        assert_eq!(printer.missed("a", Some(8)), 0);
        assert_eq!(printer.missed("a", Some(12)), 3);
        assert_eq!(printer.missed("a", Some(1)), 0);
        assert_eq!(printer.missed("a", None), 0);
    }

    #[test]
    fn an_event_is_a_line_of_words() {
        let event = json!({"event": "call.answered", "seq": 4, "nth": 2, "time": 3_723.5, "call": "c1",
            "method": "m", "ok": true, "took_ms": 0.25, "slot": null});
        assert_eq!(details(&event), "c1  m  ok  0.250 ms");
        assert_eq!(time_of_day(3_723.5), "01:02:03.500Z");
    }

    #[test]
    fn two_looks_tell_what_happened_between_them() {
        let look = |workers: &[(&str, bool)], admitted: u64| Look {
            workers: workers
                .iter()
                .map(|(name, is)| ((*name).to_owned(), *is))
                .collect(),
            calls: json!({"admitted": admitted}),
        };
        let before = look(&[("a", false), ("b", false)], 3);
        let events = look(&[("b", true), ("c", false)], 5).changes(&before);
        let told: Vec<String> = events
            .iter()
            .map(|event| {
                let whom = event["worker"].as_str().unwrap_or("").to_owned();
                format!(
                    "{} {whom}{}",
                    event["event"].as_str().unwrap(),
                    event["calls"]
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                "worker.draining bnull",
                "worker.up cnull",
                "worker.down anull",
                "call.admitted 2"
            ]
        );
    }
}
