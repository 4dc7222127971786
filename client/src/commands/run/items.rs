//! The items of `muster run`: behind `:::`, or lines of standard input.

use super::Event;
use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, Sender};

/// A longer line is no item.
const ITEM_BYTES_MAX: u64 = 1 << 20;

/// Where the items come from.
pub enum Items {
    /// They were typed.
    Given(Vec<String>),
    /// Lines of standard input, ended by this byte.
    Stdin(u8),
}

/// An item, or why it is none.
pub type Item = Result<String, String>;

impl Items {
    /// Splits what was typed into the command and its items.
    pub fn split(mut words: Vec<String>, is_nul_separated: bool) -> (Vec<String>, Self) {
        match words.iter().position(|word| word == ":::") {
            Some(at) => {
                let items = words.split_off(at).split_off(1);
                (words, Items::Given(items))
            }
            None => (
                words,
                Items::Stdin(if is_nul_separated { 0 } else { b'\n' }),
            ),
        }
    }

    /// How many there are, if that is known before they are read.
    pub fn count(&self) -> Option<u64> {
        match self {
            Items::Given(items) => Some(items.len() as u64),
            Items::Stdin(_) => None,
        }
    }

    /// Sends an item for each permit that comes, then the end.
    pub fn feed(self, permits: &Receiver<()>, events: &Sender<Event>) {
        match self {
            Items::Given(items) => {
                for item in items {
                    if permits.recv().is_err() || events.send(Event::Item(Ok(item))).is_err() {
                        return;
                    }
                }
                let _ = events.send(Event::InputEnd(Ok(())));
            }
            Items::Stdin(separator) => {
                let result = feed_lines(separator, permits, events);
                let _ = events.send(Event::InputEnd(result));
            }
        }
    }
}

fn feed_lines(separator: u8, permits: &Receiver<()>, events: &Sender<Event>) -> io::Result<()> {
    let mut stdin = io::stdin().lock();
    while permits.recv().is_ok() {
        let mut line = Vec::new();
        stdin
            .by_ref()
            .take(ITEM_BYTES_MAX)
            .read_until(separator, &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        let item = if line.last() == Some(&separator) {
            line.pop();
            String::from_utf8(line).map_err(|_| "the item is not UTF-8".to_owned())
        } else if line.len() as u64 == ITEM_BYTES_MAX {
            stdin.skip_until(separator)?;
            Err(format!("the item is longer than {ITEM_BYTES_MAX} bytes"))
        } else {
            String::from_utf8(line).map_err(|_| "the item is not UTF-8".to_owned())
        };
        if events.send(Event::Item(item)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
