//! Runs a target on its corpus and on a fixed number of mutations of it: on stable Rust, and the
//! same ones for the same seed.

use crate::target::Target;
use std::fs;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// An input that takes longer is a hang: what is fuzzed takes microseconds.
const HANG: Duration = Duration::from_secs(60);

/// Larger inputs find nothing that smaller ones don't, and take longer.
const INPUT_BYTES_MAX: usize = 4096;

/// What parsers compare with: put in whole, since chance does not find them.
const WORDS: &[&[u8]] = &[
    b"\"jsonrpc\":\"2.0\"",
    b"\"method\":\"m\"",
    b"\"id\":1",
    b"\"id\":null",
    b"\"params\":[]",
    b"\"meta\":{}",
    b"\"meta\":{\"timeout_ms\":5}",
    b"\"meta\":{\"key\":\"k\",\"priority\":-10}",
    b"\"result\":1",
    b"\"error\":{\"code\":-32000,\"message\":\"\"}",
    b"\"token\":\"t\"",
    b"\"slots\":4096",
    b"\"curve\":null",
    b"\\ud800",
    b"1e999",
    b"-0",
    b"\xef\xbb\xbf",
    b"\xff\0\0\0\0\0\0\0\x01\x7f\x03",
    b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x04",
    b"NULL",
    b"CURVE",
    b"\x04READY",
    b"\x04\x07\x04PING\0\0",
    b"<methodCall>",
    b"</value>",
    b"<value><i8>",
    b"<![CDATA[",
    b"<!DOCTYPE a [<!ENTITY b \"c\">]>",
    b"&#x0;",
    b"&amp;",
    b"{\"$literal\":",
];

/// Bytes where a format changes its mind.
const BYTES: &[u8] = b"\x00\x01\x7f\x80\xff{}[]\",:\\<>&/ \n0-9e";

/// SplitMix64: a good enough sequence in three lines.
#[derive(Clone, Debug)]
pub struct Chance(pub u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `end`, without it; 0 when there is nothing.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// Changes an input in one to four places.
pub fn mutate(chance: &mut Chance, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    for _ in 0..=chance.below(4) {
        let at = chance.below(input.len());
        let len = chance.below((input.len() - at).min(64) + 1);
        match chance.below(9) {
            0 if !input.is_empty() => input[at] ^= 1 << chance.below(8),
            1 if !input.is_empty() => input[at] = BYTES[chance.below(BYTES.len())],
            2 => input.insert(at, BYTES[chance.below(BYTES.len())]),
            3 => drop(input.drain(at..at + len)),
            4 => {
                let again = input[at..at + len].repeat(1 + chance.below(8));
                input.splice(at..at, again);
            }
            5 => drop(input.splice(at..at, chance.pick(WORDS).iter().copied())),
            6 => {
                // A piece of another input.
                let other = &corpus[chance.below(corpus.len())];
                let from = chance.below(other.len());
                let piece = &other[from..];
                drop(input.splice(at.., piece.iter().copied()));
            }
            7 => input.truncate(at),
            _ if !input.is_empty() => {
                let number = chance.next().to_be_bytes();
                let number = &number[..number.len().min(input.len() - at)];
                input[at..at + number.len()].copy_from_slice(number);
            }
            _ => {}
        }
    }
    input.truncate(INPUT_BYTES_MAX);
}

/// The inputs of a folder, in the order of their names.
///
/// # Errors
/// When the folder or a file in it can't be read.
pub fn corpus(folder: &Path) -> io::Result<Vec<Vec<u8>>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        paths.push(entry?.path());
    }
    paths.sort();
    paths.iter().map(fs::read).collect()
}

/// Runs the target on every input of the corpus, then on so many mutations; gives the executions.
///
/// # Panics
/// When the target does: with the input, as a Rust literal. A hang ends the process, and says its
/// input first.
pub fn run((name, target): Target, corpus: &[Vec<u8>], mutations: u64, seed: u64) -> u64 {
    assert!(!corpus.is_empty(), "{name} has no corpus");
    let watch = Watch::start(name);
    let execute = |input: &[u8]| {
        watch.begin(input);
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| target(input)));
        if let Err(panic) = outcome {
            eprintln!("{name} fails on b\"{}\"", input.escape_ascii());
            panic::resume_unwind(panic);
        }
    };
    corpus.iter().for_each(|input| execute(input));
    let mut chance = Chance(seed);
    let mut input = Vec::with_capacity(INPUT_BYTES_MAX * 2);
    for count in 0..mutations {
        // Several steps away from the corpus, then back to it.
        if count % 8 == 0 {
            input.clear();
            input.extend_from_slice(&corpus[chance.below(corpus.len())]);
        }
        mutate(&mut chance, &mut input, corpus);
        execute(&input);
    }
    corpus.len() as u64 + mutations
}

/// Says so when one input takes far too long.
struct Watch {
    count: Arc<AtomicU64>,
    input: Arc<Mutex<Vec<u8>>>,
}

impl Watch {
    fn start(name: &'static str) -> Self {
        let watch = Watch {
            count: Arc::default(),
            input: Arc::default(),
        };
        let count = Arc::downgrade(&watch.count);
        let input = Arc::clone(&watch.input);
        thread::spawn(move || {
            let mut before = None;
            loop {
                thread::park_timeout(HANG);
                // The run is over when its end of the counter is gone.
                let Some(now) = count.upgrade().map(|count| count.load(Ordering::Relaxed)) else {
                    return;
                };
                if before == Some(now) {
                    let input = input.lock().unwrap_or_else(PoisonError::into_inner);
                    eprintln!("{name} hangs on b\"{}\"", input.escape_ascii());
                    std::process::abort();
                }
                before = Some(now);
            }
        });
        watch
    }

    fn begin(&self, input: &[u8]) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut kept = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clear();
        kept.extend_from_slice(input);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs() {
        let corpus = [b"{\"a\":1}".to_vec(), Vec::new()];
        let inputs = |seed| {
            let mut chance = Chance(seed);
            let mut input = corpus[0].clone();
            let mutated = |_| {
                mutate(&mut chance, &mut input, &corpus);
                input.clone()
            };
            (0..1000).map(mutated).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
    }

    #[test]
    fn a_target_that_fails_is_found() {
        fn fragile(input: &[u8]) {
            assert!(!input.contains(&b'\\'), "no backslash, please");
        }
        let corpus = [b"abc".to_vec()];
        let found = panic::catch_unwind(|| run(("fragile", fragile), &corpus, 10_000, 1));
        assert!(found.is_err());
    }
}
