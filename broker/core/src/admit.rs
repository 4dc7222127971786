//! Taking calls on, or refusing them with a name.

use crate::call::{Call, CallState, Extra, Origin};
use crate::class::{Class, ClassId, Estimate};
use crate::event::{NewCall, Once, Target};
use crate::keys::Found;
use crate::note::Note;
use crate::queue::FairQueue;
use crate::recent::Histogram;
use crate::route::Route;
use crate::timer::Due;
use crate::{Action, ClientId, Core, Failure, MonoTime, Outcome, Reply, Request};
use muster_proto::id::CallId;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

/// Classes without calls are swept out when they are more than one in so many.
const SWEPT_SHARE: usize = 16;

/// A full queue is full for those who filled it: a client that holds less than this share of it
/// may go beyond,
const SMALL_SHARE: usize = 64;
/// until this share of the caps is used in addition.
pub(crate) const RESERVE_SHARE: usize = 8;

impl<Q: Request, R: Reply> Core<Q, R> {
    /// Takes a single call on.
    pub(crate) fn submit(&mut self, client: ClientId, call: NewCall<Q>) {
        if call.is_notification {
            self.admit(client, call, Origin::Notification);
            return;
        }
        let Some(call) = self.attach(client, call) else {
            return;
        };
        self.admit(client, call, Origin::Single);
    }

    /// Finds a keyed call again: its answer goes to the newcomer. Gives a call back that is new.
    fn attach(&mut self, client: ClientId, call: NewCall<Q>) -> Option<NewCall<Q>> {
        let Some(key) = &call.key else {
            return Some(call);
        };
        match self.keys.find(key) {
            Found::Nothing => Some(call),
            Found::Ended(outcome) => {
                self.totals.reattached += 1;
                let id = CallId(0);
                self.actions.push_back(Action::Answer {
                    client,
                    call: id,
                    request: call.request,
                    outcome,
                });
                None
            }
            Found::Live(id) => {
                let held = self.calls.get_mut(id);
                let held = held.expect("a live key names an open call");
                let grows = call.request.bytes().saturating_sub(held.bytes as usize);
                let room = self
                    .config
                    .queued_bytes_max
                    .saturating_sub(self.queued_bytes);
                if held.state == CallState::Queued && grows > room {
                    let (limit, max) = ("queued_bytes", self.config.queued_bytes_max);
                    let failure = Failure::Overloaded { limit, max };
                    self.refuse(client, call, Origin::Single, failure);
                    return None;
                }
                self.totals.reattached += 1;
                let (class, priority, state) = (held.class, held.priority, held.state);
                let before = held.entry();
                let bytes = u32::try_from(call.request.bytes()).unwrap_or(u32::MAX);
                self.close_for(before);
                let place = self.open_for(client, id, bytes);
                let held = self.calls.get_mut(id);
                let held = held.expect("it was there above");
                (held.client, held.place, held.bytes) = (client, place, bytes);
                // The newcomer's envelope and id; the call itself is the same by its key.
                held.request = call.request;
                if state == CallState::Queued {
                    self.queued_bytes -= before.bytes as usize;
                    self.queued_bytes += bytes as usize;
                    let queue = &mut self.classes[class].queue;
                    queue.remove(before.client, priority, id);
                    self.classes[class].queue.push(client, priority, id);
                    self.stirred.push(class);
                }
                None
            }
        }
    }

    /// Takes a call on, or ends it at once with the reason.
    pub(crate) fn admit(&mut self, client: ClientId, new: NewCall<Q>, origin: Origin) {
        let nested = self.nested_in(new.parent);
        let admissible =
            nested.and_then(|nested| self.admissible(client, &new).map(|class| (class, nested)));
        let (class, nested) = match admissible {
            Ok(admissible) => admissible,
            Err(failure) => return self.refuse(client, new, origin, failure),
        };
        let timeout = new
            .timeout
            .or(self.config.timeout)
            .filter(|t| *t > Duration::ZERO);
        let deadline = timeout.map_or(MonoTime::NEVER, |timeout| self.now.after(timeout));
        let attempts_max = new.attempts_max.unwrap_or(self.config.attempts_max).max(1);
        let once = attempts_max == 1;
        let key = new.key.filter(|_| origin == Origin::Single);
        let extra = (key.is_some() || nested.is_some()).then(|| {
            Box::new(Extra {
                key,
                nested,
                attempts: Vec::new(),
            })
        });
        let key = extra.as_ref().and_then(|extra| extra.key.clone());
        let bytes = u32::try_from(new.request.bytes()).unwrap_or(u32::MAX);
        let id = self.calls.next_id();
        let place = self.open_for(client, id, bytes);
        self.calls.insert(Call {
            request: new.request,
            client,
            place,
            class,
            state: CallState::Queued,
            origin,
            admitted: self.now,
            deadline,
            items: new.items.max(1),
            bytes,
            dispatches: 0,
            returns: 0,
            charged: 0,
            attempts_max: u16::try_from(attempts_max).unwrap_or(u16::MAX),
            priority: new.priority,
            once,
            // Behind another call it could wait for the very one that waits for it.
            alone: nested.is_some(),
            extra,
        });
        self.totals.admitted += 1;
        self.classes.open(class);
        self.timers.arm(deadline, Due::Deadline(id));
        if let Some(key) = key {
            self.keys.open(key, id);
        }
        if origin == Origin::Notification {
            self.actions
                .push_back(Action::Acknowledge { client, call: id });
        }
        self.note(|core| Note::Admitted {
            call: id,
            target: core.classes[class].target.clone(),
        });
        self.start_or_queue(id);
    }

    /// The call's class, if nothing speaks against taking it on.
    fn admissible(&mut self, client: ClientId, new: &NewCall<Q>) -> Result<ClassId, Failure> {
        if self.draining.is_some() {
            return Err(Failure::Draining);
        }
        let bytes = new.request.bytes();
        let (open_calls, open_bytes) = self
            .clients
            .get(&client)
            .map_or((0, 0), |entry| (entry.calls.len(), entry.open_bytes));
        let overloaded = |limit, max| Err(Failure::Overloaded { limit, max });
        if open_calls >= self.config.client_calls_max {
            return overloaded("client_calls", self.config.client_calls_max);
        }
        let (calls_max, bytes_max) = (self.config.queued_calls_max, self.config.queued_bytes_max);
        let is_small =
            open_calls < calls_max / SMALL_SHARE && open_bytes + bytes < bytes_max / SMALL_SHARE;
        let reserve = |max: usize| if is_small { max / RESERVE_SHARE } else { 0 };
        if self.queued_calls >= calls_max.saturating_add(reserve(calls_max)) {
            return overloaded("queued_calls", calls_max);
        }
        if self.queued_bytes + bytes > bytes_max.saturating_add(reserve(bytes_max)) {
            return overloaded("queued_bytes", bytes_max);
        }
        let class = self.class_of(&new.target)?;
        if self.classes[class].queue.is_empty() && self.is_unknown_everywhere(class) {
            return Err(Failure::MethodNotFound { no_workers: false });
        }
        Ok(class)
    }

    /// The class for a target: made when somebody offers it, or may.
    fn class_of(&mut self, target: &Target) -> Result<ClassId, Failure> {
        if let Some(id) = self.classes.find(target) {
            let is_dead = self.classes[id].groups.is_empty() && self.classes[id].open_calls == 0;
            if !is_dead || self.route(target) == Route::Waits {
                return Ok(id);
            }
            self.drop_class(id);
        }
        let groups = match self.route(target) {
            Route::Groups(groups) => groups,
            Route::Waits => Vec::new(),
            Route::Nobody { no_workers } => return Err(Failure::MethodNotFound { no_workers }),
        };
        if self.classes.len() >= self.config.classes_max && !self.sweep_classes() {
            let max = self.config.classes_max;
            return Err(Failure::Overloaded {
                limit: "classes",
                max,
            });
        }
        let once = self.names_once(target, &groups);
        let id = self.classes.insert(Class {
            target: Rc::new(target.clone()),
            queue: FairQueue::default(),
            groups,
            refused_by: BTreeSet::new(),
            served: 0,
            estimate: Estimate::default(),
            open_calls: 0,
            once,
            latency: Histogram::default(),
            failures: 0,
        });
        if let Target::MethodAt { worker, .. } | Target::RawAt(worker) = target {
            let addressed = self.addressed.entry(worker.clone()).or_default();
            addressed.classes.insert(id);
        }
        Ok(id)
    }

    /// Whether some registration says that the method must never run twice.
    pub(crate) fn names_once(&self, target: &Target, groups: &[crate::group::GroupId]) -> bool {
        let (Target::Method(method) | Target::MethodAt { method, .. }) = target else {
            return false;
        };
        groups
            .iter()
            .any(|&group| self.groups[group].once_of(method) == Some(Once::Yes))
    }

    /// Forgets the classes that hold no call, when they are worth the walk; `false`: they are not.
    fn sweep_classes(&mut self) -> bool {
        if self.classes.idle() <= self.config.classes_max / SWEPT_SHARE {
            return false;
        }
        for id in self.classes.ids() {
            if self.classes[id].open_calls == 0 {
                self.drop_class(id);
            }
        }
        true
    }

    pub(crate) fn drop_class(&mut self, id: ClassId) {
        let Some(class) = self.classes.remove(id) else {
            return;
        };
        debug_assert!(class.queue.is_empty(), "a class goes after its calls");
        let worker = class.target.worker().unwrap_or_default();
        if let Some(addressed) = self.addressed.get_mut(worker) {
            addressed.classes.remove(&id);
            if addressed.classes.is_empty() {
                self.addressed.remove(worker);
            }
        }
        for slot in class.refused_by {
            if let Some(slot) = self.slots.get_mut(&slot) {
                slot.refused.remove(&id);
            }
        }
    }

    fn refuse(&mut self, client: ClientId, call: NewCall<Q>, origin: Origin, failure: Failure) {
        let NewCall {
            target, request, ..
        } = call;
        self.totals.count_failure(&failure);
        self.note(|_| Note::Failed {
            call: None,
            target: Rc::new(target),
            failure: failure.clone(),
        });
        match origin {
            Origin::Single => {
                let (call, outcome) = (CallId(0), Outcome::Failed(failure));
                self.actions.push_back(Action::Answer {
                    client,
                    call,
                    request,
                    outcome,
                });
            }
            Origin::Notification => {
                self.actions
                    .push_back(Action::AcknowledgeRefused { client, request });
            }
            Origin::SilentItem => {}
            Origin::Item { batch, index } => {
                let outcome = Some(Outcome::Failed(failure));
                self.item_ended(batch, index, request, outcome, false);
            }
        }
    }
}
