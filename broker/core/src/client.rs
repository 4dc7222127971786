//! Clients as the core sees them: a connection with open calls.

use crate::call::Call;
use crate::timer::Due;
use crate::{ClientId, Core, Failure, Outcome, Reply, Request};
use muster_proto::id::CallId;

/// A connection that has submitted calls.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// Its open calls, each at the place that the call knows.
    pub calls: Vec<CallId>,
    /// Bytes of its open calls.
    pub open_bytes: usize,
    pub is_gone: bool,
    /// Its calls are being given up.
    leaving: Option<Leaving>,
}

/// How far the calls of a gone client are given up.
#[derive(Debug)]
struct Leaving {
    /// Entries of its list that were seen and stay for now, in front of those that were not.
    seen: usize,
    /// Nobody came back for the keyed ones.
    with_keyed: bool,
    has_keyed: bool,
}

/// Calls of a gone client that are given up at a time.
const LEAVING_STEP: usize = 1_000;

/// A call as its client has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub client: ClientId,
    /// Where the client's list has it.
    pub place: u32,
    pub bytes: u32,
}

impl<Q: Request, R: Reply> Core<Q, R> {
    /// Books a call on its client. Gives its place in the client's list.
    pub(crate) fn open_for(&mut self, client: ClientId, call: CallId, bytes: u32) -> u32 {
        let entry = self.clients.entry(client).or_default();
        entry.open_bytes += bytes as usize;
        entry.calls.push(call);
        u32::try_from(entry.calls.len() - 1).expect("memory ends long before")
    }

    /// Takes a call off its client. `true`: the client has left.
    pub(crate) fn close_for(&mut self, call: Entry) -> bool {
        let entry = self.clients.get_mut(&call.client);
        let entry = entry.expect("a call's client is known");
        let is_gone = entry.is_gone;
        entry.open_bytes -= call.bytes as usize;
        let mut place = call.place as usize;
        let mut move_to = |id: CallId, place: usize| {
            let moved = self.calls.get_mut(id);
            moved.expect("a client lists open calls").place = place as u32;
        };
        if let Some(leaving) = &mut entry.leaving
            && place < leaving.seen
        {
            // The last one has not been seen and takes the place of one that is behind the others.
            leaving.seen -= 1;
            entry.calls.swap(place, leaving.seen);
            move_to(entry.calls[place], place);
            place = leaving.seen;
        }
        entry.calls.swap_remove(place);
        if let Some(&id) = entry.calls.get(place) {
            move_to(id, place);
        } else if is_gone && entry.calls.is_empty() {
            self.clients.remove(&call.client);
            return true;
        }
        give_back_room(&mut entry.calls);
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
        if entry.calls.is_empty() {
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
                seen: 0,
                with_keyed,
                has_keyed: false,
            });
            self.give_up_more(client);
        }
    }

    /// Gives up the next calls of a gone client. It may have a million of them, and the others do
    /// not wait for that.
    pub(crate) fn give_up_more(&mut self, client: ClientId) {
        for _ in 0..LEAVING_STEP {
            let Some(entry) = self.clients.get_mut(&client) else {
                return;
            };
            let Some(leaving) = &mut entry.leaving else {
                return;
            };
            let Some(&id) = entry.calls.get(leaving.seen) else {
                let has_keyed = leaving.has_keyed;
                entry.leaving = None;
                if has_keyed {
                    let until = self.now.after(self.config.orphan_grace);
                    self.timers.arm(until, Due::Orphans(client));
                }
                return;
            };
            let call = self.calls.get(id);
            let call = call.expect("a client lists open calls");
            let waits_for_it = call.is_keyed() && !leaving.with_keyed;
            if waits_for_it || call.origin.is_silent() {
                leaving.has_keyed |= waits_for_it;
                leaving.seen += 1;
            } else {
                self.give_up(id);
            }
        }
        let soon = self.now.after_micros(1);
        self.timers.arm(soon, Due::Leaving(client));
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
#[inline]
fn give_back_room(calls: &mut Vec<CallId>) {
    if calls.capacity() > 1_024 && calls.len() < calls.capacity() / 8 {
        calls.shrink_to(4 * calls.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CancelTarget, Config, Event, MonoTime, NewCall, Target};

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

    fn waiting_call(key: Option<&str>) -> NewCall<Body> {
        NewCall {
            target: Target::Method("m".into()),
            request: Body,
            is_notification: false,
            timeout: None,
            attempts_max: None,
            priority: 0,
            items: 1,
            key: key.map(Into::into),
            parent: None,
        }
    }

    #[test]
    fn no_call_of_a_gone_client_is_passed_over_when_another_one_ends_meanwhile() {
        let client = ClientId(1);
        let mut at = MonoTime::ZERO;
        let mut core: Core<Body, Value> = Core::new(Config::default(), 1, at, ["m".to_owned()]);
        let mut tell = |event| {
            at = at.after_micros(10);
            core.handle(at, event);
            core.check_invariants();
            while core.poll_action().is_some() {}
            core.clients
                .get(&client)
                .map_or(0, |entry| entry.calls.len())
        };
        for key in ["a", "b", "c"] {
            let call = waiting_call(Some(key));
            tell(Event::Call { client, call });
        }
        for _ in 0..2 * LEAVING_STEP {
            let call = waiting_call(None);
            tell(Event::Call { client, call });
        }
        let left = tell(Event::ClientGone { client });
        assert_eq!(left, 3 + LEAVING_STEP + 3, "the keyed ones were seen, too");
        let (target, by) = (CancelTarget::Key("a".into()), "somebody".into());
        tell(Event::Cancel { target, by });
        let left: Vec<usize> = (0..3).map(|_| tell(Event::Tick)).collect();
        assert_eq!(left.last(), Some(&2), "{left:?}");
    }

    #[test]
    fn the_list_of_a_client_that_is_never_idle_has_its_open_calls_alone() {
        let now = MonoTime::ZERO;
        let old = ["m".to_owned()];
        let mut core: Core<Body, Value> = Core::new(Config::default(), 1, now, old);
        let mut submit = |at: u64, timeout_us: Option<u64>| {
            let now = now.after_micros(at);
            let call = NewCall {
                timeout: timeout_us.map(std::time::Duration::from_micros),
                ..waiting_call(None)
            };
            let client = ClientId(1);
            core.handle(now, Event::Call { client, call });
            while core.poll_action().is_some() {}
            core.clients[&client].calls.len()
        };
        // One call waits for ever, the others end one after the other.
        submit(0, None);
        let longest = (1..2_000).map(|at| submit(10 * at, Some(1))).max();
        assert_eq!(longest, Some(2));
    }
}
