//! The log: one line for each record, whatever peers have put into it, and few lines for what they
//! can cause as often as they like.

use env_logger::fmt::Formatter;
use env_logger::{Builder, Env};
use log::Record;
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

/// A name, a reason and what they are about fit; what is longer came from a peer.
const RECORD_CHARS_MAX: usize = 4_000;

/// Lines in a second about things that peers cause; the rest are counted and said in one line.
const LINES_MAX: u32 = 5;

/// Starts it.
pub fn init() {
    Builder::from_env(Env::new().filter_or("MUSTER_LOG", "info"))
        .format(write_record)
        .init();
}

fn write_record(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let (time, level) = (out.timestamp(), record.level());
    let style = out.default_level_style(level);
    let text = one_line(record.args());
    let target = record.target();
    writeln!(out, "[{time} {style}{level:<5}{style:#} {target}] {text}")
}

/// The text without anything that ends a line, moves the cursor or turns the direction of writing,
/// and cut.
fn one_line(text: &dyn fmt::Display) -> String {
    let mut line = OneLine::default();
    // It fails where it is full.
    if write!(line, "{text}").is_err() {
        line.text.push_str(" …");
    }
    line.text
}

#[derive(Default)]
struct OneLine {
    text: String,
    chars: usize,
}

impl fmt::Write for OneLine {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if self.chars == RECORD_CHARS_MAX {
                return Err(fmt::Error);
            }
            self.chars += 1;
            if is_active(c) {
                self.text.extend(c.escape_default());
            } else {
                self.text.push(c);
            }
        }
        Ok(())
    }
}

/// Control characters, line and paragraph separators, and marks of direction.
fn is_active(c: char) -> bool {
    let mark =
        matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || mark
}

/// Lets a few lines a second through and counts the others.
#[derive(Debug, Default)]
pub struct LogLimit {
    second: Option<Instant>,
    count: u32,
}

/// Whether a line may be written.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// It may.
    pub says: bool,
    /// Lines that were left out in the second before, when this is the first since.
    pub left_out: u32,
}

impl LogLimit {
    /// Asks for one more line.
    pub fn ask(&mut self) -> Verdict {
        self.ask_at(Instant::now())
    }

    fn ask_at(&mut self, now: Instant) -> Verdict {
        let is_new = self
            .second
            .is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1));
        let left_out = if is_new {
            self.second = Some(now);
            std::mem::take(&mut self.count).saturating_sub(LINES_MAX)
        } else {
            0
        };
        self.count = self.count.saturating_add(1);
        Verdict {
            says: self.count <= LINES_MAX,
            left_out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_the_line_moves_the_cursor_or_turns_the_writing() {
        let forged =
            "w\n[2026-01-01T00:00:00Z INFO muster] all is well\r\x1b[2J\u{202e}\u{2028}\u{85}";
        let line = one_line(&forged);
        assert_eq!(
            line,
            "w\\n[2026-01-01T00:00:00Z INFO muster] all is well\\r\\u{1b}[2J\\u{202e}\\u{2028}\\u{85}"
        );
        assert_eq!(one_line(&"größer, 大きい"), "größer, 大きい");
    }

    #[test]
    fn a_long_text_is_cut() {
        let line = one_line(&"x".repeat(RECORD_CHARS_MAX + 1));
        assert_eq!(line.chars().count(), RECORD_CHARS_MAX + 2);
        let whole = "x".repeat(RECORD_CHARS_MAX);
        assert_eq!(one_line(&whole), whole);
    }

    #[test]
    fn a_few_lines_a_second_are_said_and_the_others_counted() {
        let mut limit = LogLimit::default();
        let start = Instant::now();
        let says = (0..100).filter(|_| limit.ask_at(start).says).count();
        assert_eq!(says, LINES_MAX as usize);
        let later = limit.ask_at(start + Duration::from_secs(1));
        assert_eq!(
            later,
            Verdict {
                says: true,
                left_out: 95
            }
        );
    }
}
