//! A call as the core takes it.

use super::client::revoked;
use super::message::Message;
use super::{Desk, Frontend, Incoming};
use crate::introspect::{self, Local};
use crate::request::Request;
use muster_core::{ClientId, Event, NewCall, Target};
use muster_proto::limits;
use muster_proto::rpc::{CallView, Meta, RpcError, chunk_items as count_items};
use std::borrow::Cow;
use std::time::Duration;

impl Frontend {
    pub(super) fn call(
        &mut self,
        message: &Message<'_>,
        call: CallView<'_>,
        desk: &mut impl Desk,
    ) -> Incoming {
        let client = message.client;
        let request = message.call(&call);
        if !message.envelope.has_delimiter && !request.attachments().is_empty() {
            let error = RpcError::invalid("attachments need an envelope with a delimiter");
            return self.refuse(client, &request, error);
        }
        if let Some(local) = introspect::local(&call.method) {
            if self.is_revoked(client) {
                return self.refuse(client, &request, revoked());
            }
            if local == Local::Multicall {
                return self.multicall(message, &call, &request, desk);
            }
            let answer = desk.answer(local, call.params, self.asker(client));
            self.answer_own(client, &request, &answer, call.id.is_none());
            return Incoming::Nothing;
        }
        match self.new_call(client, request, call) {
            Ok(call) => Incoming::Event(Event::Call { client, call }),
            Err((request, error)) => self.refuse(client, &request, error),
        }
    }

    /// A call for the core, or what speaks against it.
    pub(super) fn new_call(
        &self,
        client: ClientId,
        mut request: Request,
        view: CallView<'_>,
    ) -> Result<NewCall<Request>, (Request, RpcError)> {
        let CallView {
            method,
            id,
            params,
            meta,
            meta_span,
            ..
        } = view;
        if let Err(error) = self.judge(client, &method) {
            return Err((request, error));
        }
        let items = match chunk_items(&meta, params) {
            Ok(items) => items,
            Err(error) => return Err((request, error)),
        };
        if meta.stream && !self.can_stream(client, &request) {
            let reason = "meta: stream needs a DEALER of the caller's own";
            return Err((request, RpcError::invalid(reason)));
        }
        let item_timeout_ms = meta
            .timeout_ms
            .map_or(0, |ms| u32::try_from(ms).unwrap_or(u32::MAX));
        if meta_span.is_some() || items > 0 {
            let extra = request.extra_mut();
            extra.meta_span = meta_span;
            extra.stream = meta.stream;
            extra.frames = meta.frames;
            extra.shared = meta.shared;
            extra.items = items;
            extra.item_timeout_ms = if items > 0 { item_timeout_ms } else { 0 };
        }
        let method: Box<str> = match method {
            Cow::Borrowed(name) => name.into(),
            Cow::Owned(name) => name.into(),
        };
        let target = match meta.to {
            None => Target::Method(method),
            Some(worker) => Target::MethodAt {
                method,
                worker: worker.into(),
            },
        };
        Ok(NewCall {
            target,
            request,
            is_notification: id.is_none(),
            // A chunk's timeout is per item and kept by the worker.
            timeout: if items > 0 {
                Some(Duration::ZERO)
            } else {
                meta.timeout_ms.map(Duration::from_millis)
            },
            attempts_max: meta.attempts_max,
            priority: meta.priority.unwrap_or(0),
            items: items.max(1),
            key: meta.key.map(|key| self.scoped(client, &key)),
            parent: meta.parent.and_then(|call| call.parse().ok()),
        })
    }

    /// Notifications would wedge a REQ, also one behind a proxy.
    fn can_stream(&self, client: ClientId, request: &Request) -> bool {
        let is_req = self.routing.get(&client).is_none_or(|link| link.is_req);
        !is_req && !request.is_forwarded()
    }
}

/// Items of a map chunk; 0: a plain call.
fn chunk_items(meta: &Meta, params: Option<&str>) -> Result<u32, RpcError> {
    if !meta.map {
        return Ok(0);
    }
    let items = count_items(params.unwrap_or("[]"))
        .map_err(|error| RpcError::invalid(&error.to_string()))?;
    if items == 0 {
        return Err(RpcError::invalid("a map chunk has at least one item"));
    }
    if items > limits::CHUNK_ITEMS_MAX {
        let error = RpcError::too_large("chunk_items", items, limits::CHUNK_ITEMS_MAX);
        return Err(error);
    }
    Ok(items as u32)
}
