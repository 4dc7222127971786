//! The code table: how a call can fail, as it crosses the wire.

/// A failure's number and name. Repeated in docs/protocol.md; a test compares the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// The body is not JSON.
    ParseError,
    /// The body is JSON but no call.
    InvalidRequest,
    /// Nobody offers the method.
    MethodNotFound,
    /// The parameters do not fit the method.
    InvalidParams,
    /// A flaw of Muster itself.
    InternalError,
    /// The function raised.
    CallFailed,
    /// The deadline passed, queued or running.
    DeadlineExceeded,
    /// The attempts are used up, each lost with its worker.
    WorkerLost,
    /// A cap is reached.
    Overloaded,
    /// Somebody cancelled the call.
    Cancelled,
    /// A size is over its limit.
    TooLarge,
    /// The key has no right to it.
    Forbidden,
    /// The broker is going away.
    Draining,
    /// What the worker sent can't be read as an answer.
    BadReply,
}

impl Code {
    /// Every code, in the order of the table.
    pub const ALL: [Code; 14] = [
        Code::ParseError,
        Code::InvalidRequest,
        Code::MethodNotFound,
        Code::InvalidParams,
        Code::InternalError,
        Code::CallFailed,
        Code::DeadlineExceeded,
        Code::WorkerLost,
        Code::Overloaded,
        Code::Cancelled,
        Code::TooLarge,
        Code::Forbidden,
        Code::Draining,
        Code::BadReply,
    ];

    /// The number in a JSON-RPC error object.
    pub const fn number(self) -> i64 {
        match self {
            Code::ParseError => -32700,
            Code::InvalidRequest => -32600,
            Code::MethodNotFound => -32601,
            Code::InvalidParams => -32602,
            Code::InternalError => -32603,
            Code::CallFailed => -32000,
            Code::DeadlineExceeded => -32001,
            Code::WorkerLost => -32002,
            Code::Overloaded => -32003,
            Code::Cancelled => -32004,
            Code::TooLarge => -32005,
            Code::Forbidden => -32006,
            Code::Draining => -32007,
            Code::BadReply => -32008,
        }
    }

    /// The default message: for the five of JSON-RPC 2.0 the text of its section 5.1, else the
    /// code's name.
    pub const fn message(self) -> &'static str {
        match self {
            Code::ParseError => "Parse error",
            Code::InvalidRequest => "Invalid Request",
            Code::MethodNotFound => "Method not found",
            Code::InvalidParams => "Invalid params",
            Code::InternalError => "Internal error",
            Code::CallFailed => "CallFailed",
            Code::DeadlineExceeded => "DeadlineExceeded",
            Code::WorkerLost => "WorkerLost",
            Code::Overloaded => "Overloaded",
            Code::Cancelled => "Cancelled",
            Code::TooLarge => "TooLarge",
            Code::Forbidden => "Forbidden",
            Code::Draining => "Draining",
            Code::BadReply => "BadReply",
        }
    }

    /// Whether asking again, unchanged, can succeed.
    pub const fn can_retry(self) -> bool {
        matches!(
            self,
            Code::DeadlineExceeded | Code::WorkerLost | Code::Overloaded | Code::Draining
        )
    }

    /// The code with this number, if it is one of the table.
    pub fn from_number(number: i64) -> Option<Code> {
        Code::ALL.into_iter().find(|code| code.number() == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_found_again() {
        for code in Code::ALL {
            assert_eq!(Code::from_number(code.number()), Some(code));
        }
        assert_eq!(Code::from_number(-1), None);
    }
}
