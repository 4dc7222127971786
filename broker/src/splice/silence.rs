//! Whether a peer that says nothing is gone.
//!
//! Only a peer that was asked (the DEALER's PING) can be silent, or one that takes nothing of what
//! is sent. The clock runs from when the PING has reached it, as far as the kernel can tell, and
//! stands while a large frame in front of the PING is still moving. Time is counted in ticks of the thread, so that what passed while the
//! whole process was frozen is nobody's silence.

/// A relay (a tunnel, a proxy) takes bytes long before the peer has them, and the kernel counts
/// them as arrived. One more tick is granted for so many bytes that went in front of a PING.
const RELAYED_BYTES_PER_TICK: u64 = 256 << 10;

/// What was said last.
#[derive(Debug)]
pub(crate) struct Silence {
    /// Ticks without a sign that are the end.
    ticks_max: u64,
    /// Bytes handed to the peer when it was last heard.
    passed_at_sign: u64,
    asked: Option<Asked>,
}

/// A question without an answer so far, or bytes that the peer has yet to take.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// Where it ends in the stream to the peer.
    end: u64,
    wants_answer: bool,
    has_arrived: bool,
    /// The farthest that the stream was seen to have arrived.
    arrived: u64,
    /// When it last moved, or arrived.
    since: u64,
}

impl Silence {
    /// Nothing has been asked.
    pub fn new(ticks_max: u64) -> Self {
        Silence {
            ticks_max,
            passed_at_sign: 0,
            asked: None,
        }
    }

    /// Something came from the peer, when `passed` bytes had been passed to it.
    pub fn broken(&mut self, passed: u64) {
        self.asked = None;
        self.passed_at_sign = passed;
    }

    /// A question was passed on; it ends at byte `passed` of the stream.
    pub fn asked(&mut self, passed: u64, tick: u64) {
        if self.asked.is_none_or(|asked| !asked.wants_answer) {
            self.asked = Some(Asked::new(passed, true, tick));
        }
    }

    /// The line is full at byte `passed` of the stream, so that no question gets through.
    pub fn stuck(&mut self, passed: u64, tick: u64) {
        self.asked.get_or_insert(Asked::new(passed, false, tick));
    }

    /// Whether there is something to judge.
    pub fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Judges: true when the peer is gone. `arrived` is how much of the stream the kernel knows
    /// with the peer; `is_heard` is false while nobody reads what the peer may have said.
    pub fn is_over(&mut self, arrived: u64, is_heard: bool, tick: u64) -> bool {
        let Some(asked) = &mut self.asked else {
            return false;
        };
        if !is_heard {
            asked.since = tick;
        } else if !asked.has_arrived {
            if arrived >= asked.end {
                if !asked.wants_answer {
                    self.asked = None;
                    return false;
                }
                asked.has_arrived = true;
                asked.since = tick;
            } else if arrived > asked.arrived {
                asked.arrived = arrived;
                asked.since = tick;
            }
        }
        let relayed = match asked.wants_answer {
            true => asked.end.saturating_sub(self.passed_at_sign),
            false => 0,
        };
        tick - asked.since >= self.ticks_max + relayed / RELAYED_BYTES_PER_TICK
    }
}

impl Asked {
    fn new(end: u64, wants_answer: bool, tick: u64) -> Self {
        Asked {
            end,
            wants_answer,
            has_arrived: false,
            arrived: 0,
            since: tick,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_gone_when_a_ping_that_arrived_stays_unanswered() {
        let mut silence = Silence::new(12);
        assert!(!silence.is_over(0, true, 100));
        silence.asked(9, 100);
        // Later PINGs do not restart the clock.
        silence.asked(18, 104);
        assert!(!silence.is_over(9, true, 101));
        assert!(!silence.is_over(27, true, 112));
        assert!(silence.is_over(27, true, 113));
    }

    #[test]
    fn any_byte_is_a_sign_of_life() {
        let mut silence = Silence::new(12);
        silence.asked(9, 100);
        silence.broken(9);
        assert!(!silence.is_asked() && !silence.is_over(9, true, 1000));
    }

    #[test]
    fn a_large_frame_that_moves_is_life_and_one_that_stands_is_not() {
        let mut silence = Silence::new(12);
        silence.asked(100_000, 0);
        for tick in 1..100 {
            assert!(!silence.is_over(tick * 1000, true, tick));
        }
        assert!(!silence.is_over(99_000, true, 110));
        assert!(silence.is_over(99_000, true, 111));
    }

    #[test]
    fn later_pings_that_the_kernel_takes_are_no_life() {
        let mut silence = Silence::new(12);
        silence.asked(9, 0);
        let over = (1..100).find(|&tick| silence.is_over(9 * tick, true, tick));
        assert_eq!(over, Some(13));
    }

    #[test]
    fn time_in_which_nobody_listened_does_not_count() {
        let mut silence = Silence::new(12);
        silence.asked(9, 0);
        assert!(!silence.is_over(9, false, 50));
        assert!(!silence.is_over(9, true, 51));
        assert!(silence.is_over(9, true, 63));
    }

    #[test]
    fn what_a_relay_may_hold_in_front_of_a_ping_grants_time() {
        let mut silence = Silence::new(12);
        silence.broken(1000);
        silence.asked(1000 + (8 << 20), 0);
        assert!(!silence.is_over(9 << 20, true, 1));
        assert!(!silence.is_over(9 << 20, true, 44));
        assert!(silence.is_over(9 << 20, true, 45));
    }

    #[test]
    fn a_peer_that_takes_nothing_is_gone_and_one_that_takes_a_little_is_not() {
        let mut silence = Silence::new(12);
        silence.stuck(100_000, 0);
        assert!(!silence.is_over(5_000, true, 1));
        assert!(!silence.is_over(6_000, true, 12));
        // It took all of that; what follows is another matter, and nothing was asked.
        assert!(!silence.is_over(100_000, true, 20));
        assert!(!silence.is_asked());
        silence.stuck(200_000, 20);
        assert!(!silence.is_over(150_000, true, 21));
        assert!(silence.is_over(150_000, true, 33));
    }

    #[test]
    fn a_question_behind_a_full_line_waits_for_its_answer() {
        let mut silence = Silence::new(12);
        silence.stuck(100, 0);
        silence.asked(109, 1);
        assert!(!silence.is_over(109, true, 2));
        assert!(silence.is_asked());
        assert!(silence.is_over(109, true, 14));
    }
}
