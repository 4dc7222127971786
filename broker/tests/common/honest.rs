//! A worker that serves by itself, in a thread, as the worker protocol wants it: it beats, answers
//! at once, and introduces itself again to a broker that does not know it.

use super::{Broker, FakeWorker, Given};
use muster_proto::socket::{Context, Frame};
use muster_proto::worker::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const BEAT: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(20);

/// What it answers to a call; `None`: nothing.
pub type Answer = fn(&Given) -> Option<String>;

/// A worker with one slot in a thread of its own.
pub struct HonestWorker {
    leave: Arc<AtomicBool>,
    /// How often it had to introduce itself again.
    pub returns: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl HonestWorker {
    /// Answers every call with its own parameters.
    pub fn echo(context: &Context, broker: &Broker, name: &str, methods: &[&str]) -> Self {
        Self::join(context, broker, name, methods, |given| {
            Some(given.params.clone())
        })
    }

    pub fn join(
        context: &Context,
        broker: &Broker,
        name: &str,
        methods: &[&str],
        answer: Answer,
    ) -> Self {
        let worker = FakeWorker::join(context, broker, name, 1, methods);
        let leave = Arc::new(AtomicBool::new(false));
        let returns = Arc::new(AtomicU64::new(0));
        let (asked, returned) = (leave.clone(), returns.clone());
        let thread = std::thread::spawn(move || serve(worker, answer, &asked, &returned));
        HonestWorker {
            leave,
            returns,
            thread: Some(thread),
        }
    }
}

impl Drop for HonestWorker {
    fn drop(&mut self) {
        self.leave.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_none_or(|ended| ended.is_ok()));
    }
}

fn serve(mut worker: FakeWorker, answer: Answer, leave: &AtomicBool, returns: &AtomicU64) {
    let mut beaten = Instant::now();
    while !leave.load(Ordering::Relaxed) {
        let mut frames = Vec::new();
        if worker.slots[0].recv_timeout(&mut frames, PAUSE).unwrap()
            && Command::read(&frames[0]) == Ok(Command::Calls)
        {
            for given in FakeWorker::read_calls(&frames) {
                if let Some(result) = answer(&given) {
                    worker.reply(0, given.dispatch, &result);
                }
            }
        }
        if beaten.elapsed() >= BEAT {
            beaten = Instant::now();
            worker.beat();
        }
        if is_unknown(&worker, &mut frames) {
            returns.fetch_add(1, Ordering::Relaxed);
            worker.register();
            worker.slots.clear();
            worker.join_slot(1);
        }
    }
}

fn is_unknown(worker: &FakeWorker, frames: &mut Vec<Frame>) -> bool {
    let mut is_unknown = false;
    while worker.control.recv_into(frames).unwrap() {
        is_unknown |= Command::read(&frames[0]) == Ok(Command::Who);
    }
    is_unknown
}
