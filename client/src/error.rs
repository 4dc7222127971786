//! How a call, or the way to the broker, can fail.

use muster_proto::connection::ConnectionError;
use muster_proto::exit::Exit;
use muster_proto::rpc::RpcError;
use muster_proto::runtime::RuntimeError;
use muster_proto::socket::SocketError;
use std::sync::Arc;
use std::time::Duration;

/// A failure as the caller can act on it. Cheap to clone: a call's outcome can be asked twice.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// There is no broker where one was looked for.
    #[error("no broker: {looked}")]
    NoBroker {
        /// What was looked at and what was wrong with it.
        looked: String,
    },
    /// Something may be there, and says nothing.
    #[error("no broker: nothing answers at {endpoint}")]
    Silent {
        /// Where.
        endpoint: String,
    },
    /// The broker does not let this key in.
    #[error("the broker at {endpoint} refuses this key")]
    KeyRefused {
        /// Where.
        endpoint: String,
    },
    /// The broker went away before it had the call, and did not come back in time.
    #[error("lost the broker, and it did not come back within {} s", waited.as_secs())]
    BrokerLost {
        /// How long was waited.
        waited: Duration,
    },
    /// The broker went away while it had the call, and the call must not run twice.
    #[error("outcome unknown: the broker went away while it had the call")]
    UnknownOutcome,
    /// The call was answered with an error.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// No answer in time, not even one that the deadline has passed.
    #[error("no answer within {} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// The call was cancelled on this side before the broker had it.
    #[error("cancelled")]
    Cancelled,
    /// This side has too many calls under way.
    #[error("{max} calls are unanswered already, the limit of one client")]
    TooManyCalls {
        /// The limit.
        max: usize,
    },
    /// What came as an answer is none.
    #[error("the answer can't be read: {reason}")]
    BadAnswer {
        /// Why not.
        reason: String,
    },
    /// The parameters, or the items of a map, can't be sent.
    #[error("{what}: {reason}")]
    BadInput {
        /// Which input.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The runtime directory can't be used.
    #[error(transparent)]
    Runtime(Arc<RuntimeError>),
    /// The connection file can't be used.
    #[error(transparent)]
    Connection(Arc<ConnectionError>),
    /// The socket can't be used.
    #[error(transparent)]
    Socket(Arc<SocketError>),
    /// The client was dropped, or its thread has ended.
    #[error("the client is closed")]
    Closed,
}

impl Error {
    /// How a program ends that fails with this.
    pub fn exit(&self) -> Exit {
        match self {
            Error::NoBroker { .. }
            | Error::Silent { .. }
            | Error::BrokerLost { .. }
            | Error::UnknownOutcome
            | Error::Connection(_)
            | Error::Closed => Exit::Unavailable,
            Error::KeyRefused { .. } => Exit::Refused,
            Error::Rpc(error) => Exit::of_code(error.code),
            Error::Timeout(_) => Exit::Deadline,
            Error::TooManyCalls { .. } => Exit::Overloaded,
            Error::Cancelled | Error::BadAnswer { .. } => Exit::Failed,
            Error::BadInput { .. } | Error::Runtime(_) | Error::Socket(_) => Exit::Usage,
        }
    }
}

impl From<RuntimeError> for Error {
    fn from(error: RuntimeError) -> Self {
        Error::Runtime(Arc::new(error))
    }
}

impl From<ConnectionError> for Error {
    fn from(error: ConnectionError) -> Self {
        Error::Connection(Arc::new(error))
    }
}

impl From<SocketError> for Error {
    fn from(error: SocketError) -> Self {
        Error::Socket(Arc::new(error))
    }
}
