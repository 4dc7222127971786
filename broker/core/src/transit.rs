//! What bytes on their way to a slot take: a call of some megabytes keeps a slot busy before its
//! function begins, and the worker's clock knows nothing of that.

use crate::class::Estimate;

/// Fewer bytes than this count as none: they travel with others.
const BYTES_MIN: u32 = 32 << 10;
/// What a KiB takes between processes of one machine, before anything is known of the link.
const LOCAL_NS_PER_KIB: u64 = 400;
/// A link that stood still for a while is no slower than this afterwards: 1 MB/s.
const NS_PER_KIB_MAX: u64 = 1_000_000;

/// A running estimate of what bytes take on one slot's link, and in the worker before and after
/// the function runs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Transit {
    per_kib: Estimate,
}

impl Transit {
    /// What a call with so many bytes takes on top of its service time, in microseconds.
    #[inline]
    pub fn micros(&self, bytes: u32) -> u32 {
        if bytes < BYTES_MIN {
            return 0;
        }
        let known_us = self.per_kib.micros(bytes >> 10);
        let us = known_us.unwrap_or_else(|| Self::local_us(bytes));
        u32::try_from(us).unwrap_or(u32::MAX)
    }

    /// What they take at least, whatever the link.
    #[inline]
    pub fn local_us(bytes: u32) -> u64 {
        if bytes < BYTES_MIN {
            return 0;
        }
        u64::from(bytes >> 10) * LOCAL_NS_PER_KIB / 1_000
    }

    /// Learns from an answer that came so long after the slot had turned to the call, or to its
    /// bytes.
    #[inline]
    pub fn learn(&mut self, bytes: u32, took_us: u64) {
        if bytes < BYTES_MIN {
            return;
        }
        let kib = u64::from(bytes >> 10);
        let took_ns = took_us.saturating_mul(1_000);
        let took_ns = took_ns.clamp(kib * LOCAL_NS_PER_KIB, kib * NS_PER_KIB_MAX);
        self.per_kib.learn(took_ns, bytes >> 10);
    }
}
