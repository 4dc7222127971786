//! A client's message with its parts.

use super::Incoming;
use crate::request::{Kind, Request};
use muster_core::{ClientId, Event, NewCall, Target};
use muster_proto::envelope::Envelope;
use muster_proto::rpc::CallView;
use muster_proto::socket::Frame;

/// A client's message with its parts.
pub(super) struct Message<'a> {
    pub(super) frames: &'a [Frame],
    pub(super) envelope: Envelope,
    pub(super) client: ClientId,
}

impl Message<'_> {
    pub(super) fn request(&self, kind: Kind) -> Request {
        let Envelope {
            has_delimiter,
            body,
            ..
        } = self.envelope;
        Request::new(kind, self.frames, has_delimiter, body)
    }

    pub(super) fn call(&self, view: &CallView<'_>) -> Request {
        let Envelope {
            has_delimiter,
            body,
            ..
        } = self.envelope;
        Request::call(view, self.frames, has_delimiter, body)
    }

    pub(super) fn raw(&self) -> Incoming {
        let call = NewCall {
            target: Target::Raw,
            request: self.request(Kind::Raw),
            is_notification: false,
            timeout: None,
            attempts_max: None,
            priority: 0,
            items: 1,
            key: None,
            parent: None,
        };
        Incoming::Event(Event::Call {
            client: self.client,
            call,
        })
    }
}
