//! Exit codes of every program, in one place.

use crate::code::Code;

/// How a program of Muster ends, as the shell sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Done,
    /// The call failed, or an item of a map.
    Failed,
    /// Wrong usage.
    Usage,
    /// No broker, or no worker (`EX_UNAVAILABLE` of sysexits.h).
    Unavailable,
    /// A cap is reached (`EX_TEMPFAIL`).
    Overloaded,
    /// The key is refused (`EX_NOPERM`).
    Refused,
    /// A deadline passed, as `timeout(1)` reports it.
    Deadline,
    /// Ended by this signal.
    Signal(i32),
}

impl Exit {
    /// The number for `exit(2)`.
    pub const fn number(self) -> i32 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Unavailable => 69,
            Exit::Overloaded => 75,
            Exit::Refused => 77,
            Exit::Deadline => 124,
            Exit::Signal(signal) => 128 + signal,
        }
    }

    /// How a program ends whose call was answered with the error `number`.
    pub fn of_code(number: i64) -> Exit {
        match Code::from_number(number) {
            Some(Code::DeadlineExceeded) => Exit::Deadline,
            Some(Code::Overloaded) => Exit::Overloaded,
            Some(Code::Forbidden) => Exit::Refused,
            Some(Code::Draining) => Exit::Unavailable,
            _ => Exit::Failed,
        }
    }
}
