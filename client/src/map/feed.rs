//! The thread that turns items into requests.

use super::flow::Flow;
use super::unit::{Unit, Writer};
use crate::completions::Completions;
use crate::entry::{Done, Sink};
use crate::error::Error;
use crate::handle::Handle;
use crate::items::{Items, Next};
use muster_proto::rpc::RpcError;
use muster_proto::socket::Frame;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A request is not filled beyond this.
const UNIT_BYTES_MAX: usize = 1 << 20;
/// While others are under way, a chunk waits this long for its next item.
const LINGER: Duration = Duration::from_millis(1);

/// One map's way from the source to the transport.
pub(super) struct Feed {
    pub(super) flow: Arc<Flow>,
    pub(super) writer: Arc<Writer>,
    pub(super) handle: Arc<Handle>,
    pub(super) queue: Arc<Completions<Done>>,
}

/// A request in the making.
struct Draft {
    body: Vec<u8>,
    items: u32,
}

impl Feed {
    /// Feeds until the source ends or the map is stopped.
    pub(super) fn run(&self, mut source: impl Items) {
        let failure = self.feed(&mut source).err();
        let mut state = self.flow.lock();
        state.is_fed = true;
        state.failure = failure;
        drop(state);
        self.queue.nudge();
    }

    fn feed(&self, source: &mut impl Items) -> Result<(), Error> {
        let mut first = 0;
        let mut capacity = 64;
        loop {
            let Some(state) = self.flow.wait_for_room() else {
                return Ok(());
            };
            let (items_max, is_idle) = (state.pace.chunk_items(), state.units == 0);
            drop(state);
            let linger = if is_idle { Duration::ZERO } else { LINGER };
            let mut draft = Draft {
                body: self.writer.start(capacity),
                items: 0,
            };
            let end = self.fill(source, &mut draft, items_max, linger);
            capacity = draft.body.len().max(capacity / 2);
            if draft.items > 0 {
                let items = draft.items;
                if !self.send(draft, first)? {
                    return Ok(());
                }
                first += u64::from(items);
            }
            match end {
                Next::Unfit(error) => {
                    self.refuse(first, error);
                    first += 1;
                }
                Next::End => return Ok(()),
                Next::Broken(error) => return Err(error),
                Next::Item | Next::NotYet => {}
            }
        }
    }

    /// Appends items until the request is full or the source has none for now.
    fn fill(
        &self,
        source: &mut impl Items,
        draft: &mut Draft,
        items_max: u32,
        linger: Duration,
    ) -> Next {
        while draft.items < items_max && draft.body.len() < UNIT_BYTES_MAX {
            let before = draft.body.len();
            // Nothing is waiting for the first item to be sent, so the source may take its time.
            let wait = (draft.items > 0).then_some(linger);
            if draft.items > 0 {
                draft.body.push(b',');
            }
            match source.next_into(&mut draft.body, wait) {
                Next::Item => draft.items += 1,
                other => {
                    draft.body.truncate(before);
                    return other;
                }
            }
        }
        Next::Item
    }

    /// Sends a request; false: the map is stopped.
    fn send(&self, draft: Draft, first: u64) -> Result<bool, Error> {
        let Draft { body, items } = draft;
        let mut state = self.flow.lock();
        if state.is_stopped {
            return Ok(false);
        }
        let units = state.units as u32 + 1;
        let unit = Unit {
            first,
            items,
            units,
            sent: Instant::now(),
            sends: 1,
            refusals: 0,
        };
        let sink = Sink::Map(Arc::clone(&self.queue), unit);
        let entry = self.writer.finish(body, items, false, &self.handle, sink);
        state.sent(entry.body.len());
        state.fed += u64::from(items);
        // Under the lock, so that a stop finds either nothing or a request it can cancel.
        self.handle.submit(entry)?;
        Ok(true)
    }

    /// An item that can't be sent has its outcome at once.
    fn refuse(&self, first: u64, error: RpcError) {
        let mut state = self.flow.lock();
        state.sent(0);
        state.fed += 1;
        let unit = Unit {
            first,
            items: 1,
            units: 1,
            sent: Instant::now(),
            sends: 1,
            refusals: 0,
        };
        let reply = Err(Error::Rpc(error));
        self.queue.push(Done {
            unit,
            request: Frame::empty(),
            reply,
        });
    }
}
