//! Results on standard output, the rest on standard error.

use serde_json::Value;
use std::io::{self, IsTerminal, Write};

/// What is written at once.
const BUFFER_BYTES: usize = 1 << 16;

/// The two streams, and how the user wants them.
pub struct Output {
    /// One JSON object a line.
    pub json: bool,
    quiet: bool,
    has_color: bool,
    buffer: Vec<u8>,
}

impl Output {
    /// Standard output as `--json`, `-q` and `NO_COLOR` ask for it.
    pub fn new(json: bool, quiet: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        let has_color = wanted && io::stdout().is_terminal();
        Output {
            json,
            quiet,
            has_color,
            buffer: Vec::with_capacity(BUFFER_BYTES + (1 << 12)),
        }
    }

    /// One line of the result.
    #[inline]
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Bytes of the result, as they are.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        // A plain buffer: a map writes millions of short lines, two pieces each.
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < BUFFER_BYTES {
            Ok(())
        } else {
            self.write_buffer()
        }
    }

    /// Hands everything on to whoever reads it.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            Ok(())
        } else {
            self.write_buffer()
        }
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        // Around the standard library's line buffer, which would look for newlines again.
        let mut rest = &self.buffer[..];
        while !rest.is_empty() {
            match rustix::io::write(io::stdout(), rest) {
                Ok(count) => rest = &rest[count..],
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    self.buffer.clear();
                    return Err(error.into());
                }
            }
        }
        self.buffer.clear();
        Ok(())
    }

    /// A remark for a person, on standard error; `-q` silences it.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            note(text);
        }
    }

    /// Rows under a header, columns padded; numbers to the right.
    pub fn table(&mut self, header: &[&str], rows: &[Vec<Value>]) -> io::Result<()> {
        let digits: Vec<usize> = (0..header.len()).map(|at| fraction(rows, at)).collect();
        let cells: Vec<Vec<String>> = rows
            .iter()
            .map(|row| {
                let shown = row.iter().zip(&digits);
                shown.map(|(value, &digits)| cell(value, digits)).collect()
            })
            .collect();
        let column = |at: usize| cells.iter().filter_map(move |row| row.get(at));
        let widths: Vec<usize> = (0..header.len())
            .map(|at| {
                column(at)
                    .map(|cell| cell.chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .zip(header)
            .map(|(width, name)| width.max(name.chars().count()))
            .collect();
        let is_number: Vec<bool> = (0..header.len())
            .map(|at| {
                let mut values = rows.iter().filter_map(|row| row.get(at));
                !rows.is_empty() && values.all(|value| value.is_number() || value.is_null())
            })
            .collect();
        let padded = |row: &[String]| {
            let mut line = String::new();
            for (at, cell) in row.iter().enumerate() {
                let pad = " ".repeat(widths[at].saturating_sub(cell.chars().count()));
                let gap = if at > 0 { "  " } else { "" };
                line += &match is_number[at] {
                    true => format!("{gap}{pad}{cell}"),
                    false => format!("{gap}{cell}{pad}"),
                };
            }
            line.trim_end().to_owned()
        };
        let header: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
        let head = self.bold(&padded(&header));
        self.line(&head)?;
        cells.iter().try_for_each(|row| self.line(&padded(row)))
    }

    fn bold(&self, text: &str) -> String {
        if self.has_color {
            format!("\x1b[1m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// A line of this program on standard error. That it can't be written is no reason to fail.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "muster: {text}");
}

/// An error and what it came from, as far as its own words leave that out.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(found) = cause {
        let words = found.to_string();
        if !text.ends_with(&words) {
            text += &format!(": {words}");
        }
        cause = found.source();
    }
    text
}

/// How many digits a column's figures have behind the point: all the same, so that points align.
fn fraction(rows: &[Vec<Value>], at: usize) -> usize {
    let figures = rows.iter().filter_map(|row| row.get(at)?.as_f64());
    if figures.fold(0.0, |most: f64, figure| most.max(figure.abs())) < 1_000.0 {
        3
    } else {
        1
    }
}

fn cell(value: &Value, digits: usize) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => clean(text),
        Value::Number(number) if number.is_f64() => {
            format!("{:.digits$}", number.as_f64().unwrap_or_default())
        }
        Value::Array(items) => {
            let items = items.iter().map(|item| cell(item, digits));
            items.collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

/// Names come from peers: nothing in them may move the cursor.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// A number of things: `1 slot`, `2 slots`.
pub fn counted(number: impl Into<u64>, thing: &str) -> String {
    match number.into() {
        1 => format!("1 {thing}"),
        number => format!("{number} {thing}s"),
    }
}

/// A length of time for people.
pub fn duration_text(seconds: f64) -> String {
    let whole = seconds as u64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{minutes} min {} s", whole % 60),
        3600..86_400 => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells_of_any_value_are_one_clean_line() {
        assert_eq!(cell(&json!(null), 3), "-");
        assert_eq!(cell(&json!("a\x1b[2J\n"), 3), "a\u{fffd}[2J\u{fffd}");
        assert_eq!(cell(&json!(1234567), 3), "1234567");
        assert_eq!(cell(&json!(0.12345), 3), "0.123");
        assert_eq!(cell(&json!(["a", 1]), 3), "a 1");
    }

    #[test]
    fn the_figures_of_a_column_have_their_points_in_one_line() {
        let rows = |figures: &[f64]| -> Vec<Vec<Value>> {
            figures.iter().map(|figure| vec![json!(figure)]).collect()
        };
        assert_eq!(fraction(&rows(&[0.25, 103.3]), 0), 3);
        assert_eq!(fraction(&rows(&[162_333.7, 62.0]), 0), 1);
        assert_eq!(fraction(&[vec![json!("a"), json!(null)]], 1), 3);
    }

    #[test]
    fn an_error_is_told_with_its_causes_and_nothing_twice() {
        #[derive(Debug, thiserror::Error)]
        #[error("{text}")]
        struct Told {
            text: &'static str,
            source: Option<io::Error>,
        }
        let full = || Some(io::Error::other("disk full"));
        let told = |text, source| with_causes(&Told { text, source });
        assert_eq!(told("log", full()), "log: disk full");
        assert_eq!(told("log: disk full", full()), "log: disk full");
        assert_eq!(told("log", None), "log");
    }

    #[test]
    fn times_are_readable() {
        assert_eq!(duration_text(2.34), "2.3 s");
        assert_eq!(duration_text(200.0), "3 min 20 s");
        assert_eq!(duration_text(7300.0), "2 h 1 min");
        assert_eq!(duration_text(100_000.0), "1 d 3 h");
    }
}
