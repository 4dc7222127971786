//! What `muster top` draws.

use super::look::{Look, Since};
use super::pane::{Pane, Width};
use super::rows::{self, Entry};
use super::text::{rate, time};
use crate::output::{clean, duration_text};
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};

/// A list has a title and a header above its rows.
const LIST_HEAD: u16 = 2;
/// In less room than this for all lists, the chosen one has it all.
const ROOM_FOR_ALL: u16 = 12;
/// Narrower windows have less space between columns.
const NARROW: u16 = 60;

/// The keys, the most wanted first; shown are those that fit.
const KEYS: [(&str, &str); 8] = [
    ("q", "quit"),
    ("Tab", "next list"),
    ("d", "drain"),
    ("c", "cancel"),
    ("s", "sort"),
    ("r", "reverse"),
    ("p", "pause"),
    ("↑↓", "row"),
];

/// How one list is looked at.
#[derive(Default)]
pub struct ListState {
    pub table: TableState,
    sort: usize,
    pub is_reversed: bool,
    /// The columns that were drawn last.
    shown: Vec<usize>,
}

/// What is on the screen besides the figures.
pub struct View {
    pub has_color: bool,
    pub pane: Pane,
    lists: [ListState; 3],
    /// A question that waits for `y`, or what the last key led to.
    pub message: Option<String>,
    pub is_paused: bool,
    /// Why there is nothing new.
    pub away: Option<String>,
}

impl View {
    pub fn new(has_color: bool) -> Self {
        // Methods by their rate: of many most rest.
        let methods = ListState {
            sort: 1,
            ..ListState::default()
        };
        View {
            has_color,
            pane: Pane::Slots,
            lists: [methods, ListState::default(), ListState::default()],
            message: None,
            is_paused: false,
            away: None,
        }
    }

    /// The list that the keys are for.
    pub fn list(&mut self) -> &mut ListState {
        &mut self.lists[self.pane as usize]
    }

    /// Sorts the chosen list by the next of the columns on the screen.
    pub fn sort_by_next(&mut self) {
        let list = self.list();
        let at = list.shown.iter().position(|column| *column == list.sort);
        let next = at.map_or(0, |at| at + 1);
        list.sort = *list.shown.get(next).or(list.shown.first()).unwrap_or(&0);
    }

    /// What the chosen row is about.
    pub fn chosen(&self, look: &Look, since: &Since) -> Option<String> {
        let at = self.lists[self.pane as usize].table.selected()?;
        let mut entries = self.entries(self.pane, look, since).into_iter();
        entries.nth(at).map(|entry| entry.key)
    }

    /// Draws all of it.
    pub fn draw(&mut self, frame: &mut Frame<'_>, look: Option<&Look>, since: &Since) {
        let areas = Layout::vertical([
            // The fourth line is empty.
            Constraint::Length(if frame.area().height < 20 { 3 } else { 4 }),
            Constraint::Fill(1),
            Constraint::Length(1),
        ]);
        let [head, body, foot] = areas.areas(frame.area());
        self.draw_head(frame, head, look, since);
        if let Some(look) = look {
            let heights = self.heights(body.height, look);
            let places = Layout::vertical(heights.map(Constraint::Length)).split(body);
            for (pane, place) in Pane::ALL.into_iter().zip(places.iter()) {
                if place.height > 0 {
                    self.draw_list(frame, *place, pane, look, since);
                }
            }
        }
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let line = match &self.message {
            Some(message) => Line::styled(message.clone(), bold),
            None => self.fitting(foot.width, 2, KEYS, |key, does| {
                vec![
                    Span::styled(key.to_owned(), bold),
                    self.quiet(format!(" {does}")),
                ]
            }),
        };
        frame.render_widget(Paragraph::new(line), foot);
    }

    fn draw_head(&self, frame: &mut Frame<'_>, area: Rect, look: Option<&Look>, since: &Since) {
        let (text, color) = match (&self.away, self.is_paused) {
            (Some(reason), _) => (clean(reason), Color::Red),
            (None, true) => ("paused".into(), Color::Yellow),
            (None, false) => ("live".into(), Color::Green),
        };
        let state = Line::styled(format!("● {text}"), self.color(color));
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let mut lines = vec![Line::styled("muster top", bold)];
        if let Some(look) = look {
            let status = &look.status;
            let about = format!(
                "  {} on {} · {} · up {}",
                clean(&status.name),
                clean(&status.host),
                clean(&status.version),
                duration_text(status.uptime_s)
            );
            lines[0].push_span(self.quiet(about));
            if status.draining {
                lines[0].push_span(Span::styled(" · draining", self.color(Color::Yellow)));
            }
            let figure = |label: &str, value: String| self.figure(label, value);
            lines.push(self.fitting(area.width, 3, speed(since), figure));
            lines.push(self.fitting(area.width, 3, counts(look), figure));
        }
        frame.render_widget(Paragraph::new(lines), area);
        // On the right, over what does not matter as much.
        let width = u16::try_from(state.width()).unwrap_or(u16::MAX);
        let width = width.saturating_add(1).min(area.width);
        let corner = Rect {
            x: area.right() - width,
            width,
            height: area.height.min(1),
            ..area
        };
        frame.render_widget(Paragraph::new(state).alignment(Alignment::Right), corner);
    }

    /// A figure is red when it is one that should be none and isn't.
    fn figure(&self, label: &str, value: String) -> Vec<Span<'static>> {
        let is_bad = matches!(label, "failed" | "failed/s" | "lost") && value != "0";
        let color = if is_bad {
            self.color(Color::Red)
        } else {
            Style::new()
        };
        vec![
            self.quiet(format!("{label} ")),
            Span::styled(value, color.add_modifier(Modifier::BOLD)),
        ]
    }

    /// As many of these as the width has room for.
    fn fitting<L, V>(
        &self,
        width: u16,
        gap: usize,
        parts: impl IntoIterator<Item = (L, V)>,
        draw: impl Fn(L, V) -> Vec<Span<'static>>,
    ) -> Line<'static> {
        let mut line = Line::default();
        for (label, value) in parts {
            let spans = draw(label, value);
            let gap = if line.spans.is_empty() { 0 } else { gap };
            let more: usize = spans.iter().map(Span::width).sum();
            if line.width() + gap + more > usize::from(width) {
                break;
            }
            line.push_span(" ".repeat(gap));
            line.extend(spans);
        }
        line
    }

    fn color(&self, color: Color) -> Style {
        match self.has_color {
            true => Style::new().fg(color),
            false => Style::new(),
        }
    }

    /// Text beside what matters.
    fn quiet(&self, text: String) -> Span<'static> {
        Span::styled(text, self.color(Color::DarkGray))
    }

    fn draw_list(
        &mut self,
        frame: &mut Frame<'_>,
        area: Rect,
        pane: Pane,
        look: &Look,
        since: &Since,
    ) {
        let entries = self.entries(pane, look, since);
        let [title, table] =
            Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
        frame.render_widget(
            Paragraph::new(self.title(pane, &entries, title.width)),
            title,
        );
        let gap = if area.width < NARROW { 1 } else { 2 };
        let longest = |column: usize| {
            let texts = entries.iter().map(|entry| &entry.cells[column].text);
            texts.map(|text| Span::raw(text).width()).max().unwrap_or(0)
        };
        let fitting = pane.fit(area.width, gap, longest);
        let is_chosen = self.pane == pane;
        let rows = entries.iter().map(|entry| {
            Row::new(fitting.iter().map(|(column, _)| {
                let cell = &entry.cells[*column];
                let style = cell.color.map_or(Style::new(), |color| self.color(color));
                aligned(&cell.text, pane, *column).style(style)
            }))
        });
        let list = &self.lists[pane as usize];
        let header = fitting.iter().map(|(column, _)| {
            let mark = match (*column == list.sort, list.is_reversed) {
                (true, false) => "▾",
                (true, true) => "▴",
                (false, _) => "",
            };
            let name = pane.columns()[*column].name;
            aligned(&format!("{name}{mark}"), pane, *column)
        });
        let widths = fitting.iter().map(|(_, cells)| Constraint::Length(*cells));
        let mut chosen = Style::new();
        if is_chosen {
            chosen = chosen.add_modifier(Modifier::REVERSED);
        }
        let table_widget = Table::new(rows, widths)
            .column_spacing(gap)
            .header(Row::new(header).style(self.color(Color::DarkGray)))
            .row_highlight_style(chosen);
        let list = &mut self.lists[pane as usize];
        list.shown = fitting.iter().map(|(column, _)| *column).collect();
        let last = entries.len().checked_sub(1);
        let at = list.table.selected().unwrap_or(0);
        list.table.select(last.map(|last| at.min(last)));
        frame.render_stateful_widget(table_widget, table, &mut list.table);
    }

    /// A rule with the list's name; the chosen list's stands out, in colour or not.
    fn title(&self, pane: Pane, entries: &[Entry], width: u16) -> Line<'static> {
        let is_chosen = self.pane == pane;
        let mark = if is_chosen { "▸ " } else { "─ " };
        let name = format!("{mark}{}", pane.title());
        let count = format!(" {} ", entries.len());
        let used = Span::raw(&name).width() + Span::raw(&count).width();
        let rule = "─".repeat(usize::from(width).saturating_sub(used));
        let style = match is_chosen {
            true => self.color(Color::Cyan).add_modifier(Modifier::BOLD),
            false => Style::new().add_modifier(Modifier::BOLD),
        };
        Line::from(vec![
            Span::styled(name, style),
            self.quiet(count),
            self.quiet(rule),
        ])
    }

    /// The rows of a list as it is sorted.
    fn entries(&self, pane: Pane, look: &Look, since: &Since) -> Vec<Entry> {
        let list = &self.lists[pane as usize];
        rows::rows(pane, look, since, list.sort, list.is_reversed)
    }

    /// Lines for each list. When not all fit, methods and failures keep to a share and the slots get
    /// what these do not need.
    fn heights(&self, height: u16, look: &Look) -> [u16; 3] {
        if height < ROOM_FOR_ALL {
            return Pane::ALL.map(|pane| if pane == self.pane { height } else { 0 });
        }
        let needs = Pane::ALL.map(|pane| lines_of(pane, look));
        if needs.iter().map(|needs| usize::from(*needs)).sum::<usize>() <= usize::from(height) {
            return needs;
        }
        let [methods, slots, failures] = needs;
        let mut methods_height = methods.min(height / 3);
        let failures_height = failures.min(height / 4);
        let slots_height = slots.min(height - methods_height - failures_height);
        let left = height - methods_height - failures_height - slots_height;
        let more = left.min(methods - methods_height);
        methods_height += more;
        [methods_height, slots_height, failures_height + left - more]
    }
}

/// Figures stand on the right of their column.
fn aligned(text: &str, pane: Pane, column: usize) -> Cell<'static> {
    let line = Line::raw(text.to_owned());
    Cell::from(match pane.columns()[column].width {
        Width::Figure(_) => line.alignment(Alignment::Right),
        Width::Word(_) | Width::Name(_) | Width::Rest(_) => line,
    })
}

/// What a list needs to show all it has.
fn lines_of(pane: Pane, look: &Look) -> u16 {
    let rows = rows::count(pane, look).max(1);
    u16::try_from(rows).unwrap_or(u16::MAX - LIST_HEAD) + LIST_HEAD
}

/// How many lines would show everything.
pub fn height_of(look: &Look) -> usize {
    let lists = Pane::ALL.map(|pane| usize::from(lines_of(pane, look)));
    let rest = 5;
    rest + lists.iter().sum::<usize>().max(usize::from(ROOM_FOR_ALL))
}

/// How fast it goes, the most wanted first.
fn speed(since: &Since) -> [(&'static str, String); 5] {
    let per_second = |value: Option<f64>| value.map_or_else(|| "-".into(), rate);
    [
        ("calls/s", per_second(since.rate)),
        ("p50", time(since.latency.p50)),
        ("p95", time(since.latency.p95)),
        ("p99", time(since.latency.p99)),
        (
            "failed/s",
            since.failed_rate.map_or_else(|| "0".into(), rate),
        ),
    ]
}

/// How much there is of everything, the most wanted first.
fn counts(look: &Look) -> [(&'static str, String); 8] {
    let calls = |member: &str| look.calls(member).to_string();
    let failed = look.calls("failed") + look.calls("expired") + look.calls("lost");
    let busy = format!("{} of {} busy", look.slots("busy"), look.slots("total"));
    [
        ("queued", calls("queued")),
        ("slots", busy),
        ("failed", failed.to_string()),
        ("running", calls("running")),
        ("workers", look.workers.len().to_string()),
        ("retried", calls("retried")),
        ("shed", calls("shed")),
        ("clients", look.status.clients.to_string()),
    ]
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
            "CallFailed",
            "42 s ago",
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
    fn in_a_low_window_the_chosen_list_has_all_the_room() {
        let mut view = View::new(false);
        let text = screen(&mut view, 40, 12);
        assert!(text.contains("▸ Slots 2") && text.contains("w.2"), "{text}");
        assert!(!text.contains("Methods"), "{text}");
        view.pane = Pane::Failures;
        let text = screen(&mut view, 40, 12);
        assert!(text.contains("▸ Recent failures 1"), "{text}");
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
            screen(&mut view, 200, 60);
            for _ in pane.columns() {
                let before = view.list().sort;
                view.sort_by_next();
                assert_ne!(view.list().sort, before);
                assert!(!view.entries(pane, &now, &since).is_empty());
            }
        }
    }
}
