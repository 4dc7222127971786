//! The wish to end, from a signal handler.

use std::sync::Arc;
use tokio::sync::watch;

/// Asks a running gateway to leave: the first time it finishes what is under way, the second time
/// it ends at once. Clones ask the same gateway.
#[derive(Clone, Debug)]
pub struct Stop {
    asked: Arc<watch::Sender<u32>>,
}

impl Default for Stop {
    fn default() -> Self {
        Stop {
            asked: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl Stop {
    /// Asks once more. Any thread may.
    pub fn ask(&self) {
        self.asked.send_modify(|asked| *asked += 1);
    }

    /// Waits until it was asked `times` times.
    pub(crate) async fn asked(&self, times: u32) {
        let mut receiver = self.asked.subscribe();
        // The sender lives in `self`, so the wait can't fail.
        let _ = receiver.wait_for(|asked| *asked >= times).await;
    }
}
