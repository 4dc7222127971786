//! Which groups can run what.
//!
//! A method goes to those who registered it. One that nobody registered goes to lanes, which may
//! know it. One that somebody registered once waits for somebody to do so again, one that a lane has
//! answered waits for a lane, and so does a raw body. Anything else is not found, except that before the first worker has come nobody can say.

use crate::call::CallState;
use crate::class::ClassId;
use crate::event::Target;
use crate::group::GroupId;
use crate::{Core, Failure, Outcome, Reply, Request};
use muster_proto::id::CallId;

/// Where a target's calls go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// To slots of these groups.
    Groups(Vec<GroupId>),
    /// Nowhere yet, but it is worth waiting.
    Waits,
    /// Nowhere.
    Nobody {
        /// There is no worker at all.
        no_workers: bool,
    },
}

impl<Q: Request, R: Reply> Core<Q, R> {
    pub(crate) fn route(&self, target: &Target) -> Route {
        if let Target::MethodAt { worker, .. } | Target::RawAt(worker) = target {
            return self.route_at(target, worker);
        }
        let named: Vec<GroupId> = self.groups_where(|group| group.names(target));
        if !named.is_empty() {
            return Route::Groups(named);
        }
        let Target::Method(method) = target else {
            return Route::Waits;
        };
        if self.known.contains(method) {
            return Route::Waits;
        }
        let anything = self.groups_where(crate::group::Group::takes_anything);
        if !anything.is_empty() {
            return Route::Groups(anything);
        }
        if self.now < self.settle_until || self.served_by_lanes.contains(method) {
            return Route::Waits;
        }
        Route::Nobody {
            no_workers: self.workers.is_empty(),
        }
    }

    fn route_at(&self, target: &Target, worker: &str) -> Route {
        let Some(id) = self.worker_names.get(worker) else {
            let is_early = self.now < self.settle_until;
            let no_workers = self.workers.is_empty();
            return if is_early {
                Route::Waits
            } else {
                Route::Nobody { no_workers }
            };
        };
        let id = self.workers[id].group;
        let group = &self.groups[id];
        let may = group.names(target)
            || (group.takes_anything() && matches!(target, Target::MethodAt { .. }));
        if may {
            Route::Groups(vec![id])
        } else {
            Route::Nobody { no_workers: false }
        }
    }

    fn groups_where(&self, takes: impl Fn(&crate::group::Group) -> bool) -> Vec<GroupId> {
        self.groups
            .iter()
            .filter(|(_, group)| takes(group))
            .map(|(id, _)| id)
            .collect()
    }

    /// A worker came or went: the classes for it look anew whether it can run them.
    pub(crate) fn reroute_to(&mut self, worker: &str) {
        let addressed = self.addressed.get(worker);
        let classes = addressed.map(|addressed| addressed.classes.clone());
        for id in classes.unwrap_or_default() {
            self.reroute_class(id);
        }
    }

    /// Groups came or went: every class looks anew where its calls can go.
    pub(crate) fn reroute(&mut self) {
        for id in self.classes.ids() {
            self.reroute_class(id);
        }
    }

    fn reroute_class(&mut self, id: ClassId) {
        let groups = match self.route(&self.classes[id].target) {
            Route::Groups(groups) => groups,
            Route::Waits | Route::Nobody { .. } => Vec::new(),
        };
        if groups == self.classes[id].groups {
            return;
        }
        self.unlist(id);
        let once = self.names_once(&self.classes[id].target, &groups);
        let class = &mut self.classes[id];
        let before = std::mem::replace(&mut class.groups, groups);
        class.once |= once;
        let served = self.present(id);
        self.classes[id].served = served;
        self.list(id);
        // Where it left it may have been in the way of others.
        for group in before {
            self.fill(group);
        }
        self.offer(id);
    }

    /// The first worker is there, or none came in time: what nobody knows now is not found.
    pub(crate) fn settle(&mut self) {
        self.settle_until = self.now;
        for id in self.classes.ids() {
            let Route::Nobody { no_workers } = self.route(&self.classes[id].target) else {
                continue;
            };
            let waiting: Vec<CallId> = self.classes[id].queue.iter().collect();
            for call in waiting {
                debug_assert!(matches!(
                    self.calls.get(call).map(|call| call.state),
                    Some(CallState::Queued)
                ));
                self.finish(
                    call,
                    Outcome::Failed(Failure::MethodNotFound { no_workers }),
                );
            }
        }
    }
}

/// Whether a class's calls are for one worker.
#[inline]
pub(crate) fn is_addressed(target: &Target) -> bool {
    target.worker().is_some()
}

/// Whether a class's calls are JSON.
#[inline]
pub(crate) fn is_json(target: &Target) -> bool {
    matches!(target, Target::Method(_) | Target::MethodAt { .. })
}
