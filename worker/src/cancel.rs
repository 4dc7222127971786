//! The flag by which a running function learns that nobody waits for it any more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Set by the control link, read by the function; a function that sleeps is woken by it.
#[derive(Debug, Default)]
pub(crate) struct CancelFlag {
    is_set: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl CancelFlag {
    pub fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Acquire)
    }

    pub fn set(&self) {
        let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_set.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    pub fn clear(&self) {
        // A plain look first: this runs once per call and the flag is hardly ever set.
        if self.is_set() {
            self.is_set.store(false, Ordering::Release);
        }
    }

    /// Waits until the flag is set, at most for `timeout`; whether it is.
    pub fn wait(&self, timeout: Duration) -> bool {
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .changed
            .wait_timeout_while(guard, timeout, |()| !self.is_set());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        self.is_set()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_wait_ends_with_the_flag_or_the_timeout() {
        let flag = Arc::new(CancelFlag::default());
        assert!(!flag.wait(Duration::from_millis(1)));
        let setter = Arc::clone(&flag);
        let thread = std::thread::spawn(move || setter.set());
        assert!(flag.wait(Duration::from_secs(60)));
        thread.join().unwrap();
        flag.clear();
        assert!(!flag.is_set());
    }
}
