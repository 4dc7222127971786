//! What `muster top` draws.

use super::look::{Look, Quantiles, Since};
use crate::output::{clean, duration_text};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};

/// The lists, in the order of the tab key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pane {
    Methods,
    Slots,
    Failures,
}

impl Pane {
    pub const ALL: [Pane; 3] = [Pane::Methods, Pane::Slots, Pane::Failures];

    fn header(self) -> &'static [&'static str] {
        match self {
            Pane::Methods => &[
                "METHOD", "CALLS/s", "P50", "P95", "P99", "QUEUED", "SLOTS", "CALLS", "FAILURES",
            ],
            Pane::Slots => &[
                "SLOT", "STATE", "LOAD", "CALLS/s", "CALLS", "FAILURES", "CALL", "METHOD", "FOR",
            ],
            Pane::Failures => &["WHEN", "CALL", "METHOD", "SLOT", "CODE", "ERROR"],
        }
    }

    fn widths(self) -> &'static [Constraint] {
        use Constraint::{Length, Min};
        match self {
            Pane::Methods => &[
                Min(14),
                Length(10),
                Length(9),
                Length(9),
                Length(9),
                Length(9),
                Length(6),
                Length(10),
                Length(9),
            ],
            Pane::Slots => &[
                Min(14),
                Length(9),
                Length(11),
                Length(9),
                Length(9),
                Length(9),
                Length(9),
                Min(14),
                Length(11),
            ],
            Pane::Failures => &[Length(9), Length(9), Min(14), Min(14), Length(7), Min(20)],
        }
    }
}

/// How one list is looked at.
#[derive(Default)]
pub struct ListState {
    pub table: TableState,
    pub sort: usize,
    pub is_reversed: bool,
}

/// What is on the screen besides the figures.
pub struct View {
    pub has_color: bool,
    pub pane: Pane,
    pub lists: [ListState; 3],
    /// A question that waits for `y`, or what the last key led to.
    pub message: Option<String>,
    pub is_paused: bool,
    /// Why there is nothing new.
    pub away: Option<String>,
}

/// One row: what it is about, its cells and what it is sorted by.
pub struct Entry {
    pub key: String,
    cells: Vec<String>,
    sort: Vec<Sort>,
    color: Option<Color>,
}

#[derive(PartialEq, PartialOrd)]
enum Sort {
    Number(f64),
    Text(String),
}

impl View {
    pub fn new(has_color: bool) -> Self {
        View {
            has_color,
            pane: Pane::Slots,
            // Methods by their rate: of many most rest.
            lists: [
                ListState {
                    sort: 1,
                    ..ListState::default()
                },
                ListState::default(),
                ListState::default(),
            ],
            message: None,
            is_paused: false,
            away: None,
        }
    }

    /// Draws all of it.
    pub fn draw(&mut self, frame: &mut Frame<'_>, look: Option<&Look>, since: &Since) {
        let areas = Layout::vertical([
            Constraint::Length(3),
            Constraint::Fill(1),
            Constraint::Length(1),
        ]);
        let [head, body, foot] = areas.areas(frame.area());
        frame.render_widget(Paragraph::new(self.head(look, since)), head);
        if let Some(look) = look {
            let heights = heights(body.height, look);
            let places = Layout::vertical(heights.map(Constraint::Length)).split(body);
            for (pane, place) in Pane::ALL.into_iter().zip(places.iter()) {
                self.list(frame, *place, pane, look, since);
            }
        }
        let keys =
            "q quit  Tab list  ↑↓ row  s sort  r reverse  d drain worker  c cancel call  p pause";
        let text = self.message.clone().unwrap_or_else(|| keys.into());
        let style = match self.message {
            Some(_) => Style::new().add_modifier(Modifier::BOLD),
            None => self.color(Color::DarkGray),
        };
        frame.render_widget(Paragraph::new(Line::styled(text, style)), foot);
    }

    fn color(&self, color: Color) -> Style {
        match self.has_color {
            true => Style::new().fg(color),
            false => Style::new(),
        }
    }

    fn head(&self, look: Option<&Look>, since: &Since) -> Vec<Line<'static>> {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let state = match (&self.away, self.is_paused) {
            (Some(reason), _) => {
                Span::styled(format!("  {}", clean(reason)), self.color(Color::Red))
            }
            (None, true) => Span::styled("  paused", self.color(Color::Yellow)),
            (None, false) => Span::styled("  live", self.color(Color::Green)),
        };
        let Some(look) = look else {
            return vec![Line::from(vec![Span::styled("muster top", bold), state])];
        };
        let status = &look.status;
        let draining = if status.draining { ", draining" } else { "" };
        let about = format!(
            "  {} on {}, {}, up {}{draining}",
            clean(&status.name),
            clean(&status.host),
            clean(&status.version),
            duration_text(status.uptime_s)
        );
        let rates = format!(
            "calls/s {}   failed/s {}   latency p50 {}  p95 {}  p99 {}",
            since.rate.map_or("-".into(), rate),
            since.failed_rate.map_or("-".into(), rate),
            time(since.latency.p50),
            time(since.latency.p95),
            time(since.latency.p99),
        );
        let counts = format!(
            "queued {}   running {}   slots {} of {} busy   workers {}   clients {}   failed {}   retried {}   shed {}",
            look.calls("queued"),
            look.calls("running"),
            look.slots("busy"),
            look.slots("total"),
            look.workers.len(),
            status.clients,
            look.calls("failed") + look.calls("expired") + look.calls("lost"),
            look.calls("retried"),
            look.calls("shed"),
        );
        vec![
            Line::from(vec![
                Span::styled("muster top", bold),
                Span::raw(about),
                state,
            ]),
            Line::styled(rates, bold),
            Line::raw(counts),
        ]
    }

    fn list(&mut self, frame: &mut Frame<'_>, area: Rect, pane: Pane, look: &Look, since: &Since) {
        let entries = self.entries(pane, look, since);
        let state = &self.lists[pane as usize];
        let sorted = |at: usize| match (at == state.sort, state.is_reversed) {
            (true, false) => "▾",
            (true, true) => "▴",
            (false, _) => "",
        };
        let head = pane.header().iter().enumerate();
        let head = head.map(|(at, name)| Cell::from(format!("{name}{}", sorted(at))));
        let is_chosen = self.pane == pane;
        let style = Style::new().add_modifier(match is_chosen {
            true => Modifier::BOLD | Modifier::UNDERLINED,
            false => Modifier::BOLD,
        });
        let rows = entries.iter().map(|entry| {
            let style = entry.color.map_or(Style::new(), |color| self.color(color));
            Row::new(entry.cells.iter().map(String::as_str)).style(style)
        });
        let chosen = match is_chosen {
            true => Style::new().add_modifier(Modifier::REVERSED),
            false => Style::new(),
        };
        let table = Table::new(rows, pane.widths())
            .header(Row::new(head).style(style))
            .row_highlight_style(chosen);
        let table_state = &mut self.lists[pane as usize].table;
        let last = entries.len().checked_sub(1);
        let at = table_state.selected().unwrap_or(0);
        table_state.select(last.map(|last| at.min(last)));
        frame.render_stateful_widget(table, area, table_state);
    }

    /// The rows of a list as it is sorted.
    pub fn entries(&self, pane: Pane, look: &Look, since: &Since) -> Vec<Entry> {
        let mut entries = match pane {
            Pane::Methods => methods(look, since),
            Pane::Slots => slots(look, since),
            Pane::Failures => failures(look),
        };
        let ListState {
            sort, is_reversed, ..
        } = &self.lists[pane as usize];
        entries.sort_by(|a, b| {
            // Of numbers the largest first, of names the first.
            let order = match (&a.sort[*sort], &b.sort[*sort]) {
                (Sort::Number(a), Sort::Number(b)) => b.total_cmp(a),
                (a, b) => a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal),
            };
            if *is_reversed { order.reverse() } else { order }
        });
        entries
    }

    /// What the chosen row is about.
    pub fn chosen(&self, look: &Look, since: &Since) -> Option<String> {
        let at = self.lists[self.pane as usize].table.selected()?;
        let mut entries = self.entries(self.pane, look, since).into_iter();
        entries.nth(at).map(|entry| entry.key)
    }

    pub fn columns(&self) -> usize {
        self.pane.header().len()
    }
}

/// Lines for each list: what the short ones do not need, the slots get.
fn heights(height: u16, look: &Look) -> [u16; 3] {
    let needs = |rows: usize| u16::try_from(rows + 2).unwrap_or(u16::MAX);
    let methods = needs(look.methods.len()).min((height / 3).max(3));
    let failures = needs(look.failures.len()).min((height / 4).max(3));
    [methods, height.saturating_sub(methods + failures), failures]
}

/// How many lines would show everything.
pub fn height_of(look: &Look) -> usize {
    let slots: usize = look
        .workers
        .iter()
        .map(|worker| worker.slot_states.len())
        .sum();
    // Each list has a third and a quarter at most, so the largest decides.
    4 + (3 * (look.methods.len() + 2))
        .max(4 * (look.failures.len() + 2))
        .max(3 * (slots + 2))
}

fn methods(look: &Look, since: &Since) -> Vec<Entry> {
    let entries = look.methods.iter().map(|method| {
        let (per_second, Quantiles { p50, p95, p99 }) =
            since.methods.get(&method.name).copied().unwrap_or_default();
        let number = |value: u64| (value.to_string(), Sort::Number(value as f64));
        let seconds = |value: Option<f64>| (time(value), Sort::Number(value.unwrap_or(0.0)));
        let (cells, sort) = [
            (clean(&method.name), Sort::Text(method.name.clone())),
            (rate(per_second), Sort::Number(per_second)),
            seconds(p50),
            seconds(p95),
            seconds(p99),
            number(method.queued),
            number(method.slots),
            number(method.calls),
            number(method.failures),
        ]
        .into_iter()
        .unzip();
        Entry {
            key: method.name.clone(),
            cells,
            sort,
            color: None,
        }
    });
    entries.collect()
}

fn slots(look: &Look, since: &Since) -> Vec<Entry> {
    let slots = look.workers.iter().flat_map(|worker| &worker.slot_states);
    let entries = slots.map(|slot| {
        let (per_second, load) = since.slots.get(&slot.name).copied().unwrap_or_default();
        let running = slot.call.as_ref().and_then(|call| look.running.get(call));
        let method = running
            .and_then(|call| call.method.as_deref())
            .unwrap_or("");
        let age = running.map(|call| call.age_s);
        let number = |value: u64| (value.to_string(), Sort::Number(value as f64));
        let text = |text: &str| (clean(text), Sort::Text(text.to_owned()));
        let (cells, sort) = [
            text(&slot.name),
            text(&slot.state),
            (bar(load), Sort::Number(load)),
            (rate(per_second), Sort::Number(per_second)),
            number(slot.calls),
            number(slot.failures),
            text(slot.call.as_deref().unwrap_or("")),
            text(method),
            (
                age.map_or(String::new(), |age| time(Some(age))),
                Sort::Number(age.unwrap_or(0.0)),
            ),
        ]
        .into_iter()
        .unzip();
        Entry {
            key: slot.name.clone(),
            cells,
            sort,
            color: match slot.state.as_str() {
                "busy" => Some(Color::Cyan),
                "ready" => Some(Color::Green),
                "starting" | "draining" => Some(Color::Yellow),
                _ => Some(Color::Red),
            },
        }
    });
    entries.collect()
}

fn failures(look: &Look) -> Vec<Entry> {
    let entries = look.failures.iter().map(|failed| {
        let seconds = failed.ended_ms / 1_000;
        let when = format!(
            "{:02}:{:02}:{:02}",
            seconds / 3_600 % 24,
            seconds / 60 % 60,
            seconds % 60
        );
        let code = failed.error["code"].as_i64().unwrap_or(0);
        let message = failed.error["message"].as_str().unwrap_or(&failed.state);
        let text = |text: &str| (clean(text), Sort::Text(text.to_owned()));
        let (cells, sort) = [
            (when, Sort::Number(failed.ended_ms as f64)),
            text(&failed.id),
            text(failed.method.as_deref().unwrap_or("(raw)")),
            text(failed.slot.as_deref().unwrap_or("-")),
            (code.to_string(), Sort::Number(code as f64)),
            text(message),
        ]
        .into_iter()
        .unzip();
        Entry {
            key: failed.id.clone(),
            cells,
            sort,
            color: None,
        }
    });
    entries.collect()
}

/// Five blocks and a number.
fn bar(share: f64) -> String {
    let full = (share * 5.0).round() as usize;
    format!(
        "{}{} {:>3.0}%",
        "█".repeat(full),
        "░".repeat(5 - full),
        share * 100.0
    )
}

fn rate(value: f64) -> String {
    if value < 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

fn time(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".into(),
        Some(s) if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        Some(s) if s < 1e-2 => format!("{:.2} ms", s * 1e3),
        Some(s) if s < 1.0 => format!("{:.0} ms", s * 1e3),
        Some(s) => duration_text(s),
    }
}

#[cfg(test)]
mod tests {
    use super::super::look::tests::look;
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use std::time::{Duration, Instant};

    fn screen(view: &mut View, width: u16, height: u16) -> String {
        let start = Instant::now();
        let (before, now) = (look(100, start), look(300, start + Duration::from_secs(2)));
        let since = Since::between(&before, &now);
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal
            .draw(|frame| view.draw(frame, Some(&now), &since))
            .unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn all_that_matters_is_on_the_screen_and_nothing_moves_the_cursor() {
        let text = screen(&mut View::new(false), 110, 24);
        for part in [
            "lab on atlas",
            "calls/s 100",
            "p50 750 µs",
            "queued 5",
            "slots 1 of 2 busy",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        for part in [
            "w.1",
            "busy",
            "█████ 100%",
            "c9",
            "slow",
            "12.0 s",
            "ValueError: no\u{fffd}[2J",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn a_small_window_shows_what_fits() {
        for (width, height) in [(1, 1), (20, 5), (60, 10), (300, 100)] {
            screen(&mut View::new(true), width, height);
        }
    }

    #[test]
    fn rows_are_sorted_by_any_column_either_way() {
        let start = Instant::now();
        let (before, now) = (look(1, start), look(2, start + Duration::from_secs(1)));
        let since = Since::between(&before, &now);
        let mut view = View::new(false);
        let first = |view: &View| view.entries(Pane::Slots, &now, &since)[0].key.clone();
        assert_eq!(first(&view), "w.1");
        view.lists[Pane::Slots as usize].is_reversed = true;
        assert_eq!(first(&view), "w.2");
        for pane in Pane::ALL {
            view.pane = pane;
            for sort in 0..view.columns() {
                view.lists[pane as usize].sort = sort;
                assert!(!view.entries(pane, &now, &since).is_empty());
            }
        }
    }
}
