//! Where calls wait: in the queue of their class, which is listed where slots look for work.

use crate::call::CallState;
use crate::class::ClassId;
use crate::route::is_addressed;
use crate::{Core, Reply, Request};
use muster_proto::id::CallId;

impl<Q: Request, R: Reply> Core<Q, R> {
    /// Queues a call where it belongs: behind the others, or in front when it was started before.
    pub(crate) fn enqueue(&mut self, id: CallId) {
        let call = self.calls.get_mut(id).expect("the caller holds it");
        call.state = CallState::Queued;
        self.queued_calls += 1;
        self.queued_bytes += call.bytes as usize;
        let (client, priority, class_id) = (call.client, call.priority, call.class);
        if let Some(nested) = call.nested() {
            self.wait_in_nest(id, class_id, nested);
        }
        let was_empty = self.classes[class_id].queue.is_empty();
        if was_empty {
            // A class that was away owes nothing for it and has nothing saved up.
            self.classes[class_id].served = self.present(class_id);
        }
        let queue = &mut self.classes[class_id].queue;
        queue.push(client, priority, id);
        let is_first = queue.first() == Some(id);
        if was_empty {
            self.list(class_id);
        } else if is_first {
            self.stirred.push(class_id);
        }
    }

    /// Takes a waiting call out of its queue.
    pub(crate) fn dequeue(&mut self, id: CallId) {
        let call = self.calls.get(id).expect("the caller holds it");
        self.queued_calls -= 1;
        self.queued_bytes -= call.bytes as usize;
        let (client, priority, class_id) = (call.client, call.priority, call.class);
        if let Some(nested) = call.nested() {
            self.leave_nest(id, class_id, nested);
        }
        let queue = &mut self.classes[class_id].queue;
        let was_first = queue.first() == Some(id);
        let was_there = queue.remove(client, priority, id);
        debug_assert!(was_there, "a queued call is in its class's queue");
        if queue.is_empty() {
            self.unlist(class_id);
        }
        if was_first {
            self.stirred.push(class_id);
        }
    }

    /// Enters a class with waiting calls where slots look for work.
    pub(crate) fn list(&mut self, id: ClassId) {
        let class = &self.classes[id];
        if class.queue.is_empty() {
            return;
        }
        if let Some(worker) = class.target.worker() {
            let addressed = self.addressed.get_mut(worker);
            let addressed = addressed.expect("an addressed class is entered under its worker");
            if addressed.waiting.insert((class.served, id)) {
                self.addressed_waiting += 1;
            }
            return;
        }
        for &group in &class.groups {
            self.groups[group].waiting.insert((class.served, id));
        }
    }

    /// Takes a class out of where slots look for work.
    pub(crate) fn unlist(&mut self, id: ClassId) {
        let class = &self.classes[id];
        debug_assert!(!is_addressed(&class.target) || !self.addressed.is_empty());
        if let Some(worker) = class.target.worker() {
            let addressed = self.addressed.get_mut(worker);
            if addressed.is_some_and(|addressed| addressed.waiting.remove(&(class.served, id))) {
                self.addressed_waiting -= 1;
            }
            return;
        }
        for &group in &class.groups {
            self.groups[group].waiting.remove(&(class.served, id));
        }
    }
}
