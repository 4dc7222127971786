//! A call before it is sent.

use crate::error::Error;
use muster_proto::rpc::Meta;
use muster_proto::socket::Frame;
use serde::Serialize;
use serde_json::value::RawValue;
use std::io::Write;
use std::time::Duration;

/// A method with its parameters and what is asked of the broker.
///
/// ```
/// use muster_client::Call;
/// use std::time::Duration;
///
/// let call = Call::new("multiply", &(5, 3))?.timeout(Duration::from_millis(500));
/// # Ok::<(), muster_client::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Call {
    pub(crate) method: String,
    pub(crate) params: Option<String>,
    pub(crate) meta: Meta,
    pub(crate) attachments: Vec<Frame>,
}

impl Call {
    /// A call with `params`: a tuple or list gives positional parameters, a struct or map named
    /// ones, `()` none.
    ///
    /// # Errors
    /// [`Error::BadInput`] when `params` is no JSON array or object.
    pub fn new(method: &str, params: &(impl Serialize + ?Sized)) -> Result<Self, Error> {
        let bad = |reason: String| Error::BadInput {
            what: "params",
            reason,
        };
        let text = serde_json::to_string(params).map_err(|error| bad(error.to_string()))?;
        Self::with_json(method, Some(text))
    }

    /// A call whose parameters are JSON already; `None` or `null`: no parameters.
    ///
    /// # Errors
    /// [`Error::BadInput`] when they are no array or object.
    pub fn with_json(method: &str, params: Option<String>) -> Result<Self, Error> {
        let params = params.filter(|text| text != "null");
        if let Some(text) = &params {
            let bad = |reason: String| Error::BadInput {
                what: "params",
                reason,
            };
            serde_json::from_str::<&RawValue>(text).map_err(|error| bad(error.to_string()))?;
            if !text.trim_start().starts_with(['[', '{']) {
                return Err(bad("neither an array nor an object".into()));
            }
        }
        Ok(Call {
            method: method.to_owned(),
            params,
            meta: Meta::default(),
            attachments: Vec::new(),
        })
    }

    /// The call's deadline, counted from the broker's receipt; zero: none.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.meta.timeout_ms = timeout_ms(timeout);
        self
    }

    /// How often it may be started. With 1 it never runs twice, and its outcome can be unknown.
    #[must_use]
    pub fn attempts_max(mut self, attempts_max: u32) -> Self {
        self.meta.attempts_max = Some(attempts_max.max(1));
        self
    }

    /// From -10 to 10: the higher one is the first among this client's own calls.
    #[must_use]
    pub fn priority(mut self, priority: i8) -> Self {
        self.meta.priority = Some(priority.clamp(-10, 10));
        self
    }

    /// Only this worker runs it.
    #[must_use]
    pub fn to(mut self, worker: &str) -> Self {
        self.meta.to = Some(worker.to_owned());
        self
    }

    /// Names the call across connections, instead of a random key.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.meta.key = Some(key.to_owned());
        self
    }

    /// Adds an attachment; `{"$frame": n}` in the parameters stands for the n-th one.
    #[must_use]
    pub fn attach(mut self, attachment: impl Into<Frame>) -> Self {
        self.attachments.push(attachment.into());
        self
    }

    /// Bytes in the result come as attachments even if the call has none.
    #[must_use]
    pub fn attachments_wanted(mut self) -> Self {
        self.meta.frames = true;
        self
    }

    /// The method's name.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Whether the call must not be started twice.
    pub(crate) fn is_once(&self) -> bool {
        self.meta.attempts_max == Some(1)
    }

    /// Appends the request object; without an id it is a notification.
    pub(crate) fn write(&self, id: Option<u64>, out: &mut Vec<u8>) {
        Head {
            method: &self.method,
        }
        .write(out);
        if let Some(params) = &self.params {
            out.extend_from_slice(br#","params":"#);
            out.extend_from_slice(params.as_bytes());
        }
        write_tail(id, &self.meta, out);
    }
}

/// The beginning of a request, which a map writes over and over.
pub(crate) struct Head<'a> {
    pub(crate) method: &'a str,
}

impl Head<'_> {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"jsonrpc":"2.0","method":"#);
        serde_json::to_writer(&mut *out, self.method).expect("a string is JSON");
    }
}

/// The end of a request: id, meta and the closing brace.
pub(crate) fn write_tail(id: Option<u64>, meta: &Meta, out: &mut Vec<u8>) {
    if let Some(id) = id {
        write!(out, r#","id":{id}"#).expect("a Vec takes all");
    }
    if *meta != Meta::default() {
        out.extend_from_slice(br#","meta":"#);
        serde_json::to_writer(&mut *out, meta).expect("meta has string keys only");
    }
    out.push(b'}');
}

/// A timeout as `meta` has it: at least 1 ms; zero means none.
pub(crate) fn timeout_ms(timeout: Duration) -> Option<u64> {
    let ms = timeout.as_nanos().div_ceil(1_000_000);
    (ms > 0).then(|| u64::try_from(ms).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(call: &Call, id: Option<u64>) -> String {
        let mut out = Vec::new();
        call.write(id, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn requests_are_written_as_json_rpc() {
        let call = Call::new("multiply", &(5, "x")).unwrap();
        assert_eq!(
            text(&call, Some(7)),
            r#"{"jsonrpc":"2.0","method":"multiply","params":[5,"x"],"id":7}"#
        );
        let call = Call::new("a\"b", &())
            .unwrap()
            .timeout(Duration::from_micros(1))
            .key("k");
        assert_eq!(
            text(&call, None),
            r#"{"jsonrpc":"2.0","method":"a\"b","meta":{"timeout_ms":1,"key":"k"}}"#
        );
    }

    #[test]
    fn parameters_are_an_array_or_an_object() {
        assert!(Call::new("m", &5).is_err());
        assert!(Call::with_json("m", Some("[1".into())).is_err());
        assert!(Call::with_json("m", Some(r#"{"x":1}"#.into())).is_ok());
    }

    #[test]
    fn a_zero_timeout_is_none() {
        assert_eq!(timeout_ms(Duration::ZERO), None);
        assert_eq!(timeout_ms(Duration::from_nanos(1)), Some(1));
        assert_eq!(timeout_ms(Duration::from_millis(1500)), Some(1500));
    }
}
