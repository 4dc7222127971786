//! How an XML-RPC call fails.

use super::write::escape;
use crate::pool::Failure;
use muster_proto::code::Code;
use muster_proto::rpc::RpcError;
use serde::Deserialize;

/// A `faultCode` with its `faultString`. The codes are those of JSON-RPC, whose first five numbers
/// mean the same in the interoperability list for XML-RPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: i64,
    pub(crate) text: String,
}

/// "unsupported encoding" in the interoperability list.
const UNSUPPORTED_ENCODING: i64 = -32701;

impl Fault {
    fn of(code: Code, text: impl Into<String>) -> Self {
        Fault {
            code: code.number(),
            text: text.into(),
        }
    }

    /// What came is no XML, or XML with parts that are refused.
    pub(crate) fn malformed(reason: &str) -> Self {
        Self::of(Code::ParseError, format!("malformed XML: {reason}"))
    }

    /// What came is XML and no call.
    pub(crate) fn no_call(reason: &str) -> Self {
        Self::of(Code::InvalidRequest, format!("no XML-RPC call: {reason}"))
    }

    /// A value that JSON has not.
    pub(crate) fn bad_value(reason: &str) -> Self {
        Self::of(Code::InvalidParams, reason)
    }

    pub(crate) fn encoding(name: &str) -> Self {
        Fault {
            code: UNSUPPORTED_ENCODING,
            text: format!("the encoding is {name}: send UTF-8"),
        }
    }

    /// A result that XML-RPC can't hold.
    pub(crate) fn bad_result(reason: &str) -> Self {
        Self::of(
            Code::BadReply,
            format!("the result can't be sent: {reason}"),
        )
    }

    /// An error reply. Of a function's own error the exception is told, of others the reason.
    pub(crate) fn of_error(error: &RpcError) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Data {
            r#type: Option<String>,
            message: Option<String>,
            reason: Option<String>,
            method: Option<String>,
        }
        let raw = error.data.as_ref();
        let data: Data = raw
            .and_then(|raw| serde_json::from_str(raw.get()).ok())
            .unwrap_or_default();
        let detail = match data {
            Data {
                r#type: Some(kind),
                message,
                ..
            } => Some(format!("{kind}: {}", message.unwrap_or_default())),
            Data { reason, method, .. } => reason.or(method),
        };
        let text = match detail {
            Some(detail) if error.code == Code::CallFailed.number() => detail,
            // Some messages hold the detail already.
            Some(detail) if !error.message.contains(&detail) => {
                format!("{}: {detail}", error.message)
            }
            _ => error.message.clone(),
        };
        Fault {
            code: error.code,
            text,
        }
    }

    /// No reply at all.
    pub(crate) fn of_failure(failure: &Failure) -> Self {
        Self::of(Code::InternalError, failure.to_string())
    }

    /// The whole answer.
    pub(crate) fn to_xml(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(300 + self.text.len());
        out.extend_from_slice(b"<?xml version='1.0'?>\n<methodResponse><fault><value><struct>");
        out.extend_from_slice(b"<member><name>faultCode</name><value><int>");
        // An int has 32 bits; a worker of another kind can have made up any number.
        let code = i32::try_from(self.code).unwrap_or(Code::CallFailed.number() as i32);
        out.extend_from_slice(code.to_string().as_bytes());
        out.extend_from_slice(
            b"</int></value></member><member><name>faultString</name><value><string>",
        );
        // What XML has no way to write is replaced here: the fault must arrive.
        let text: String = self
            .text
            .chars()
            .map(super::write::or_replacement)
            .collect();
        escape(&text, &mut out).expect("the characters were replaced");
        out.extend_from_slice(
            b"</string></value></member></struct></value></fault></methodResponse>\n",
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(error: &RpcError) -> String {
        Fault::of_error(error).text
    }

    #[test]
    fn faults_say_what_happened() {
        let failed = RpcError::new(Code::CallFailed)
            .data(&json!({"type": "ValueError", "message": "no", "traceback": "…"}));
        assert_eq!(text(&failed), "ValueError: no");
        let unknown = RpcError::new(Code::MethodNotFound).data(&json!({"method": "nope"}));
        assert_eq!(text(&unknown), "Method not found: nope");
        let plain = RpcError::new(Code::Overloaded).message("calls reached its limit of 3");
        assert_eq!(text(&plain), "calls reached its limit of 3");
    }

    #[test]
    fn a_fault_is_well_formed_whatever_it_says() {
        let fault = Fault {
            code: 1 << 40,
            text: "<\0&".into(),
        };
        let xml = String::from_utf8(fault.to_xml()).unwrap();
        assert!(xml.contains("<int>-32000</int>"), "{xml}");
        assert!(xml.contains("&lt;\u{fffd}&amp;"), "{xml}");
    }
}
