//! The extra member `meta` of a call.

use crate::limits;
use serde::{Deserialize, Serialize};

/// What a caller asks of the broker beyond the call itself. Every member is optional; an unknown
/// one is refused by name.
///
/// Source: docs/protocol.md, "meta".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// The call's deadline, counted from admission; 0 or absent: none. Of a chunk: per item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How often it may be started, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts_max: Option<u32>,
    /// -10 to 10, the higher first, among the client's own calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i8>,
    /// Names the call across connections of its client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `params` is an array of items, each an argument of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub map: bool,
    /// Send `rpc.progress`, `rpc.output` and `rpc.item` notifications before the answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
    /// The reply may carry attachments.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub frames: bool,
    /// That, and large ones may be on the broker's shelf.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
    /// Only this worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The call (`c123`) inside which this one is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
}

impl Meta {
    /// Reads and checks the member.
    ///
    /// # Errors
    /// The reason in words: an unknown member, a wrong type, a value out of range.
    pub fn read(raw: &str) -> Result<Self, String> {
        if !raw.starts_with('{') {
            return Err("meta is an object".into());
        }
        let meta: Meta = serde_json::from_str(raw).map_err(|error| {
            let text = error.to_string();
            // The position is one within `meta`, of no use to the caller.
            let reason = text
                .rsplit_once(" at line ")
                .map_or(text.as_str(), |(head, _)| head);
            format!("meta: {reason}")
        })?;
        if meta.attempts_max == Some(0) {
            return Err("meta: attempts_max is 0, at least 1".into());
        }
        if let Some(priority) = meta.priority.filter(|p| !(-10..=10).contains(p)) {
            return Err(format!("meta: priority is {priority}, from -10 to 10"));
        }
        let texts = [
            ("key", &meta.key),
            ("to", &meta.to),
            ("parent", &meta.parent),
        ];
        for (name, text) in texts {
            let bytes = text.as_ref().map_or(1, String::len);
            if !(1..=limits::KEY_BYTES_MAX).contains(&bytes) {
                let max = limits::KEY_BYTES_MAX;
                return Err(format!("meta: {name} has {bytes} bytes, from 1 to {max}"));
            }
        }
        Ok(meta)
    }
}
