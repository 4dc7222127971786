//! Clients as the core sees them: a connection with open calls.

use crate::timer::Due;
use crate::{ClientId, Core, Failure, Outcome, Reply, Request};
use muster_proto::id::CallId;

/// A connection that has submitted calls.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// Calls it submitted; resolved ones are swept out when they outnumber the open ones.
    pub calls: Vec<CallId>,
    pub open_calls: usize,
    pub is_gone: bool,
}

/// Below this many entries a list is not worth sweeping.
const SWEEP_MIN: usize = 64;

impl<Q: Request, R: Reply> Core<Q, R> {
    /// Books a call on its client.
    pub(crate) fn open_for(&mut self, client: ClientId, call: CallId) {
        let calls = &self.calls;
        let entry = self.clients.entry(client).or_default();
        entry.open_calls += 1;
        if entry.calls.len() >= SWEEP_MIN && entry.calls.len() >= 2 * entry.open_calls {
            let is_open = |id: &CallId| calls.get(*id).is_some_and(|call| call.client == client);
            entry.calls.retain(is_open);
            // A call that left for another connection and came back is there twice.
            entry.calls.sort_unstable();
            entry.calls.dedup();
            give_back_room(&mut entry.calls);
        }
        entry.calls.push(call);
    }

    /// Takes a call off its client. `true`: the client has left.
    pub(crate) fn close_for(&mut self, client: ClientId) -> bool {
        let entry = self.clients.get_mut(&client);
        let entry = entry.expect("a call's client is known");
        let is_gone = entry.is_gone;
        entry.open_calls -= 1;
        if entry.open_calls == 0 {
            if is_gone {
                self.clients.remove(&client);
            } else {
                entry.calls.clear();
                give_back_room(&mut entry.calls);
            }
        }
        is_gone
    }

    /// A gone client's keyless calls are dropped or cancelled; keyed ones wait for it to come
    /// back; notifications, which nobody waits for, go on.
    pub(crate) fn client_gone(&mut self, client: ClientId) {
        let Some(entry) = self.clients.get_mut(&client) else {
            return;
        };
        if entry.is_gone {
            return;
        }
        entry.is_gone = true;
        if entry.open_calls == 0 {
            self.clients.remove(&client);
            return;
        }
        let mut has_keyed = false;
        for id in entry.calls.clone() {
            let Some(call) = self.calls.get(id).filter(|call| call.client == client) else {
                continue;
            };
            if call.origin.is_silent() {
                continue;
            }
            if call.extra.as_ref().is_some_and(|extra| extra.key.is_some()) {
                has_keyed = true;
                continue;
            }
            self.give_up(id);
        }
        if has_keyed {
            self.timers.arm(
                self.now.after(self.config.orphan_grace),
                Due::Orphans(client),
            );
        }
    }

    /// Nobody came back for the keyed calls of a gone client.
    pub(crate) fn orphans_due(&mut self, client: ClientId) {
        let Some(entry) = self.clients.get(&client) else {
            return;
        };
        for id in entry.calls.clone() {
            let call = self.calls.get(id).filter(|call| call.client == client);
            if call.is_some_and(|call| !call.origin.is_silent()) {
                self.give_up(id);
            }
        }
    }

    fn give_up(&mut self, id: CallId) {
        self.abandon(id);
        let by = "its client left".into();
        self.finish(id, Outcome::Failed(Failure::Cancelled { by }));
    }
}

/// What the end of a flood leaves unused is given back.
fn give_back_room(calls: &mut Vec<CallId>) {
    if calls.capacity() > 1_024 && calls.len() < calls.capacity() / 8 {
        calls.shrink_to(4 * calls.len());
    }
}
