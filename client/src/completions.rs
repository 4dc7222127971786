//! A queue from the transport's thread to one that waits.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Unbounded by itself: what can be in it is bounded by the calls under way.
pub(crate) struct Completions<T> {
    state: Mutex<State<T>>,
    arrived: Condvar,
}

struct State<T> {
    items: VecDeque<T>,
    is_waited_for: bool,
}

impl<T> Default for Completions<T> {
    fn default() -> Self {
        let state = State {
            items: VecDeque::new(),
            is_waited_for: false,
        };
        Completions {
            state: Mutex::new(state),
            arrived: Condvar::new(),
        }
    }
}

impl<T> Completions<T> {
    pub(crate) fn push(&self, item: T) {
        let mut state = self.lock();
        state.items.push_back(item);
        // Waking costs a system call even when nobody waits.
        if std::mem::take(&mut state.is_waited_for) {
            drop(state);
            self.arrived.notify_all();
        }
    }

    /// Ends a wait without an item, so that the waiting thread looks around.
    pub(crate) fn nudge(&self) {
        self.lock().is_waited_for = false;
        self.arrived.notify_all();
    }

    /// The first item; waits up to `timeout` for one, or for ever.
    pub(crate) fn pop(&self, timeout: Option<Duration>) -> Option<T> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let mut state = self.wait(left);
            if let Some(item) = state.items.pop_front() {
                return Some(item);
            }
            if left.is_some_and(|left| left.is_zero()) {
                return None;
            }
        }
    }

    /// Moves all items to the end of `into`; with none there, waits up to `timeout` (`None`: for
    /// ever) for the first one or a nudge.
    pub(crate) fn take_all(&self, into: &mut VecDeque<T>, timeout: Option<Duration>) {
        into.append(&mut self.wait(timeout).items);
    }

    fn wait(&self, timeout: Option<Duration>) -> MutexGuard<'_, State<T>> {
        let mut state = self.lock();
        if !state.items.is_empty() || timeout == Some(Duration::ZERO) {
            return state;
        }
        state.is_waited_for = true;
        let idle = |state: &mut State<T>| state.items.is_empty() && state.is_waited_for;
        let mut state = match timeout {
            None => self
                .arrived
                .wait_while(state, idle)
                .unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => {
                let waited = self.arrived.wait_timeout_while(state, timeout, idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.is_waited_for = false;
        state
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn items_come_in_order_from_another_thread() {
        let queue = Arc::new(Completions::default());
        let sender = Arc::clone(&queue);
        let thread = std::thread::spawn(move || (0..1000).for_each(|n| sender.push(n)));
        for expected in 0..1000 {
            assert_eq!(queue.pop(None), Some(expected));
        }
        thread.join().unwrap();
        assert_eq!(queue.pop(Some(Duration::from_millis(1))), None);
    }

    #[test]
    fn a_nudge_ends_a_wait_without_an_item() {
        let queue = Arc::new(Completions::<u8>::default());
        let nudger = Arc::clone(&queue);
        let done = Arc::new(Completions::default());
        let over = Arc::clone(&done);
        let thread = std::thread::spawn(move || {
            let mut items = VecDeque::new();
            queue.take_all(&mut items, None);
            over.push(items.len());
        });
        // The nudge may come before the wait, so it is given until it worked.
        let left = loop {
            nudger.nudge();
            if let Some(left) = done.pop(Some(Duration::from_millis(1))) {
                break left;
            }
        };
        assert_eq!(left, 0);
        thread.join().unwrap();
    }
}
