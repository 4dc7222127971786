//! What becomes of a finished request: outcomes to keep, or items to send again.

use super::block::{Block, Content};
use super::chunk::{Chunk, NoChunk};
use super::{Map, Unit};
use crate::answer::Reply;
use crate::entry::{Done, Sink};
use crate::error::Error;
use muster_proto::code::Code;
use muster_proto::rpc::{RpcError, read_reply};
use muster_proto::socket::Frame;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The first pause after the broker refused a request for the time being; it doubles.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);
/// The longest such pause.
const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(1);
/// After so many refusals, about a minute, the items fail.
const REFUSALS_MAX: u32 = 64;
impl Map {
    /// Takes a finished request: keeps its outcomes or sends it again.
    pub(super) fn settle(&mut self, done: Done) -> Result<(), Error> {
        let Done {
            unit,
            request,
            reply,
        } = done;
        let content = match reply.map(|reply| read(&unit, reply)) {
            Ok(Ok(block)) => {
                let mut state = self.flow.lock();
                state
                    .pace
                    .observe(unit.items, unit.sent.elapsed(), unit.units);
                self.flow.answered(&mut state, request.len(), block.bytes());
                drop(state);
                self.keep(block);
                return Ok(());
            }
            Ok(Err(Error::Rpc(error))) | Err(Error::Rpc(error)) => match error.known_code() {
                Some(Code::WorkerLost | Code::TooLarge) if unit.is_chunk() => {
                    return self.cut(unit, &request);
                }
                Some(Code::Overloaded | Code::Draining) if unit.refusals < REFUSALS_MAX => {
                    self.put_off(unit, request);
                    return Ok(());
                }
                _ => error.to_json(),
            },
            Ok(Err(error)) | Err(error) => local_error(error)?,
        };
        let block = Block {
            first: unit.first,
            items: unit.items,
            times: unit.times(),
            content: Content::Error(content),
        };
        self.flow
            .answered(&mut self.flow.lock(), request.len(), block.bytes());
        self.keep(block);
        Ok(())
    }

    fn keep(&mut self, block: Block) {
        match self.options.is_unordered {
            true => self.ready.push_back(block),
            false => {
                self.early.insert(block.first(), block);
            }
        }
    }

    fn put_off(&mut self, unit: Unit, request: Frame) {
        let pause = REFUSED_PAUSE * 2u32.pow(unit.refusals.min(10));
        let at = Instant::now() + pause.min(REFUSED_PAUSE_MAX);
        let unit = Unit {
            refusals: unit.refusals + 1,
            ..unit
        };
        self.refused.insert((at, unit.first), (unit, request));
    }

    /// Sends a lost chunk again in pieces.
    fn cut(&mut self, unit: Unit, request: &Frame) -> Result<(), Error> {
        let pieces = self.writer.cut(request, unit.items);
        self.send_again(unit, request, pieces, true)
    }

    /// Sends items again, in new requests: the broker may remember the old key's outcome.
    fn send_again(
        &mut self,
        unit: Unit,
        request: &Frame,
        pieces: Vec<(Vec<u8>, u32)>,
        is_piece: bool,
    ) -> Result<(), Error> {
        let mut state = self.flow.lock();
        state.replaced(request.len());
        let mut first = unit.first;
        for (body, items) in pieces {
            let units = state.units as u32 + 1;
            let sent = Unit {
                first,
                items,
                units,
                sent: Instant::now(),
                sends: unit.sends + u32::from(is_piece),
                refusals: unit.refusals,
            };
            let sink = Sink::Map(Arc::clone(&self.queue), sent);
            let entry = self
                .writer
                .finish(body, items, is_piece, self.client.handle(), sink);
            state.sent(entry.body.len());
            self.client.handle().submit(entry)?;
            first += u64::from(items);
        }
        Ok(())
    }

    /// Sends the requests whose pause is over.
    pub(super) fn send_refused(&mut self, now: Instant) {
        while let Some(entry) = self
            .refused
            .first_entry()
            .filter(|entry| entry.key().0 <= now)
        {
            let (unit, request) = entry.remove();
            let is_chunk = unit.is_chunk();
            let pieces = match is_chunk {
                // Smaller requests are easier to take in.
                true => self.writer.cut(&request, unit.items),
                false => self.writer.cut(&request, 1),
            };
            // A closed client shows at the next completion.
            let _ = self.send_again(unit, &request, pieces, false);
        }
    }
}

fn read(unit: &Unit, reply: Reply) -> Result<Block, Error> {
    let (first, items) = (unit.first, unit.items);
    if unit.is_chunk() {
        let content = match Chunk::read(reply.body, items) {
            Ok(chunk) => Content::Chunk(chunk),
            Err(NoChunk::Failed(error)) => return Err(error.into()),
            Err(NoChunk::Unreadable) => {
                let reason = format!("it is no list of {items} outcomes");
                return Err(Error::BadAnswer { reason });
            }
        };
        return Ok(Block {
            first,
            items,
            times: unit.times(),
            content,
        });
    }
    let Some(view) = read_reply(&reply.body) else {
        return Err(Error::BadAnswer {
            reason: "it is no JSON-RPC reply".into(),
        });
    };
    let result = view.outcome?;
    let start = result.as_ptr() as usize - reply.body.as_ptr() as usize;
    let span = start..start + result.len();
    let content = Content::Result {
        body: reply.body,
        span,
    };
    Ok(Block {
        first,
        items,
        times: unit.times(),
        content,
    })
}

/// The error object of what this side makes up for an item, or the map's own end.
fn local_error(error: Error) -> Result<String, Error> {
    let object = match &error {
        Error::Timeout(_) => RpcError::new(Code::DeadlineExceeded),
        // No code of the wire says it: the broker is gone.
        Error::UnknownOutcome => {
            RpcError::new(Code::InternalError).data(&serde_json::json!({"type": "UnknownOutcome"}))
        }
        Error::BadAnswer { .. } => RpcError::new(Code::BadReply),
        _ => return Err(error),
    };
    Ok(object.message(error.to_string()).to_json())
}
