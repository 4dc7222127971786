//! One lane: a stock worker, what it was given, and what its replies have to fit.

use crate::CoreEvent;
use crate::lines::Body;
use crate::reply::{Form, Reply};
use crate::request::Kind as RequestKind;
use crate::splice::LinkId;
use crate::workers::Order;
use muster_core::{
    Event, MonoTime, Offer, Once, SlotId, Verdict, WorkerId, WorkerKind, WorkerSpec,
};
use muster_proto::code::Code;
use muster_proto::id::DispatchId;
use muster_proto::rpc;
use muster_proto::socket::Frame;
use std::borrow::Cow;
use std::collections::VecDeque;

/// One stock worker.
pub struct Lane {
    pub(super) link: LinkId,
    pub(super) worker: WorkerId,
    pub(super) name: String,
    /// Where it is.
    pub address: String,
    /// What it was said to offer.
    pub methods: Vec<String>,
    pub(super) pid: Option<u32>,
    pub(super) is_ready: bool,
    pub(super) sent: VecDeque<Sent>,
    /// Since when it works on what it has, as far as can be seen from here.
    pub(super) busy_since: MonoTime,
}

/// What a reply has to fit.
pub(super) struct Sent {
    dispatch: DispatchId,
    is_json: bool,
    id: Option<Box<str>>,
}

impl Lane {
    /// What the core is to know of it.
    pub(super) fn spec(&self) -> WorkerSpec {
        let once = |name: &String| (name.as_str().into(), Once::No);
        let is_any = self.methods.is_empty();
        WorkerSpec {
            name: self.name.clone(),
            host: self.address.clone(),
            pid: self.pid,
            kind: WorkerKind::Lane,
            slots: 1,
            offer: Offer {
                methods: self.methods.iter().map(once).collect(),
                anything: is_any,
                raw: is_any,
            },
        }
    }

    /// Takes note of a call that it was given.
    pub(super) fn sent(&mut self, order: &Order<'_>, now: MonoTime) {
        if self.sent.is_empty() {
            self.busy_since = now;
        }
        self.sent.push_back(Sent {
            dispatch: order.dispatch,
            is_json: order.request.kind == RequestKind::Call,
            id: order.request.id().map(Box::from),
        });
    }

    /// Shares out the time since its last answers among those that have come together: when each of
    /// them was ready cannot be seen, and the first one did not take all of it.
    pub(super) fn share_service<'a>(
        &mut self,
        fresh: impl ExactSizeIterator<Item = &'a mut CoreEvent>,
        now: MonoTime,
    ) {
        let count = u32::try_from(fresh.len()).unwrap_or(u32::MAX).max(1);
        let each = now.since(self.busy_since) / count;
        self.busy_since = now;
        for event in fresh {
            if let Event::Replied { service, .. } = event {
                *service = Some(each);
            }
        }
    }

    /// A message of the worker, as an event: `[dispatch id]["" ][reply…]`.
    pub(super) fn reply(&mut self, slot: SlotId, frames: &mut Vec<Frame>) -> CoreEvent {
        let fence = frames
            .first()
            .and_then(|frame| DispatchId::from_bytes(frame));
        let Some(dispatch) = fence else {
            return Event::Unreadable { slot };
        };
        let is_enveloped = frames.len() >= 3 && frames[1].is_empty();
        let mut parts = frames.drain(..).skip(2);
        let body = parts.next().unwrap_or_default();
        let at = self.sent.iter().position(|sent| sent.dispatch == dispatch);
        let sent = at.and_then(|at| self.sent.remove(at));
        let verdict = match &sent {
            // The core fences what nobody waits for.
            None => Verdict::Result,
            Some(_) if !is_enveloped => Verdict::Garbage,
            Some(sent) if sent.is_json => sent.judge(&body),
            Some(_) => Verdict::Result,
        };
        let form = match &sent {
            Some(sent) if sent.is_json => Form::Whole,
            _ => Form::Raw,
        };
        let reply = Reply::frame(body, form, parts);
        Event::Replied {
            slot,
            dispatch,
            service: None,
            verdict,
            reply,
        }
    }
}

impl Sent {
    fn judge(&self, body: &[u8]) -> Verdict {
        let Some(view) = rpc::read_reply(body) else {
            return Verdict::Garbage;
        };
        // A notification was given an id of ours, and nobody reads its answer.
        let is_ours = self.id.as_deref().is_none_or(|id| {
            view.id.is_some_and(|v| same_id(v, id)) || id == "null" && view.id.is_none()
        });
        match view.outcome {
            Err(error) if error.code == Code::MethodNotFound.number() => Verdict::MethodNotFound,
            _ if !is_ours => Verdict::Garbage,
            Err(_) => Verdict::Error,
            Ok(_) => Verdict::Result,
        }
    }
}

/// Whether two ids are the same value, however each side writes it.
fn same_id(a: &str, b: &str) -> bool {
    let read = |text| serde_json::from_str::<serde_json::Value>(text).ok();
    a == b || read(a).is_some_and(|value| read(b) == Some(value))
}

/// What a call's body is for a stock worker.
pub(super) fn body<'a>(order: &Order<'a>) -> Body<'a> {
    let request = order.request;
    if request.kind == RequestKind::Call
        && let Some(strict) = strict_body(order)
    {
        return Body::Bytes(Cow::Owned(strict.into_bytes()));
    }
    match request.body_frame() {
        Some(frame) => Body::Frame(frame),
        None => Body::Bytes(Cow::Borrowed(request.body())),
    }
}

/// The call as a strict server takes it, if it is not that already: without `meta`, and never a
/// notification, which a JSON-RPC server would not answer and so wedge its REP.
fn strict_body(order: &Order<'_>) -> Option<String> {
    let request = order.request;
    let span = request.extra().and_then(|extra| extra.meta_span.clone());
    if span.is_none() && request.id().is_some() {
        return None;
    }
    let text = String::from_utf8_lossy(request.body());
    let bare = match span {
        Some(span) => format!("{}{}", &text[..span.start], &text[span.end..]),
        None => text.into_owned(),
    };
    Some(match request.id() {
        Some(_) => bare,
        None => rpc::insert_id(&bare, order.dispatch.call.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_compared_by_value() {
        assert!(same_id("1", "1") && same_id("\"a\"", "\"\\u0061\"") && same_id("1.0", "1.00"));
        assert!(!same_id("1", "\"1\"") && !same_id("1", "2"));
    }
}
