//! The calls that ended last, and how long calls take, in memory that does not grow.

use crate::action::{Failure, Outcome};
use crate::call::{Call, CallState};
use crate::event::{Reply, Target};
use crate::time::{MonoTime, micros};
use crate::{ClientId, SlotId};
use muster_proto::id::CallId;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// Ended calls that are remembered,
const ENDED_MAX: usize = 2_048;
/// and failed ones, which are of interest for longer.
const FAILED_MAX: usize = 512;
/// A longer error is not kept with its call.
const ERROR_BYTES_MAX: usize = 16 << 10;

/// A call that ended.
#[derive(Clone, Debug, PartialEq)]
pub struct EndedCall<R> {
    /// Which.
    pub id: CallId,
    /// Its client's connection.
    pub client: ClientId,
    /// Whom it was for.
    pub target: Rc<Target>,
    /// The slot it was on at the end, and the worker's name.
    pub slot: Option<(SlotId, Rc<str>)>,
    /// When it was taken on.
    pub admitted: MonoTime,
    /// When it was resolved.
    pub ended: MonoTime,
    /// How often it was dispatched.
    pub dispatches: u32,
    /// How it ended.
    pub how: HowEnded<R>,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq)]
pub enum HowEnded<R> {
    /// With a result.
    Succeeded,
    /// With an error of its function; kept unless it is long. In a box, as nearly all calls succeed.
    Error(Option<Box<R>>),
    /// Otherwise.
    Failed(Box<Failure>),
}

/// Rings of ended calls, the newest at the back.
#[derive(Debug)]
pub(crate) struct Recent<R> {
    ended: VecDeque<EndedCall<R>>,
    failed: VecDeque<EndedCall<R>>,
}

impl<R> Default for Recent<R> {
    fn default() -> Self {
        Recent {
            ended: VecDeque::new(),
            failed: VecDeque::new(),
        }
    }
}

impl<R: Reply> Recent<R> {
    pub fn push<Q>(
        &mut self,
        id: CallId,
        call: &Call<Q>,
        target: &Rc<Target>,
        worker: Option<Rc<str>>,
        outcome: &Outcome<R>,
        now: MonoTime,
    ) {
        let how = match outcome {
            Outcome::Replied {
                is_error: false, ..
            } => HowEnded::Succeeded,
            Outcome::Replied {
                reply,
                is_error: true,
            } => {
                HowEnded::Error((reply.bytes() <= ERROR_BYTES_MAX).then(|| Box::new(reply.clone())))
            }
            Outcome::Failed(failure) => HowEnded::Failed(Box::new(failure.clone())),
        };
        let slot = match call.state {
            CallState::Dispatched { slot } => worker.map(|worker| (slot, worker)),
            _ => None,
        };
        let ended = EndedCall {
            id,
            client: call.client,
            target: target.clone(),
            slot,
            admitted: call.admitted,
            ended: now,
            dispatches: call.dispatches,
            how,
        };
        let (ring, max) = match ended.how {
            HowEnded::Succeeded => (&mut self.ended, ENDED_MAX),
            HowEnded::Error(_) | HowEnded::Failed(_) => (&mut self.failed, FAILED_MAX),
        };
        if ring.len() == max {
            ring.pop_front();
        }
        ring.push_back(ended);
    }

    /// Failed calls, the newest first.
    pub fn failed(&self) -> impl Iterator<Item = &EndedCall<R>> {
        self.failed.iter().rev()
    }

    /// Every ended call that is remembered.
    pub fn all(&self) -> impl Iterator<Item = &EndedCall<R>> {
        self.failed().chain(self.ended.iter().rev())
    }
}

/// Buckets of a [`Histogram`]: the first up to [`Histogram::FIRST_US`], each next one twice as
/// wide, the last without an end.
pub const BUCKETS: usize = 22;

/// How long calls took, from admission to answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Calls per bucket.
    pub counts: [u64; BUCKETS],
    /// All times together, in microseconds.
    pub sum_us: u64,
}

impl Histogram {
    /// The first bucket's upper end, in microseconds; the last but one ends at 67 s.
    pub const FIRST_US: u64 = 64;

    /// Counts one call.
    #[inline]
    pub fn add(&mut self, took: Duration) {
        let us = micros(took);
        let above = us.saturating_sub(1) / Self::FIRST_US;
        let bucket = (u64::BITS - above.leading_zeros()) as usize;
        self.counts[bucket.min(BUCKETS - 1)] += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }

    /// Counts what another counted, too.
    pub fn merge(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    /// Calls in all.
    pub fn calls(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// A bucket's upper end in microseconds; `None`: it has none.
    pub fn upper_us(bucket: usize) -> Option<u64> {
        (bucket + 1 < BUCKETS).then(|| Self::FIRST_US << bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_the_bucket_that_ends_at_or_above_it() {
        for (us, bucket) in [(0, 0), (64, 0), (65, 1), (128, 1), (129, 2), (u64::MAX, 21)] {
            let mut histogram = Histogram::default();
            histogram.add(Duration::from_micros(us));
            assert_eq!(histogram.counts[bucket], 1, "{us}");
        }
        assert_eq!(Histogram::upper_us(0), Some(64));
        assert_eq!(Histogram::upper_us(20), Some(64 << 20));
        assert_eq!(Histogram::upper_us(21), None);
    }

    #[test]
    fn two_counts_are_added_up() {
        let mut sum = Histogram::default();
        sum.add(Duration::from_micros(64));
        let mut other = Histogram::default();
        other.add(Duration::from_micros(64));
        other.add(Duration::from_micros(100));
        sum.merge(&other);
        assert_eq!((sum.counts[0], sum.counts[1]), (2, 1));
        assert_eq!((sum.calls(), sum.sum_us), (3, 228));
    }
}
