//! The joblog of a map: items are remembered from their reading to their outcome.

use crate::joblog::{Done, JobKey, Joblog, JoblogError, Row};
use muster_client::{Block, ItemOutcome, Items, Next};
use muster_proto::exit::Exit;
use muster_proto::rpc::RpcError;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Of a longer item the log has the beginning.
const ITEM_BYTES_MAX: usize = 1_024;

/// A source whose items are remembered; those that the log has are left out.
pub struct Logged<S> {
    source: S,
    method: String,
    done: Done,
    /// Lines read so far.
    seq: u64,
    /// Items handed on so far.
    count: u64,
    memory: Memory,
}

/// Items under way by their numbers in the map, bounded as the map is.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Remembered>>);

#[derive(Default)]
struct Remembered {
    items: HashMap<u64, Item>,
    left_out: u64,
}

struct Item {
    seq: u64,
    key: JobKey,
    bytes: u64,
    text: String,
}

impl<S: Items> Logged<S> {
    pub fn new(source: S, method: &str, done: Done) -> Self {
        Logged {
            source,
            method: method.to_owned(),
            done,
            seq: 0,
            count: 0,
            memory: Memory::default(),
        }
    }

    /// What the other side of the map asks.
    pub fn memory(&self) -> Memory {
        self.memory.clone()
    }

    fn remember(&mut self, key: JobKey, item: &[u8]) {
        let text = String::from_utf8_lossy(&item[..item.len().min(ITEM_BYTES_MAX)]);
        let remembered = Item {
            seq: self.seq,
            key,
            bytes: item.len() as u64,
            text: text.into_owned(),
        };
        self.memory.lock().items.insert(self.count, remembered);
        self.count += 1;
    }
}

impl<S: Items> Items for Logged<S> {
    fn next_into(&mut self, out: &mut Vec<u8>, wait: Option<Duration>) -> Next {
        let start = out.len();
        loop {
            let next = self.source.next_into(out, wait);
            if !matches!(next, Next::Item | Next::Unfit(_)) {
                return next;
            }
            self.seq += 1;
            let key = JobKey::of(&[b"map", self.method.as_bytes(), &out[start..]]);
            if self.done.covers(self.seq, key) {
                out.truncate(start);
                self.memory.lock().left_out += 1;
                continue;
            }
            self.remember(key, &out[start..]);
            return next;
        }
    }
}

impl Memory {
    /// Adds a block's outcomes to the log, which the caller has printed.
    ///
    /// # Errors
    /// When the log takes no more.
    pub fn log(&self, block: &Block, method: &str, log: &mut Joblog) -> Result<(), JoblogError> {
        let took = block.took();
        let started = SystemTime::now() - block.sent().elapsed();
        let mut memory = self.lock();
        for (number, outcome) in (block.first()..).zip(block.outcomes()) {
            let Some(item) = memory.items.remove(&number) else {
                continue;
            };
            let (exit, host, bytes) = match outcome {
                ItemOutcome::Result(text) => (0, None, text.len()),
                ItemOutcome::Error(text) => {
                    let error: Option<RpcError> = serde_json::from_str(text).ok();
                    let exit = error
                        .as_ref()
                        .map_or(Exit::Failed, |e| Exit::of_code(e.code));
                    (exit.number(), error.and_then(|e| host(&e)), text.len())
                }
            };
            log.add(&Row {
                seq: item.seq,
                host: host.as_deref(),
                started,
                // An item's fair share of the request that carried it.
                runtime: took / block.items().max(1),
                sent_bytes: item.bytes,
                received_bytes: bytes as u64,
                exit,
                signal: 0,
                command: &format!("{method} {}", item.text),
                key: item.key,
                attempts: block.sends(),
            });
        }
        drop(memory);
        log.flush()
    }

    /// Lines that the log had already.
    pub fn left_out(&self) -> u64 {
        self.lock().left_out
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a call failed, if its error says so.
fn host(error: &RpcError) -> Option<String> {
    #[derive(Deserialize)]
    struct Place {
        host: Option<String>,
        #[serde(default)]
        attempts: Vec<Place>,
    }
    let place: Place = serde_json::from_str(error.data.as_ref()?.get()).ok()?;
    place
        .host
        .or_else(|| place.attempts.into_iter().next_back()?.host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::joblog::Resume;

    #[test]
    fn lines_that_the_log_has_are_left_out_and_the_others_keep_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (mut log, _) = Joblog::open(&path, Resume::No).unwrap();
        let key = |item: &[u8]| JobKey::of(&[b"map", b"m", item]);
        for (seq, item) in [(1, &b"10"[..]), (3, b"30")] {
            log.add(&Row {
                seq,
                host: None,
                started: SystemTime::now(),
                runtime: Duration::ZERO,
                sent_bytes: 2,
                received_bytes: 2,
                exit: 0,
                signal: 0,
                command: "m",
                key: key(item),
                attempts: 1,
            });
        }
        log.flush().unwrap();
        let (_, done) = Joblog::open(&path, Resume::Ended).unwrap();
        // The third line is another one now.
        let mut source = Logged::new([10, 20, 31, 40].into_iter(), "m", done);
        let mut out = Vec::new();
        let mut handed = 0;
        while matches!(source.next_into(&mut out, None), Next::Item) {
            handed += 1;
        }
        assert_eq!((handed, out.as_slice()), (3, &b"203140"[..]));
        let memory = source.memory();
        assert_eq!(memory.left_out(), 1);
        let seqs: Vec<u64> = (0..3).map(|n| memory.lock().items[&n].seq).collect();
        assert_eq!(seqs, [2, 3, 4]);
    }
}
