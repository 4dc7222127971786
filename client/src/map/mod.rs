//! A method applied to any number of items, with bounded memory.
//!
//! One thread turns items into requests ([`feed`]), the client's transport sends them, and whoever
//! asks for the next [`Block`] reads the replies. Items of methods that take chunks travel together,
//! as many as the measured time of an item makes worth while ([`pace`]). A chunk whose worker is lost
//! is cut into pieces and sent again, so that a poison item costs itself alone.

mod block;
mod chunk;
mod elements;
mod feed;
mod flow;
mod pace;
mod settle;
mod unit;

use crate::client::Client;
use crate::completions::Completions;
use crate::entry::Done;
use crate::error::Error;
use crate::items::Items;
use crate::pending::Pending;
use crate::status::MethodEntry;
use feed::Feed;
use flow::Flow;
use muster_proto::code::Code;
use muster_proto::rpc::RpcError;
use muster_proto::socket::Frame;
use pace::Pace;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
pub(crate) use unit::Unit;
use unit::Writer;

pub use block::{Block, ItemOutcome};

/// How often the number of slots is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How long a stopped map waits for its requests to be cancelled.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// How a map runs.
#[derive(Clone, Debug, Default)]
pub struct MapOptions {
    /// Blocks come as they end, instead of in the order of the items.
    pub is_unordered: bool,
    /// An item that is an array is the list of arguments, instead of the only one.
    pub is_spread: bool,
    /// Items are sent one by one, even to methods that take chunks.
    pub is_single: bool,
    /// Requests under way at most; `None`: as many as keep the slots busy.
    pub in_flight: Option<u32>,
    /// The deadline of each item; zero: none.
    pub timeout: Duration,
    /// How often an item may be started; with 1 items are sent one by one.
    pub attempts_max: Option<u32>,
    /// From -10 to 10.
    pub priority: Option<i8>,
    /// Only this worker.
    pub to: Option<String>,
}

/// What [`Map::next_block`] found.
#[derive(Debug)]
pub enum Step {
    /// Outcomes.
    Block(Block),
    /// None in time.
    NotYet,
    /// All outcomes have been there.
    End,
    /// The map can't go on.
    Failed(Error),
}

/// A map under way. Dropping it cancels what is left.
pub struct Map {
    client: Client,
    options: MapOptions,
    flow: Arc<Flow>,
    writer: Arc<Writer>,
    queue: Arc<Completions<Done>>,
    arrived: VecDeque<Done>,
    /// Blocks that wait for those before them.
    early: BTreeMap<u64, Block>,
    /// Unordered blocks to hand out.
    ready: VecDeque<Block>,
    /// Items handed out.
    delivered: u64,
    /// Requests to send again, by the time for it.
    refused: BTreeMap<(Instant, u64), (Unit, Frame)>,
    look: Instant,
    known_slots: u32,
    question: Option<Pending>,
    is_offered: bool,
    is_over: bool,
}

/// Stops a map from another thread.
#[derive(Clone)]
pub struct MapStopper {
    flow: Arc<Flow>,
    queue: Arc<Completions<Done>>,
}

impl MapStopper {
    /// Sends nothing more and cancels what is under way; the map then ends as cancelled.
    pub fn stop(&self) {
        self.flow.stop();
        self.queue.nudge();
    }
}

impl Client {
    /// Applies a method to every item.
    ///
    /// # Errors
    /// When the broker can't be asked what it knows of the method.
    pub fn map(
        &self,
        method: &str,
        source: impl Items + 'static,
        options: MapOptions,
    ) -> Result<Map, Error> {
        let group = self.handle().ids(1);
        let writer = Arc::new(Writer::new(method, &options, group));
        let flow = Arc::new(Flow::new(Pace::new(options.in_flight)));
        let queue = Arc::new(Completions::default());
        let mut map = Map {
            client: self.clone(),
            options,
            flow: Arc::clone(&flow),
            writer: Arc::clone(&writer),
            queue: Arc::clone(&queue),
            arrived: VecDeque::new(),
            early: BTreeMap::new(),
            ready: VecDeque::new(),
            delivered: 0,
            refused: BTreeMap::new(),
            look: Instant::now() + LOOK,
            known_slots: self.last_status().map_or(0, |status| status.slots.total),
            question: None,
            is_offered: false,
            is_over: false,
        };
        map.learn(&self.methods()?);
        let feed = Feed {
            flow,
            writer,
            handle: Arc::clone(self.handle()),
            queue,
        };
        // Not joined: it may wait for its source for ever.
        std::thread::Builder::new()
            .name("muster-map".into())
            .spawn(move || feed.run(source))
            .map_err(|error| Error::BadInput {
                what: "thread",
                reason: error.to_string(),
            })?;
        Ok(map)
    }
}

impl Map {
    /// The next outcomes; waits up to `timeout` for them (`None`: as long as it takes).
    pub fn next_block(&mut self, timeout: Option<Duration>) -> Step {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(step) = self.step() {
                return step;
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Step::NotYet;
            }
            let retry = self.refused.first_key_value().map(|((at, _), _)| *at);
            let next = [Some(self.look), retry, deadline]
                .into_iter()
                .flatten()
                .min();
            let wait = next.map(|at| at.saturating_duration_since(now));
            self.queue.take_all(&mut self.arrived, wait);
        }
    }

    /// Every outcome with the number of its item, read into memory of its own.
    pub fn outcomes(
        mut self,
    ) -> impl Iterator<Item = Result<(u64, Result<String, RpcError>), Error>> {
        let mut read = VecDeque::new();
        std::iter::from_fn(move || {
            while read.is_empty() {
                match self.next_block(None) {
                    Step::Block(block) => read.extend(owned(&block).map(Ok)),
                    Step::Failed(error) => return Some(Err(error)),
                    Step::End => return None,
                    Step::NotYet => {}
                }
            }
            read.pop_front()
        })
    }

    /// For another thread, such as a signal handler's.
    pub fn stopper(&self) -> MapStopper {
        MapStopper {
            flow: Arc::clone(&self.flow),
            queue: Arc::clone(&self.queue),
        }
    }

    /// Whether some worker offers the method, as far as the broker was asked.
    pub fn is_offered(&self) -> bool {
        self.is_offered
    }

    /// Items whose outcomes were handed out.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Items taken from the source so far.
    pub fn fed(&self) -> u64 {
        self.flow.lock().fed
    }

    /// Works off what is there; `None`: nothing to hand out.
    fn step(&mut self) -> Option<Step> {
        if self.is_over {
            return Some(Step::End);
        }
        if self.flow.lock().is_stopped {
            self.wind_up();
            self.is_over = true;
            return Some(Step::Failed(Error::Cancelled));
        }
        self.keep_time();
        loop {
            if let Some(block) = self.next_ready() {
                self.delivered += u64::from(block.items());
                self.flow.consumed(block.bytes());
                return Some(Step::Block(block));
            }
            if self.arrived.is_empty() {
                self.queue.take_all(&mut self.arrived, Some(Duration::ZERO));
            }
            let Some(done) = self.arrived.pop_front() else {
                break;
            };
            if let Err(error) = self.settle(done) {
                self.flow.stop();
                self.is_over = true;
                return Some(Step::Failed(error));
            }
        }
        let mut state = self.flow.lock();
        if state.is_fed && state.fed == self.delivered {
            self.is_over = true;
            return Some(state.failure.take().map_or(Step::End, Step::Failed));
        }
        None
    }

    fn next_ready(&mut self) -> Option<Block> {
        if self.options.is_unordered {
            return self.ready.pop_front();
        }
        let first = self.early.first_entry()?;
        (*first.key() == self.delivered).then(|| first.remove())
    }

    fn keep_time(&mut self) {
        let now = Instant::now();
        self.send_refused(now);
        if now >= self.look {
            self.look = now + LOOK;
            self.look_at_slots();
        }
    }

    /// When slots came or went, asks what that means for this method.
    fn look_at_slots(&mut self) {
        if let Some(question) = &self.question {
            if let Some(answer) = question.wait_timeout(Duration::ZERO) {
                self.question = None;
                if let Ok(methods) = answer.and_then(|answer| answer.json::<Vec<MethodEntry>>()) {
                    self.learn(&methods);
                }
            }
            return;
        }
        let slots = self
            .client
            .last_status()
            .map_or(self.known_slots, |status| status.slots.total);
        if slots != self.known_slots || !self.is_offered {
            self.known_slots = slots;
            let call = crate::call::Call::with_json("broker.methods", None);
            self.question = call.and_then(|call| self.client.submit(call)).ok();
        }
    }

    fn learn(&mut self, methods: &[MethodEntry]) {
        let name = self.writer.method();
        let method = methods.iter().find(|method| *method.name == **name);
        self.is_offered = method.is_some();
        let Some(method) = method else { return };
        let options = &self.options;
        let is_chunked = method.chunks
            && !method.once
            && !options.is_single
            && !options.is_spread
            && options.attempts_max != Some(1);
        self.flow
            .lock()
            .pace
            .learn(is_chunked, method.slots, method.service_us);
    }

    /// Cancels what is under way and waits a moment for that.
    fn wind_up(&mut self) {
        self.client.handle().cancel_group(self.writer.group);
        let deadline = Instant::now() + STOP_TIMEOUT;
        let mut left = self.flow.lock().units - self.refused.len();
        while left > 0 {
            let wait = deadline.saturating_duration_since(Instant::now());
            self.queue.take_all(&mut self.arrived, Some(wait));
            left = left.saturating_sub(self.arrived.len());
            self.arrived.clear();
            if wait.is_zero() {
                return;
            }
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        if !self.is_over {
            self.flow.stop();
            self.client.handle().cancel_group(self.writer.group);
        }
    }
}

fn owned(block: &Block) -> impl Iterator<Item = (u64, Result<String, RpcError>)> {
    let outcomes = block.outcomes().map(|outcome| match outcome {
        ItemOutcome::Result(text) => Ok(text.to_owned()),
        ItemOutcome::Error(text) => {
            Err(serde_json::from_str(text).unwrap_or_else(|_| RpcError::new(Code::BadReply)))
        }
    });
    (block.first()..).zip(outcomes.collect::<Vec<_>>())
}
