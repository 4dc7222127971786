//! The rows of each list.

use super::look::{Look, Quantiles, Since};
use super::pane::Pane;
use super::text::{ago, bar, rate, time};
use crate::output::clean;
use muster_proto::code::Code;
use ratatui::style::Color;
use std::cmp::Ordering;

/// One row: what it is about, and a cell for each column of its list.
pub struct Entry {
    pub key: String,
    pub cells: Vec<Cell>,
}

/// What stands in a column, and how rows are sorted by it.
pub struct Cell {
    pub text: String,
    pub color: Option<Color>,
    order: Order,
}

enum Order {
    Number(f64),
    Text(String),
}

impl Order {
    /// Of numbers the largest first, of names the first as people count: `w.2` before `w.10`.
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Order::Number(a), Order::Number(b)) => b.total_cmp(a),
            (Order::Text(a), Order::Text(b)) => alphanumeric_sort::compare_str(a, b),
            // A column holds one kind.
            (Order::Number(_), Order::Text(_)) | (Order::Text(_), Order::Number(_)) => {
                Ordering::Equal
            }
        }
    }
}

impl Cell {
    fn text(text: &str) -> Self {
        Cell {
            text: clean(text),
            color: None,
            order: Order::Text(text.to_owned()),
        }
    }

    fn figure(text: String, value: f64) -> Self {
        Cell {
            text,
            color: None,
            order: Order::Number(value),
        }
    }

    fn number(value: u64) -> Self {
        Cell::figure(value.to_string(), value as f64)
    }

    /// A number that should be none.
    fn worry(value: u64) -> Self {
        let color = (value > 0).then_some(Color::Red);
        Cell::number(value).colored(color)
    }

    fn time(seconds: Option<f64>) -> Self {
        Cell::figure(time(seconds), seconds.unwrap_or(0.0))
    }

    fn colored(self, color: Option<Color>) -> Self {
        Cell { color, ..self }
    }
}

/// The rows of a list, sorted by a column.
pub fn rows(pane: Pane, look: &Look, since: &Since, sort: usize, is_reversed: bool) -> Vec<Entry> {
    let mut entries: Vec<Entry> = match pane {
        Pane::Methods => methods(look, since).collect(),
        Pane::Slots => slots(look, since).collect(),
        Pane::Failures => failures(look).collect(),
    };
    entries.sort_by(|a, b| {
        let order = a.cells[sort].order.compare(&b.cells[sort].order);
        if is_reversed { order.reverse() } else { order }
    });
    entries
}

/// How many there are.
pub fn count(pane: Pane, look: &Look) -> usize {
    match pane {
        Pane::Methods => look.methods.len(),
        Pane::Slots => look
            .workers
            .iter()
            .map(|worker| worker.slot_states.len())
            .sum(),
        Pane::Failures => look.failures.len(),
    }
}

fn methods(look: &Look, since: &Since) -> impl Iterator<Item = Entry> {
    look.methods.iter().map(|method| {
        let (per_second, Quantiles { p50, p95, p99 }) =
            since.methods.get(&method.name).copied().unwrap_or_default();
        let waits = (method.queued > 0).then_some(Color::Yellow);
        Entry {
            key: method.name.clone(),
            cells: vec![
                Cell::text(&method.name),
                Cell::figure(rate(per_second), per_second),
                Cell::time(p50),
                Cell::time(p95),
                Cell::time(p99),
                Cell::number(method.queued).colored(waits),
                Cell::number(method.slots),
                Cell::number(method.calls),
                Cell::worry(method.failures),
            ],
        }
    })
}

fn slots(look: &Look, since: &Since) -> impl Iterator<Item = Entry> {
    let slots = look.workers.iter().flat_map(|worker| &worker.slot_states);
    slots.map(|slot| {
        let (per_second, load) = since.slots.get(&slot.name).copied().unwrap_or_default();
        let running = slot.call.as_ref().and_then(|call| look.running.get(call));
        let method = running
            .and_then(|call| call.method.as_deref())
            .unwrap_or("");
        let age = running.map(|call| call.age_s);
        let color = match slot.state.as_str() {
            "busy" => Color::Cyan,
            "ready" => Color::Green,
            "starting" | "draining" => Color::Yellow,
            _ => Color::Red,
        };
        Entry {
            key: slot.name.clone(),
            cells: vec![
                Cell::text(&slot.name),
                Cell::text(&slot.state).colored(Some(color)),
                Cell::figure(bar(load), load).colored(Some(Color::Cyan)),
                Cell::figure(rate(per_second), per_second),
                Cell::number(slot.calls),
                Cell::worry(slot.failures),
                Cell::figure(
                    age.map_or_else(String::new, |age| time(Some(age))),
                    age.unwrap_or(0.0),
                ),
                Cell::text(method),
                Cell::text(slot.call.as_deref().unwrap_or("")),
            ],
        }
    })
}

fn failures(look: &Look) -> impl Iterator<Item = Entry> {
    look.failures.iter().map(|failed| {
        let number = failed.error["code"].as_i64().unwrap_or(0);
        let code = Code::from_number(number)
            .map_or_else(|| number.to_string(), |code| format!("{code:?}"));
        let message = failed.error["message"].as_str().unwrap_or(&failed.state);
        let when = ago(look.taken_ms.saturating_sub(failed.ended_ms));
        Entry {
            key: failed.id.clone(),
            cells: vec![
                Cell::figure(when, failed.ended_ms as f64),
                Cell::text(failed.method.as_deref().unwrap_or("(raw)")),
                Cell::text(&code).colored(Some(Color::Red)),
                Cell::text(failed.slot.as_deref().unwrap_or("-")),
                Cell::text(&failed.id),
                Cell::text(message),
            ],
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_as_people_count_and_numbers_from_the_largest() {
        let sorted = |mut cells: Vec<Cell>| -> Vec<String> {
            cells.sort_by(|a, b| a.order.compare(&b.order));
            cells.into_iter().map(|cell| cell.text).collect()
        };
        let names = ["w.10", "w.2", "a.3", "w.1"].map(Cell::text);
        assert_eq!(sorted(names.into()), ["a.3", "w.1", "w.2", "w.10"]);
        let numbers = [2, 10, 1].map(Cell::number);
        assert_eq!(sorted(numbers.into()), ["10", "2", "1"]);
    }
}
