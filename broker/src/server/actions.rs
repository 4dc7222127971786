//! What the core wants done, done.

use super::{CoreAction, CoreEvent, Server};
use crate::lanes::Lanes;
use crate::workers::Order;
use log::{debug, info, log_enabled};
use muster_core::{Action, Event};
use muster_proto::worker::Command;

impl Server {
    /// Tells the core what happened and does what it wants done.
    pub(super) fn tell(&mut self, event: CoreEvent) {
        if log_enabled!(log::Level::Debug) {
            log_event(&event);
        }
        self.core.handle(self.now, event);
        while let Some(action) = self.core.poll_action() {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: CoreAction) {
        match action {
            Action::Dispatch {
                slot,
                dispatch,
                seq,
                remaining,
                is_long,
            } => {
                debug!(
                    "call={} attempt={} slot={}",
                    dispatch.call, dispatch.attempt, slot.0
                );
                let Some((target, request)) = self.core.order(dispatch.call) else {
                    return;
                };
                let order = Order {
                    slot,
                    dispatch,
                    seq,
                    remaining,
                    target,
                    request,
                };
                let handed_over = if Lanes::has_slot(slot) {
                    self.lanes.dispatch(&order, self.now)
                } else {
                    self.workers.dispatch(&order)
                };
                if let Err(slot) = handed_over {
                    self.later.push(Event::DispatchFailed { slot });
                } else if is_long {
                    self.flush();
                }
            }
            Action::Answer {
                client,
                call,
                request,
                outcome,
            } => {
                debug!("call={call} client={}: answered", client.0);
                self.frontend
                    .answer(client, &request, &outcome, &self.clock);
            }
            Action::AnswerBatch {
                client,
                envelope,
                items,
            } => {
                self.frontend
                    .answer_batch(client, &envelope, &items, &self.clock);
            }
            Action::Acknowledge { client, call } => {
                let Some(request) = self.core.request(call) else {
                    return;
                };
                self.frontend.acknowledge(client, request);
            }
            Action::AcknowledgeRefused { client, request } => {
                self.frontend.acknowledge(client, &request);
            }
            Action::Cancel {
                slot,
                seq,
                dispatch,
            } => {
                self.workers
                    .tell_of_call(Command::Cancel, slot, seq, dispatch);
            }
            Action::Recall {
                slot,
                seq,
                dispatch,
            } => {
                self.workers
                    .tell_of_call(Command::Recall, slot, seq, dispatch);
            }
            Action::OpenSlot { worker, nest } => self.workers.open_slot(worker, nest),
            Action::CloseSlot { slot } => self.workers.close_slot(slot),
            Action::CloseLink { slot } if Lanes::has_slot(slot) => self.lanes.close(slot),
            Action::CloseLink { slot } => self.workers.close_link(slot),
            Action::ForgetWorker { worker } => {
                info!("worker={}: silent for too long, lost", worker.0);
                self.workers.forget(worker);
            }
            Action::Note(note) => self.events.publish(&note, &self.core, &self.clock),
            Action::Drained => {
                info!("drained");
                self.is_drained = true;
            }
        }
    }

    /// Sends what has piled up, and what comes of the links found broken by it.
    pub(super) fn flush(&mut self) {
        loop {
            self.lanes.flush();
            for slot in self.workers.flush() {
                self.later.push(Event::DispatchFailed { slot });
            }
            for client in self.frontend.flush(&self.clock) {
                self.later.push(Event::ClientGone { client });
            }
            if self.later.is_empty() {
                self.core.sent();
                return;
            }
            self.run_later();
        }
    }
}

fn log_event(event: &CoreEvent) {
    match event {
        Event::Call { client, call } => debug!("client={}: call for {:?}", client.0, call.target),
        Event::Batch { client, items, .. } => {
            debug!("client={}: batch of {}", client.0, items.len());
        }
        Event::Replied {
            slot,
            dispatch,
            service,
            verdict,
            ..
        } => {
            debug!(
                "call={} attempt={} slot={}: {verdict:?} in {service:?}",
                dispatch.call, dispatch.attempt, slot.0
            );
        }
        Event::WorkerHeard { .. } | Event::Tick => {}
        other => debug!("{other:?}"),
    }
}
