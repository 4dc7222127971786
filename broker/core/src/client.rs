//! Clients as the core sees them: a connection with open calls.

use crate::call::Call;
use crate::timer::Due;
use crate::{ClientId, Core, Failure, Outcome, Reply, Request};
use muster_proto::id::CallId;

/// A connection that has submitted calls.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// Calls it submitted; resolved ones are swept out when they are many more than the open ones.
    pub calls: Vec<CallId>,
    pub open_calls: usize,
    /// Bytes of its open calls.
    pub open_bytes: usize,
    pub is_gone: bool,
    /// Its calls are being given up.
    leaving: Option<Leaving>,
}

/// How far the calls of a gone client are given up.
#[derive(Debug)]
struct Leaving {
    /// Entries of its list that were seen.
    at: usize,
    /// Nobody came back for the keyed ones.
    with_keyed: bool,
    has_keyed: bool,
}

/// Calls of a gone client that are given up at a time.
const LEAVING_STEP: usize = 1_000;

/// A list is swept when it is so many times as long as it need be.
const SWEEP_FACTOR: usize = 4;

/// Below this many entries a list is not worth sweeping.
const SWEEP_MIN: usize = 64;

impl<Q: Request, R: Reply> Core<Q, R> {
    /// Books a call on its client.
    pub(crate) fn open_for(&mut self, client: ClientId, call: CallId, bytes: usize) {
        let calls = &self.calls;
        let entry = self.clients.entry(client).or_default();
        entry.open_calls += 1;
        entry.open_bytes += bytes;
        let is_long = entry.calls.len() >= SWEEP_MIN && !entry.is_gone;
        if is_long && entry.calls.len() >= SWEEP_FACTOR * entry.open_calls {
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
    pub(crate) fn close_for(&mut self, client: ClientId, bytes: usize) -> bool {
        let entry = self.clients.get_mut(&client);
        let entry = entry.expect("a call's client is known");
        let is_gone = entry.is_gone;
        entry.open_calls -= 1;
        entry.open_bytes -= bytes;
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
        self.give_up_all(client, false);
    }

    /// Nobody came back for the keyed calls of a gone client.
    pub(crate) fn orphans_due(&mut self, client: ClientId) {
        self.give_up_all(client, true);
    }

    fn give_up_all(&mut self, client: ClientId, with_keyed: bool) {
        if let Some(entry) = self.clients.get_mut(&client) {
            entry.leaving = Some(Leaving {
                at: 0,
                with_keyed,
                has_keyed: false,
            });
            self.give_up_more(client);
        }
    }

    /// Gives up the next calls of a gone client. It may have a million of them, and the others do
    /// not wait for that.
    pub(crate) fn give_up_more(&mut self, client: ClientId) {
        let Some(entry) = self.clients.get_mut(&client) else {
            return;
        };
        let Some(mut leaving) = entry.leaving.take() else {
            return;
        };
        let end = entry.calls.len().min(leaving.at + LEAVING_STEP);
        let is_over = end == entry.calls.len();
        let next: Vec<CallId> = entry.calls[leaving.at..end].to_vec();
        leaving.at = end;
        for id in next {
            let call = self.calls.get(id).filter(|call| call.client == client);
            let Some(call) = call.filter(|call| !call.origin.is_silent()) else {
                continue;
            };
            if call.is_keyed() && !leaving.with_keyed {
                leaving.has_keyed = true;
            } else {
                self.give_up(id);
            }
        }
        let Some(entry) = self.clients.get_mut(&client) else {
            return;
        };
        if !is_over {
            entry.leaving = Some(leaving);
            self.timers
                .arm(self.now.after_micros(1), Due::Leaving(client));
        } else if leaving.has_keyed {
            let until = self.now.after(self.config.orphan_grace);
            self.timers.arm(until, Due::Orphans(client));
        }
    }

    /// Whether a call only waits to be given up with the others of its gone client.
    pub(crate) fn is_abandoned(&self, call: &Call<Q>) -> bool {
        !call.is_keyed() && !call.origin.is_silent() && self.clients[&call.client].is_gone
    }

    pub(crate) fn give_up(&mut self, id: CallId) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Event, MonoTime, NewCall, Target};

    #[derive(Debug)]
    struct Body;

    impl Request for Body {
        fn bytes(&self) -> usize {
            1
        }
    }

    #[derive(Clone, Debug)]
    struct Value;

    impl Reply for Value {
        fn bytes(&self) -> usize {
            1
        }
    }

    #[test]
    fn the_list_of_a_client_that_is_never_idle_does_not_grow_with_its_calls() {
        let now = MonoTime::ZERO;
        let old = ["m".to_owned()];
        let mut core: Core<Body, Value> = Core::new(Config::default(), 1, now, old);
        let mut submit = |at: u64, timeout_us: Option<u64>| {
            let now = now.after_micros(at);
            let call = NewCall {
                target: Target::Method("m".into()),
                request: Body,
                is_notification: false,
                timeout: timeout_us.map(std::time::Duration::from_micros),
                attempts_max: None,
                priority: 0,
                items: 1,
                key: None,
                parent: None,
            };
            let client = ClientId(1);
            core.handle(now, Event::Call { client, call });
            while core.poll_action().is_some() {}
            core.clients[&client].calls.len()
        };
        // One call waits for ever, the others end one after the other.
        submit(0, None);
        let longest = (1..2_000).map(|at| submit(10 * at, Some(1))).max();
        assert!(longest <= Some(SWEEP_MIN + 2), "{longest:?}");
    }
}
