//! A call on its way to a slot, and how it is packed.

use crate::request::{Kind, Request};
use muster_core::{SlotId, Target};
use muster_proto::id::DispatchId;
use muster_proto::socket::Frame;
use muster_proto::worker::{Bytes, Call, flag};
use std::time::Duration;

/// Up to here parameters travel inside the packed frame.
const INLINE_BYTES_MAX: usize = 4 << 10;

/// A call on its way to a slot.
#[derive(Debug)]
pub struct Order<'a> {
    /// The slot.
    pub slot: SlotId,
    /// The fence.
    pub dispatch: DispatchId,
    /// Its number in the slot.
    pub seq: u32,
    /// Time left.
    pub remaining: Option<Duration>,
    /// Whom it is for.
    pub target: &'a Target,
    /// The call.
    pub request: &'a Request,
}

impl Order<'_> {
    pub(super) fn pack(&self, packed: &mut Vec<u8>, frames: &mut Vec<Frame>) {
        let request = self.request;
        let method = match self.target {
            Target::Method(method) | Target::MethodAt { method, .. } => method,
            Target::Raw | Target::RawAt(_) => "",
        };
        let extra = request.extra();
        let items = extra.map_or(0, |extra| extra.items);
        let remaining_ms = match self.remaining {
            // Rounded up: zero would mean none.
            Some(left) => {
                u32::try_from(left.as_micros().div_ceil(1_000).max(1)).unwrap_or(u32::MAX)
            }
            None => extra.map_or(0, |extra| extra.item_timeout_ms),
        };
        let mut flags = 0;
        if request.kind == Kind::Raw {
            flags |= flag::RAW;
        }
        if extra.is_some_and(|extra| extra.stream) {
            flags |= flag::STREAM;
        }
        if request.takes_frames() {
            flags |= flag::FRAMES;
        }
        if extra.is_some_and(|extra| extra.shared) {
            flags |= flag::SHARED;
        }
        let span = match request.kind {
            Kind::Raw => 0..request.body().len(),
            _ => request.params_span(),
        };
        let own_frame = request
            .body_frame()
            .filter(|_| span.len() > INLINE_BYTES_MAX);
        let body = match &own_frame {
            Some(_) => Bytes::OwnFrame {
                start: span.start as u32,
                len: span.len() as u32,
            },
            None => Bytes::Inline(&request.body()[span]),
        };
        let call = Call {
            dispatch: self.dispatch,
            seq: self.seq,
            remaining_ms,
            items,
            flags,
            attachments: request.attachments().len() as u8,
            id: if request.kind == Kind::Raw {
                ""
            } else {
                request.id().unwrap_or("null")
            },
            method,
            body,
        };
        call.pack(packed);
        frames.extend(own_frame);
        frames.extend(request.attachments().iter().map(Frame::share));
    }
}
