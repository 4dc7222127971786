//! Bytes that travel beside the JSON, as frames of their own.
//!
//! In parameters and results `{"$frame": n}` stands for attachment n, `{"$base64": "…"}` for bytes
//! whose reader takes no frames, and `{"$literal": {…}}` for an object that only looks like one of
//! these.
//!
//! Source: docs/protocol.md, "Attachments".

use crate::call_error::CallError;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// The member that names an attachment.
pub(crate) const FRAME_KEY: &str = "$frame";
/// The member that holds bytes as text.
pub(crate) const BASE64_KEY: &str = "$base64";
/// The member around an object of one of these shapes.
pub(crate) const LITERAL_KEY: &str = "$literal";

/// Bytes in parameters or a result: a parameter of this type takes any of the ways in which a
/// caller can send bytes; [`crate::CallContext::bytes`] reads it, [`crate::CallContext::attach`]
/// makes one for the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// The attachment with this number, from 0.
    Frame(usize),
    /// The bytes as base64 with padding.
    Base64(String),
}

impl Serialize for Attachment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match self {
            Attachment::Frame(number) => map.serialize_entry(FRAME_KEY, number)?,
            Attachment::Base64(text) => map.serialize_entry(BASE64_KEY, text)?,
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Attachment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        enum Shape {
            #[serde(rename = "$frame")]
            Frame(usize),
            #[serde(rename = "$base64")]
            Base64(String),
        }
        Ok(match Shape::deserialize(deserializer)? {
            Shape::Frame(number) => Attachment::Frame(number),
            Shape::Base64(text) => Attachment::Base64(text),
        })
    }
}

/// Checks that every attachment the parameters name came with the call.
///
/// # Errors
/// [`CallError::InvalidParams`] with the number of the first that did not.
pub(crate) fn check_named(params: &str, attachments: usize) -> Result<(), CallError> {
    // Most parameters hold no `$` at all, and nothing more is read of them.
    if !params.as_bytes().contains(&b'$') || !params.contains("\"$frame\"") {
        return Ok(());
    }
    // What can't be read is for the function to refuse.
    let Ok(value) = serde_json::from_str::<Value>(params) else {
        return Ok(());
    };
    match missing(&value, attachments) {
        None => Ok(()),
        Some(named) => Err(missing_attachment(named, attachments)),
    }
}

pub(crate) fn missing_attachment(named: impl std::fmt::Display, attachments: usize) -> CallError {
    let came = match attachments {
        0 => "none".to_owned(),
        count => count.to_string(),
    };
    CallError::InvalidParams(format!(
        "attachment {named} is missing: {came} came with the call"
    ))
}

fn missing(value: &Value, attachments: usize) -> Option<&Value> {
    match value {
        Value::Array(items) => items.iter().find_map(|item| missing(item, attachments)),
        Value::Object(members) if members.len() == 1 => {
            let (key, inner) = members.iter().next().expect("one member");
            match key.as_str() {
                FRAME_KEY => {
                    let is_there = inner.as_u64().is_some_and(|n| n < attachments as u64);
                    (!is_there).then_some(inner)
                }
                LITERAL_KEY => inner
                    .as_object()
                    .and_then(|literal| literal.values().find_map(|v| missing(v, attachments))),
                _ => missing(inner, attachments),
            }
        }
        Value::Object(members) => members
            .values()
            .find_map(|inner| missing(inner, attachments)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attachment_reads_and_writes_both_shapes() {
        for (json, attachment) in [
            (r#"{"$frame":3}"#, Attachment::Frame(3)),
            (r#"{"$base64":"AAE="}"#, Attachment::Base64("AAE=".into())),
        ] {
            assert_eq!(serde_json::to_string(&attachment).unwrap(), json);
            assert_eq!(
                serde_json::from_str::<Attachment>(json).unwrap(),
                attachment
            );
        }
        assert!(serde_json::from_str::<Attachment>(r#"{"$frame":"x"}"#).is_err());
    }

    #[test]
    fn a_named_attachment_that_did_not_come_is_refused() {
        assert!(check_named(r#"[{"$frame":0},{"a":[{"$frame":1}]}]"#, 2).is_ok());
        let error = check_named(r#"[{"a":[{"$frame":2}]}]"#, 2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "attachment 2 is missing: 2 came with the call"
        );
        assert!(check_named(r#"[{"$frame":"x"}]"#, 2).is_err());
        assert!(check_named(r#"[{"$frame":-1}]"#, 2).is_err());
    }

    #[test]
    fn literals_and_larger_objects_are_no_attachments() {
        assert!(check_named(r#"[{"$literal":{"$frame":9}}]"#, 0).is_ok());
        assert!(check_named(r#"[{"$frame":9,"other":1}]"#, 0).is_ok());
        assert!(check_named(r#"["$frame"]"#, 0).is_ok());
        assert!(check_named(r#"[{"$literal":{"$frame":{"$frame":9}}}]"#, 0).is_err());
    }
}
