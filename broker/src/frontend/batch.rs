//! Several calls in one message: a batch, and XML-RPC's multicall.

use super::client::revoked;
use super::message::Message;
use super::{Desk, Frontend, Incoming};
use crate::introspect;
use crate::request::{Kind, Request};
use muster_core::{BatchItem, ClientId, Event};
use muster_proto::code::Code;
use muster_proto::rpc::{self, Body, CallView, Refused, RpcError};

impl Frontend {
    pub(super) fn batch(
        &mut self,
        message: &Message<'_>,
        items: Vec<Result<CallView<'_>, Refused<'_>>>,
        desk: &mut impl Desk,
    ) -> Incoming {
        let client = message.client;
        let envelope = message.request(Kind::Batch);
        if !envelope.attachments().is_empty() {
            return self.refuse(
                client,
                &envelope,
                RpcError::invalid("a batch has no attachments"),
            );
        }
        let items = items
            .into_iter()
            .map(|item| self.batch_item(client, item, desk))
            .collect();
        Incoming::Event(Event::Batch {
            client,
            envelope,
            items,
        })
    }

    fn batch_item(
        &self,
        client: ClientId,
        item: Result<CallView<'_>, Refused<'_>>,
        desk: &mut impl Desk,
    ) -> BatchItem<Request> {
        let call = match item {
            Ok(call) => call,
            Err(refused) => {
                let mut request = Request::unread_item();
                if let Some(id) = refused.id {
                    request.set_text(id);
                }
                request.extra_mut().answer = Some(Err(refused.error));
                return BatchItem::Refused(request);
            }
        };
        let mut request = Request::item(&call);
        if self.is_revoked(client) {
            request.extra_mut().answer = Some(Err(revoked()));
            return BatchItem::Refused(request);
        }
        if let Some(local) = introspect::local(&call.method) {
            let answer = desk.answer(local, call.params, self.asker(client));
            request.extra_mut().answer = Some(answer);
            return BatchItem::Refused(request);
        }
        if call.meta.stream {
            let error = RpcError::invalid("meta: stream is not for the items of a batch");
            request.extra_mut().answer = Some(Err(error));
            return BatchItem::Refused(request);
        }
        match self.new_call(client, request, call) {
            Ok(call) => BatchItem::Call(call),
            Err((mut request, error)) => {
                request.extra_mut().answer = Some(Err(error));
                BatchItem::Refused(request)
            }
        }
    }

    /// `system.multicall`: spread like a batch, answered as XML-RPC's multicall.
    pub(super) fn multicall(
        &mut self,
        message: &Message<'_>,
        call: &CallView<'_>,
        request: &Request,
        desk: &mut impl Desk,
    ) -> Incoming {
        let client = message.client;
        let calls = match introspect::read_multicall(call.params) {
            Ok(calls) => calls,
            Err(error) => return self.refuse(client, request, error),
        };
        let mut envelope = message.request(Kind::Multicall);
        envelope.set_text(call.id.unwrap_or("null"));
        let items = calls
            .into_iter()
            .map(|call| {
                let object = call.object();
                // Made just now from parts that were read, so it reads back.
                let Body::Call(view) = rpc::read(object.as_bytes()) else {
                    let mut request = Request::unread_item();
                    request.extra_mut().answer = Some(Err(RpcError::new(Code::InvalidRequest)));
                    return BatchItem::Refused(request);
                };
                self.batch_item(client, Ok(view), desk)
            })
            .collect();
        Incoming::Event(Event::Batch {
            client,
            envelope,
            items,
        })
    }
}
