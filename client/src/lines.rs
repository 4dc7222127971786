//! Lines of a file or pipe as the items of a map.

use crate::error::Error;
use crate::items::{Items, Next};
use muster_proto::code::Code;
use muster_proto::json;
use muster_proto::limits;
use muster_proto::rpc::RpcError;
use muster_proto::socket::{Interest, PollItem, poll};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What is read at once.
const READ_BYTES: usize = 1 << 18;
/// The longest line: a request is a little longer than its item.
const LINE_BYTES_MAX: usize = limits::BODY_BYTES_MAX - 4_096;

/// How lines are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinesOptions {
    /// Every line is a string, even one that is JSON.
    pub is_text: bool,
    /// A NUL byte ends a line, instead of a newline.
    pub is_nul_separated: bool,
}

/// One item a line: JSON, else a string.
pub struct Lines<R> {
    source: R,
    options: LinesOptions,
    buffer: Vec<u8>,
    /// The unread part of the buffer.
    start: usize,
    end: usize,
    /// Up to here the unread part has no separator.
    searched: usize,
    is_at_end: bool,
    read_bytes: u64,
    taken: Arc<Taken>,
}

/// How much of the input has become items.
#[derive(Debug, Default)]
pub struct Taken {
    items: AtomicU64,
    bytes: AtomicU64,
}

impl Taken {
    /// How many bytes the first `items` had, as far as lines are of one length: reading runs ahead of
    /// what is answered.
    pub fn bytes_of(&self, items: u64) -> u64 {
        let taken = self.items.load(Ordering::Relaxed).max(1);
        let bytes = self.bytes.load(Ordering::Relaxed);
        let share = u128::from(bytes) * u128::from(items.min(taken)) / u128::from(taken);
        u64::try_from(share).unwrap_or(bytes)
    }

    fn add(&self, bytes: u64) {
        // One thread writes.
        let items = self.items.load(Ordering::Relaxed) + 1;
        self.items.store(items, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }
}

/// What a look into the buffer found.
enum Found {
    Line { start: usize, end: usize },
    TooLong(usize),
    NotYet,
    End,
}

impl<R: Read + AsFd + Send> Lines<R> {
    /// Reads the lines of `source`.
    pub fn new(source: R, options: LinesOptions) -> Self {
        Lines {
            source,
            options,
            buffer: vec![0; READ_BYTES],
            start: 0,
            end: 0,
            searched: 0,
            is_at_end: false,
            read_bytes: 0,
            taken: Arc::default(),
        }
    }

    /// How much has become items so far, for a progress bar.
    pub fn taken(&self) -> Arc<Taken> {
        Arc::clone(&self.taken)
    }

    fn find(&mut self, wait: Option<Duration>) -> io::Result<Found> {
        let separator = if self.options.is_nul_separated {
            0
        } else {
            b'\n'
        };
        loop {
            let unsearched = &self.buffer[self.searched..self.end];
            if let Some(at) = memchr::memchr(separator, unsearched) {
                let (start, end) = (self.start, self.searched + at);
                self.start = end + 1;
                self.searched = self.start;
                return Ok(Found::Line { start, end });
            }
            self.searched = self.end;
            if self.is_at_end {
                let (start, end) = (self.start, self.end);
                self.start = end;
                // The last line needs no separator.
                return Ok(if start < end {
                    Found::Line { start, end }
                } else {
                    Found::End
                });
            }
            if self.end - self.start > LINE_BYTES_MAX {
                return self.skip_line(separator).map(Found::TooLong);
            }
            if let Some(wait) = wait {
                let mut items = [PollItem::fd(&self.source, Interest::Read)];
                // An error shows at the read; a broken end is readable, too.
                if matches!(poll(&mut items, Some(wait)), Ok(0)) {
                    return Ok(Found::NotYet);
                }
            }
            self.fill()?;
        }
    }

    /// Reads more behind what is unread.
    fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 && self.buffer.len() - self.end < READ_BYTES / 2 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.searched -= self.start;
            self.start = 0;
        }
        if self.buffer.len() - self.end < READ_BYTES / 2 {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(count) => {
                    self.is_at_end = count == 0;
                    self.end += count;
                    self.read_bytes += count as u64;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Drops a line that is too long to be kept; its length.
    fn skip_line(&mut self, separator: u8) -> io::Result<usize> {
        let mut length = 0;
        loop {
            let found = memchr::memchr(separator, &self.buffer[self.searched..self.end]);
            let line_end = found.map_or(self.end, |at| self.searched + at);
            length += line_end - self.start;
            self.start = line_end + usize::from(found.is_some());
            self.searched = self.start;
            if found.is_some() || self.is_at_end {
                return Ok(length);
            }
            self.fill()?;
        }
    }
}

impl<R: Read + AsFd + Send> Items for Lines<R> {
    fn next_into(&mut self, out: &mut Vec<u8>, wait: Option<Duration>) -> Next {
        let found = self.find(wait);
        if matches!(found, Ok(Found::Line { .. } | Found::TooLong(_))) {
            let unread = (self.end - self.start) as u64;
            self.taken.add(self.read_bytes - unread);
        }
        match found {
            Ok(Found::Line { start, end }) => {
                match write_item(&self.buffer[start..end], self.options.is_text, out) {
                    Ok(()) => Next::Item,
                    Err(error) => Next::Unfit(error),
                }
            }
            Ok(Found::TooLong(bytes)) => {
                Next::Unfit(RpcError::too_large("line_bytes", bytes, LINE_BYTES_MAX))
            }
            Ok(Found::NotYet) => Next::NotYet,
            Ok(Found::End) => Next::End,
            Err(error) => Next::Broken(Error::BadInput {
                what: "input",
                reason: error.to_string(),
            }),
        }
    }
}

/// Appends a line as JSON. Valid JSON passes byte for byte.
fn write_item(line: &[u8], is_text: bool, out: &mut Vec<u8>) -> Result<(), RpcError> {
    if !is_text && is_integer(line) {
        out.extend_from_slice(line);
        return Ok(());
    }
    let text = std::str::from_utf8(line)
        .map_err(|_| RpcError::new(Code::InvalidParams).message("the line is not UTF-8"))?;
    if !is_text {
        // Depth is the broker's to judge; this parser does not recurse.
        if json::is_value(line) {
            out.extend_from_slice(line);
            return Ok(());
        }
    }
    serde_json::to_writer(&mut *out, text).expect("a string is JSON");
    Ok(())
}

/// The most common lines, recognised without a parser.
fn is_integer(line: &[u8]) -> bool {
    let digits = line.strip_prefix(b"-").unwrap_or(line);
    match digits {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Seek, Write};

    fn items(input: &[u8], options: LinesOptions) -> Vec<Result<String, i64>> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(input).unwrap();
        file.rewind().unwrap();
        let mut lines: Lines<File> = Lines::new(file, options);
        let mut found = Vec::new();
        loop {
            let mut out = Vec::new();
            match lines.next_into(&mut out, None) {
                Next::Item => found.push(Ok(String::from_utf8(out).unwrap())),
                Next::Unfit(error) => found.push(Err(error.code)),
                Next::End => return found,
                other => panic!("{other:?}"),
            }
        }
    }

    fn oks(texts: &[&str]) -> Vec<Result<String, i64>> {
        texts.iter().map(|text| Ok((*text).to_owned())).collect()
    }

    #[test]
    fn a_line_is_json_as_written_or_else_a_string() {
        let plain = LinesOptions::default();
        assert_eq!(
            items(
                b"5\n-0.5e3\n [1, 2]\nhello \"x\"\n\n01\ntrue\r\nlast",
                plain
            ),
            oks(&[
                "5",
                "-0.5e3",
                " [1, 2]",
                r#""hello \"x\"""#,
                "\"\"",
                "\"01\"",
                "true\r",
                "\"last\""
            ])
        );
        assert_eq!(items(b"", plain), oks(&[]));
        assert_eq!(items(b"1\n", plain), oks(&["1"]));
        let text = LinesOptions {
            is_text: true,
            ..plain
        };
        assert_eq!(items(b"5\nx\n", text), oks(&["\"5\"", "\"x\""]));
        let nul = LinesOptions {
            is_nul_separated: true,
            ..plain
        };
        assert_eq!(items(b"a\nb\x005\0", nul), oks(&[r#""a\nb""#, "5"]));
    }

    #[test]
    fn what_is_answered_counts_and_not_what_is_read_ahead() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"10\n20\n30\n40\n").unwrap();
        file.rewind().unwrap();
        let mut lines: Lines<File> = Lines::new(file, LinesOptions::default());
        let taken = lines.taken();
        assert_eq!(taken.bytes_of(0), 0);
        let mut out = Vec::new();
        assert!(matches!(lines.next_into(&mut out, None), Next::Item));
        assert_eq!((taken.bytes_of(0), taken.bytes_of(1)), (0, 3));
        while matches!(lines.next_into(&mut out, None), Next::Item) {}
        assert_eq!([1, 2, 4].map(|items| taken.bytes_of(items)), [3, 6, 12]);
    }

    #[test]
    fn a_line_that_cannot_be_sent_fails_alone() {
        let mut input = b"1\n\xff\n".to_vec();
        input.resize(input.len() + LINE_BYTES_MAX + READ_BYTES, b'x');
        input.extend(b"\n2\n");
        let found = items(&input, LinesOptions::default());
        assert_eq!(
            found,
            [Ok("1".into()), Err(-32602), Err(-32005), Ok("2".into())]
        );
    }

    #[test]
    fn a_deeply_nested_line_is_json_and_stays_so() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(
            items(deep.as_bytes(), LinesOptions::default()),
            oks(&[&deep])
        );
    }

    #[test]
    fn lines_longer_than_the_buffer_come_whole() {
        let long = "x".repeat(3 * READ_BYTES);
        let input = format!("1\n{long}\n2\n{long}\n");
        let found = items(input.as_bytes(), LinesOptions::default());
        let quoted = format!("\"{long}\"");
        assert_eq!(found, oks(&["1", &quoted, "2", &quoted]));
    }

    #[test]
    fn a_pipe_that_has_nothing_now_says_so() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut lines = Lines::new(reader, LinesOptions::default());
        let mut out = Vec::new();
        let soon = Some(Duration::from_millis(1));
        assert!(matches!(lines.next_into(&mut out, soon), Next::NotYet));
        writer.write_all(b"1\n2").unwrap();
        assert!(matches!(lines.next_into(&mut out, soon), Next::Item));
        assert!(matches!(lines.next_into(&mut out, soon), Next::NotYet));
        drop(writer);
        assert!(matches!(lines.next_into(&mut out, soon), Next::Item));
        assert!(matches!(lines.next_into(&mut out, soon), Next::End));
        assert_eq!(out, b"12");
    }
}
