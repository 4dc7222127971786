//! `muster top`: the cluster, live, in a terminal.

mod look;
mod pane;
mod rows;
mod text;
mod view;

use super::{CommandResult, Failure, ask, connect, connect_patiently, on_interrupt};
use crate::cli::{Common, TopArgs};
use crate::output::{Output, clean};
use look::{Look, Since};
use muster_client::Client;
use muster_proto::exit::Exit;
use pane::Pane;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use serde_json::json;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;
use view::View;

/// How long keys are waited for between two looks at whether there is news.
const KEY_PAUSE: Duration = Duration::from_millis(50);
/// How long the end may take once it was asked for.
const END_PAUSE: Duration = Duration::from_secs(1);
/// A broker that is away is said to be so, and asked again.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between the two looks of one printed picture.
const ONCE_PAUSE: Duration = Duration::from_millis(500);
/// Of a printed picture.
const WIDTH: u16 = 120;
const LINES_MAX: usize = 10_000;

/// Draws until `q`; without a terminal prints once.
pub fn run(common: &Common, args: &TopArgs, out: &mut Output) -> CommandResult {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    if args.once || out.json || is_dumb || !io::stdout().is_terminal() {
        return print_once(&connect(common)?, out);
    }
    // A broker that is not there at first is an error, as for every command.
    drop(connect(common)?);
    let client = connect_patiently(common, PATIENCE)?;
    let has_color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    on_interrupt(move || {
        over.store(true, Ordering::Relaxed);
        // The reader of keys may be stuck in a terminal that went away while it read.
        std::thread::sleep(END_PAUSE);
        ratatui::restore();
        std::process::exit(Exit::Done.number());
    })?;
    let (wishes, wished) = mpsc::channel();
    let (news, told) = mpsc::channel();
    let interval = args.interval.max(Duration::from_millis(100));
    std::thread::spawn(move || look_out(&client, interval, &wished, &news));
    let mut top = Top {
        view: View::new(has_color),
        before: None,
        now: None,
        since: Since::default(),
        question: None,
        wishes,
    };
    let mut terminal = ratatui::try_init()?;
    let result = top.show(&mut terminal, &told, &is_over);
    ratatui::try_restore()?;
    result?;
    Ok(Exit::Done)
}

/// Waits a moment for a key. `false`: the terminal is gone, and reading from it would never end.
fn wait_for_keys() -> io::Result<bool> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        // Keys come from the controlling terminal then.
        event::poll(KEY_PAUSE)?;
        return Ok(true);
    }
    let pause = Timespec::try_from(KEY_PAUSE).expect("a fraction of a second");
    let mut items = [PollFd::new(&stdin, PollFlags::IN)];
    match rustix::event::poll(&mut items, Some(&pause)) {
        // A resize comes as a signal.
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
    Ok(!items[0].revents().intersects(gone))
}

/// What the one who draws wants of the one who asks.
enum Wish {
    Drain(String),
    Cancel(String),
}

/// What the one who asks tells.
enum News {
    Look(Box<Look>),
    Away(String),
    Done(String),
}

/// Asks the broker again and again, so that drawing never waits for it.
fn look_out(client: &Client, interval: Duration, wishes: &Receiver<Wish>, news: &Sender<News>) {
    loop {
        let told = match Look::take(client) {
            Ok(look) => News::Look(Box::new(look)),
            Err(failure) => News::Away(format!("the broker is away: {failure}")),
        };
        if news.send(told).is_err() {
            return;
        }
        match wishes.recv_timeout(interval) {
            Ok(wish) => {
                if news.send(News::Done(grant(client, &wish))).is_err() {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn grant(client: &Client, wish: &Wish) -> String {
    let (result, done) = match wish {
        Wish::Drain(worker) => (
            ask(client, "broker.drain", &json!({"worker": worker})),
            format!("{worker} finishes and leaves"),
        ),
        Wish::Cancel(call) => (
            ask(client, "broker.cancel", &json!({"id": call})),
            format!("{call} is cancelled"),
        ),
    };
    match result {
        Ok(_) => done,
        Err(failure) => failure.to_string(),
    }
}

/// What is shown, and the keys.
struct Top {
    view: View,
    before: Option<Box<Look>>,
    now: Option<Box<Look>>,
    since: Since,
    /// Waits for `y`.
    question: Option<Wish>,
    wishes: Sender<Wish>,
}

impl Top {
    fn show(
        &mut self,
        terminal: &mut ratatui::DefaultTerminal,
        told: &Receiver<News>,
        is_over: &AtomicBool,
    ) -> io::Result<()> {
        let mut is_stale = true;
        while !is_over.load(Ordering::Relaxed) {
            for news in told.try_iter() {
                is_stale |= self.hear(news);
            }
            if is_stale {
                terminal.draw(|frame| self.view.draw(frame, self.now.as_deref(), &self.since))?;
                is_stale = false;
            }
            if !wait_for_keys()? {
                return Ok(());
            }
            if event::poll(Duration::ZERO)? {
                match event::read()? {
                    Event::Key(key) if key.kind != KeyEventKind::Release => {
                        if self.press(key) {
                            return Ok(());
                        }
                        is_stale = true;
                    }
                    Event::Resize(..) => is_stale = true,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Takes news in; whether there is something new to see.
    fn hear(&mut self, news: News) -> bool {
        match news {
            News::Away(reason) => self.view.away = Some(reason),
            News::Done(text) => self.view.message = Some(clean(&text)),
            News::Look(_) if self.view.is_paused => return false,
            News::Look(look) => {
                self.view.away = None;
                self.before = self.now.take();
                self.since = self
                    .before
                    .as_ref()
                    .map_or_else(Since::default, |before| Since::between(before, &look));
                self.now = Some(look);
            }
        }
        true
    }

    /// Does what a key means; true: it means the end.
    fn press(&mut self, key: KeyEvent) -> bool {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if let Some(wish) = self.question.take() {
            let is_yes = key.code == KeyCode::Char('y');
            self.view.message = (!is_yes).then(|| "left alone".into());
            if is_yes {
                // The other side ends with this one.
                let _ = self.wishes.send(wish);
            }
            return is_control && key.code == KeyCode::Char('c');
        }
        self.view.message = None;
        let list = self.view.list();
        let at = list.table.selected().unwrap_or(0);
        match key.code {
            KeyCode::Char('c') if is_control => return true,
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Tab | KeyCode::BackTab => {
                let step = if key.code == KeyCode::Tab { 1 } else { 2 };
                self.view.pane = Pane::ALL[(self.view.pane as usize + step) % 3];
            }
            KeyCode::Up | KeyCode::Char('k') => list.table.select(Some(at.saturating_sub(1))),
            KeyCode::Down | KeyCode::Char('j') => list.table.select(Some(at + 1)),
            KeyCode::PageUp => list.table.select(Some(at.saturating_sub(10))),
            KeyCode::PageDown => list.table.select(Some(at + 10)),
            KeyCode::Home => list.table.select(Some(0)),
            KeyCode::End => list.table.select(Some(usize::MAX - 1)),
            KeyCode::Char('s') => self.view.sort_by_next(),
            KeyCode::Char('r') => list.is_reversed = !list.is_reversed,
            KeyCode::Char('p') => self.view.is_paused = !self.view.is_paused,
            KeyCode::Char('d') => self.ask_to_drain(),
            KeyCode::Char('c') => self.ask_to_cancel(),
            _ => {}
        }
        false
    }

    fn chosen_slot(&mut self) -> Option<(String, Option<String>)> {
        let look = self.now.as_ref()?;
        if self.view.pane != Pane::Slots {
            self.view.message = Some("choose a slot first: Tab leads to their list".into());
            return None;
        }
        let name = self.view.chosen(look, &self.since)?;
        let workers = look.workers.iter();
        let mut slots =
            workers.flat_map(|worker| worker.slot_states.iter().map(move |slot| (worker, slot)));
        let (worker, slot) = slots.find(|(_, slot)| slot.name == name)?;
        Some((worker.name.clone(), slot.call.clone()))
    }

    fn ask_to_drain(&mut self) {
        if let Some((worker, _)) = self.chosen_slot() {
            self.view.message = Some(format!("let {} finish and leave? y/n", clean(&worker)));
            self.question = Some(Wish::Drain(worker));
        }
    }

    fn ask_to_cancel(&mut self) {
        match self.chosen_slot() {
            Some((_, Some(call))) => {
                self.view.message = Some(format!("cancel {}? y/n", clean(&call)));
                self.question = Some(Wish::Cancel(call));
            }
            Some((_, None)) => self.view.message = Some("nothing runs there".into()),
            None => {}
        }
    }
}

/// One picture, in plain text or as one object.
fn print_once(client: &Client, out: &mut Output) -> CommandResult {
    let before = Look::take(client)?;
    std::thread::sleep(ONCE_PAUSE);
    let now = Look::take(client)?;
    let since = Since::between(&before, &now);
    if out.json {
        let methods = now.methods.iter().map(|method| {
            let (rate, latency) = since.methods.get(&method.name).copied().unwrap_or_default();
            json!({
                "method": method.name, "rate": rate, "p50_s": latency.p50, "p95_s": latency.p95,
                "p99_s": latency.p99, "queued": method.queued, "slots": method.slots,
                "calls": method.calls, "failures": method.failures,
            })
        });
        let slots = now.workers.iter().flat_map(|worker| &worker.slot_states);
        let slots = slots.map(|slot| {
            let (rate, load) = since.slots.get(&slot.name).copied().unwrap_or_default();
            json!({"slot": slot.name, "state": slot.state, "rate": rate, "load": load, "call": slot.call})
        });
        let object = json!({
            "rate": since.rate, "failed_rate": since.failed_rate, "p50_s": since.latency.p50,
            "p95_s": since.latency.p95, "p99_s": since.latency.p99, "queued": now.calls("queued"),
            "running": now.calls("running"), "methods": methods.collect::<Vec<_>>(),
            "slots": slots.collect::<Vec<_>>(),
        });
        out.line(&object.to_string())?;
        return Ok(Exit::Done);
    }
    let height = view::height_of(&now).min(LINES_MAX) as u16;
    let drawn = Terminal::new(TestBackend::new(WIDTH, height)).and_then(|mut terminal| {
        let mut view = View::new(false);
        view.message = Some(String::new());
        terminal.draw(|frame| view.draw(frame, Some(&now), &since))?;
        Ok(terminal.backend().buffer().clone())
    });
    let buffer = drawn.map_err(|error| Failure::System {
        what: "drawing".into(),
        source: io::Error::other(error),
    })?;
    for row in buffer.content().chunks(usize::from(WIDTH)) {
        let line: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        if !line.trim().is_empty() {
            out.line(line.trim_end())?;
        }
    }
    Ok(Exit::Done)
}
