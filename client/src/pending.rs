//! A call under way.

use crate::answer::{Answer, Reply};
use crate::completions::Completions;
use crate::error::Error;
use crate::handle::Handle;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// What a call ends with.
pub type Outcome = Result<Answer, Error>;

/// A call under way. Dropping it does not stop the call; [`Pending::cancel`] does.
///
/// It is a [`Future`], too, for whatever executor the program uses.
#[derive(Clone)]
pub struct Pending {
    pub(crate) id: u64,
    pub(crate) promise: Arc<Promise>,
    pub(crate) handle: Arc<Handle>,
}

impl Pending {
    /// Waits for the outcome, however long it takes. Asking again gives the same.
    ///
    /// # Errors
    /// What the call failed with.
    pub fn wait(&self) -> Outcome {
        self.promise
            .wait(None)
            .expect("without a timeout the wait ends with the outcome")
    }

    /// Waits up to `timeout`; `None`: the call goes on.
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Outcome> {
        self.promise.wait(Some(timeout))
    }

    /// Whether the outcome is there.
    pub fn is_done(&self) -> bool {
        self.promise.lock().outcome.is_some()
    }

    /// Gives the outcome to `done`: now if it is there, else on the client's own thread, which
    /// `done` must not keep.
    pub fn when_done(&self, done: impl FnOnce(Outcome) + Send + 'static) {
        self.promise.observe(Box::new(done));
    }

    /// Asks the broker to cancel the call, which then ends as cancelled, unless it has ended.
    pub fn cancel(&self) {
        self.handle.cancel(self.id);
    }
}

impl Future for Pending {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        if let Some(outcome) = self.wait_timeout(Duration::ZERO) {
            return Poll::Ready(outcome);
        }
        let waker = context.waker().clone();
        self.when_done(move |_| waker.wake());
        Poll::Pending
    }
}

/// The calls in the order in which they end, each with its place in `calls`.
pub fn as_completed(calls: &[Pending]) -> impl Iterator<Item = (usize, Outcome)> + use<> {
    let queue = Arc::new(Completions::default());
    for (place, call) in calls.iter().enumerate() {
        let queue = Arc::clone(&queue);
        call.when_done(move |_| queue.push(place));
    }
    let calls = calls.to_vec();
    (0..calls.len()).map(move |_| {
        let place = queue
            .pop(None)
            .expect("every call ends, and is observed once");
        (place, calls[place].wait())
    })
}

/// Where the transport leaves a call's outcome.
#[derive(Default)]
pub(crate) struct Promise {
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Default)]
struct State {
    outcome: Option<Outcome>,
    observers: Vec<Observer>,
}

/// Gets the outcome once.
type Observer = Box<dyn FnOnce(Outcome) + Send>;

impl Promise {
    pub(crate) fn resolve(&self, reply: Result<Reply, Error>) {
        // Reading the reply is work for this thread, so it happens before the lock.
        let outcome = reply.and_then(Answer::read);
        let mut state = self.lock();
        if state.outcome.is_some() {
            return;
        }
        let observers: Vec<_> = std::mem::take(&mut state.observers)
            .into_iter()
            .map(|observer| (observer, outcome.clone()))
            .collect();
        state.outcome = Some(outcome);
        self.done.notify_all();
        // An observer may ask this very promise.
        drop(state);
        for (observer, outcome) in observers {
            observer(outcome);
        }
    }

    fn observe(&self, observer: Observer) {
        let mut state = self.lock();
        match state.outcome.clone() {
            None => state.observers.push(observer),
            Some(outcome) => {
                drop(state);
                observer(outcome);
            }
        }
    }

    fn wait(&self, timeout: Option<Duration>) -> Option<Outcome> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.lock();
        loop {
            if let Some(outcome) = &state.outcome {
                return Some(outcome.clone());
            }
            let Some(deadline) = deadline else {
                state = self
                    .done
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self
                .done
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
