//! The error object of a reply.

use crate::code::Code;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A JSON-RPC error object: what a failed call is answered with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RpcError {
    /// A number of the code table, or one a lane's own server made up.
    pub code: i64,
    /// One sentence.
    pub message: String,
    /// More, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
}

impl RpcError {
    /// The code with its standard message and no data.
    pub fn new(code: Code) -> Self {
        RpcError {
            code: code.number(),
            message: code.message().to_owned(),
            data: None,
        }
    }

    /// The same with another message.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// The same with `data`.
    #[must_use]
    pub fn data(mut self, data: &impl Serialize) -> Self {
        self.data = serde_json::value::to_raw_value(data).ok();
        self
    }

    /// A size over its limit: `what` names the limit.
    pub fn too_large(what: &str, size: usize, max: usize) -> Self {
        RpcError::new(Code::TooLarge)
            .message(format!("{what} is {size}, limit {max}"))
            .data(&serde_json::json!({"limit": what, "size": size, "max": max}))
    }

    /// A cap that is reached: `what` names it.
    pub fn overloaded(what: &str, max: usize) -> Self {
        RpcError::new(Code::Overloaded)
            .message(format!("{what} reached its limit of {max}"))
            .data(&serde_json::json!({"limit": what, "max": max}))
    }

    /// An invalid request, with the reason in `data`.
    pub fn invalid(reason: &str) -> Self {
        RpcError::new(Code::InvalidRequest).data(&serde_json::json!({"reason": reason}))
    }

    /// The code of the table, if it is one.
    pub fn known_code(&self) -> Option<Code> {
        Code::from_number(self.code)
    }

    /// The object as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("an error object has string keys only")
    }
}

impl PartialEq for RpcError {
    fn eq(&self, other: &Self) -> bool {
        let data = |error: &Self| error.data.as_ref().map(|raw| raw.get().to_owned());
        self.code == other.code && self.message == other.message && data(self) == data(other)
    }
}

impl std::fmt::Display for RpcError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for RpcError {}
