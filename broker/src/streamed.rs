//! What a running function tells its caller before the answer: from a slot's data link to a
//! notification at the frontend.

use crate::request::Request;
use muster_core::SlotId;
use muster_proto::id::DispatchId;
use muster_proto::json;
use muster_proto::socket::Frame;
use muster_proto::worker::{StreamItem, StreamKind, WireError};

/// One stream item, checked.
#[derive(Debug)]
pub struct Streamed {
    /// Where it comes from.
    pub slot: SlotId,
    /// The fence.
    pub dispatch: DispatchId,
    /// What it is.
    pub kind: StreamKind,
    seq: u32,
    value: Box<str>,
    attachments: Vec<Frame>,
}

impl Streamed {
    /// Reads the frames below the command.
    ///
    /// # Errors
    /// [`WireError::Malformed`] when it is no stream item or its value no JSON.
    pub fn read(slot: SlotId, frames: &[Frame]) -> Result<Self, WireError> {
        const WHAT: WireError = WireError::Malformed {
            what: "stream item",
        };
        let (packed, attachments) = frames.split_first().ok_or(WHAT)?;
        let item = StreamItem::unpack(packed)?;
        // A caller that asked for a stream must not be sent what it can't read.
        if !json::is_value(item.value) {
            return Err(WHAT);
        }
        let value = std::str::from_utf8(item.value).map_err(|_| WHAT)?;
        Ok(Streamed {
            slot,
            dispatch: item.dispatch,
            kind: item.kind,
            seq: item.seq,
            value: value.into(),
            attachments: attachments.iter().map(Frame::share).collect(),
        })
    }

    /// The notification for the caller whose request this is.
    pub fn compose(&self, request: &Request, out: &mut Vec<Frame>) {
        let id = request.id().unwrap_or("null");
        let (method, DispatchId { call, attempt, .. }) = (self.kind.method(), self.dispatch);
        let (seq, value) = (self.seq, &self.value);
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"id":{id},"call":"{call}","attempt":{attempt},"seq":{seq},"value":{value}}}}}"#
        );
        out.push(text.into_bytes().into());
        if request.takes_frames() {
            out.extend(self.attachments.iter().map(Frame::share));
        }
    }
}
