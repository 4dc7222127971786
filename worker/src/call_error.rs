//! Why a call has no result, and how that reads on the wire.

use muster_proto::code::Code;
use muster_proto::rpc::RpcError;
use serde::Serialize;

/// Why a function gave no result.
///
/// A function that returns `Result<_, CallError>` picks the code its caller sees; any other error
/// type becomes [`CallError::Failed`] under its own name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The parameters do not fit: says which and why.
    #[error("{0}")]
    InvalidParams(String),
    /// The function failed.
    #[error("{kind}: {message}")]
    Failed {
        /// The error's type, such as `ParseIntError` or `ValueError`.
        kind: String,
        /// Its text.
        message: String,
        /// Where it came from, as far as known; else empty.
        traceback: String,
    },
    /// The call was cancelled, or its deadline passed, and the function noticed.
    #[error("cancelled")]
    Cancelled,
    /// A size is over its limit.
    #[error("{what} is {size}, limit {max}")]
    TooLarge {
        /// Which limit.
        what: &'static str,
        /// What it would have been.
        size: usize,
        /// What is allowed.
        max: usize,
    },
    /// This worker does not offer the method (any more).
    #[error("{0}")]
    UnknownMethod(String),
}

/// Which process an error came from: part of its `data`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The worker's name.
    pub worker: String,
    /// Its host.
    pub host: String,
    /// The process that ran the call.
    pub pid: u32,
}

/// `data` of a `CallFailed` error.
#[derive(Serialize)]
struct FailedData<'a> {
    r#type: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    traceback: &'a str,
    worker: &'a str,
    host: &'a str,
    pid: u32,
}

impl CallError {
    /// A failure of type `kind` without a traceback.
    pub fn failed(kind: impl Into<String>, message: impl Into<String>) -> Self {
        let (kind, message) = (kind.into(), message.into());
        CallError::Failed {
            kind,
            message,
            traceback: String::new(),
        }
    }

    /// The error object of the reply.
    pub(crate) fn to_rpc(&self, origin: &Origin) -> RpcError {
        match self {
            CallError::InvalidParams(reason) => RpcError::new(Code::InvalidParams)
                .message(format!("{}: {reason}", Code::InvalidParams.message())),
            CallError::Failed {
                kind,
                message,
                traceback,
            } => {
                let data = FailedData {
                    r#type: kind,
                    message,
                    traceback,
                    worker: &origin.worker,
                    host: &origin.host,
                    pid: origin.pid,
                };
                RpcError::new(Code::CallFailed)
                    .message(format!("{kind}: {message}"))
                    .data(&data)
            }
            CallError::Cancelled => RpcError::new(Code::Cancelled),
            CallError::TooLarge { what, size, max } => RpcError::too_large(what, *size, *max),
            CallError::UnknownMethod(method) => {
                RpcError::new(Code::MethodNotFound).data(&serde_json::json!({ "method": method }))
            }
        }
    }
}

/// What `serde_json` says, without the position, which is one within a part of the body.
pub(crate) fn json_reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ")
        .map_or(text.as_str(), |(head, _)| head)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_its_type_and_process() {
        let origin = Origin {
            worker: "w".into(),
            host: "h".into(),
            pid: 7,
        };
        let error = CallError::failed("ParseIntError", "invalid digit").to_rpc(&origin);
        assert_eq!(
            (error.code, error.message.as_str()),
            (-32000, "ParseIntError: invalid digit")
        );
        let data: serde_json::Value = serde_json::from_str(error.data.unwrap().get()).unwrap();
        assert_eq!(
            data,
            serde_json::json!({"type": "ParseIntError", "message": "invalid digit",
                "worker": "w", "host": "h", "pid": 7})
        );
    }

    #[test]
    fn wrong_parameters_keep_the_standard_code_and_say_which() {
        let origin = Origin {
            worker: "w".into(),
            host: "h".into(),
            pid: 7,
        };
        let error = CallError::InvalidParams("parameter 1 (n): missing".into()).to_rpc(&origin);
        assert_eq!(error.code, -32602);
        assert_eq!(error.message, "Invalid params: parameter 1 (n): missing");
    }
}
