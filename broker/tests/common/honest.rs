//! A worker that serves by itself, in a thread, as the worker protocol wants it: it beats, answers
//! at once, and introduces itself again to a broker that does not know it.

use super::{Broker, FakeWorker, Given};
use muster_proto::socket::Context;
use muster_proto::worker::{Command, Welcome};
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
    /// How often it found another broker in place of the one it knew.
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
    let mut epoch = worker.epoch.clone();
    let mut frames = Vec::new();
    while !leave.load(Ordering::Relaxed) {
        if worker.slots[0].recv_timeout(&mut frames, PAUSE).unwrap() {
            match Command::read(&frames[0]) {
                Ok(Command::Calls) => {
                    for given in FakeWorker::read_calls(&frames) {
                        if let Some(result) = answer(&given) {
                            worker.reply(0, given.dispatch, &result);
                        }
                    }
                }
                // What is said to a broker that is going is lost, so nothing is waited for.
                Ok(Command::Who) => worker.ask_to_join(0, 1),
                _ => {}
            }
        }
        if beaten.elapsed() >= BEAT {
            beaten = Instant::now();
            worker.beat();
        }
        while worker.control.recv_into(&mut frames).unwrap() {
            match Command::read(&frames[0]) {
                Ok(Command::Who) => worker.ask_to_register(),
                Ok(Command::Welcome) => {
                    let welcome: Welcome = serde_json::from_slice(&frames[1]).unwrap();
                    // A broker that was away knows the slot still; a new one does not.
                    if std::mem::replace(&mut epoch, welcome.epoch.clone()) != welcome.epoch {
                        returns.fetch_add(1, Ordering::Relaxed);
                        worker.renew_slot(0);
                        worker.ask_to_join(0, 1);
                    }
                }
                _ => {}
            }
        }
    }
}
