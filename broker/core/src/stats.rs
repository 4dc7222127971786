//! Totals since the start.

use crate::{Failure, Outcome};

/// How many, since the broker started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Calls taken on.
    pub admitted: u64,
    /// Calls that ended with a result.
    pub succeeded: u64,
    /// Calls that ended with an error of the function, or of a lane's own server.
    pub failed: u64,
    /// Calls whose deadline passed.
    pub expired: u64,
    /// Calls that somebody cancelled, or whose client left.
    pub cancelled: u64,
    /// Calls that were lost with their workers.
    pub lost: u64,
    /// Calls refused because a cap was reached.
    pub shed: u64,
    /// Calls whose method nobody offers.
    pub not_found: u64,
    /// Calls refused or given up because the broker is leaving.
    pub drained: u64,
    /// Answers that could not be read.
    pub bad_replies: u64,
    /// Dispatches beyond a call's first.
    pub retried: u64,
    /// Calls taken back from a busy slot before they started.
    pub recalled: u64,
    /// Answers from a dispatch that does not hold the call.
    pub fenced: u64,
    /// Answers to calls that had been resolved without them.
    pub late: u64,
    /// Keyed calls that were found again.
    pub reattached: u64,
}

impl Totals {
    pub(crate) fn count<R>(&mut self, outcome: &Outcome<R>) {
        match outcome {
            Outcome::Replied {
                is_error: false, ..
            } => self.succeeded += 1,
            Outcome::Replied { is_error: true, .. } => self.failed += 1,
            Outcome::Failed(failure) => self.count_failure(failure),
        }
    }

    pub(crate) fn count_failure(&mut self, failure: &Failure) {
        let count = match failure {
            Failure::MethodNotFound { .. } => &mut self.not_found,
            Failure::DeadlineExceeded { .. } => &mut self.expired,
            Failure::WorkerLost { .. } => &mut self.lost,
            Failure::Overloaded { .. } => &mut self.shed,
            Failure::Cancelled { .. } => &mut self.cancelled,
            Failure::Draining => &mut self.drained,
            Failure::BadReply { .. } => &mut self.failed,
        };
        *count += 1;
    }
}
