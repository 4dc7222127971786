//! Client messages: frames into return path and body, and back.
//!
//! A message on the frontend is `[routing id, path…, "", body, attachments…]`. REQ sends an empty
//! path, REQ with correlation a request id, a chained proxy its own routing ids. A DEALER may
//! leave the delimiter out. Whatever stood above the body is echoed in front of the reply.
//!
//! Source: docs/protocol.md, "Client envelopes".

use crate::limits;
use std::ops::Range;

/// Where the parts of a client message are, as frame numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The frames to echo above the reply, delimiter included, routing id excluded.
    pub path: Range<usize>,
    /// Whether the path ends with an empty delimiter.
    pub has_delimiter: bool,
    /// The body's frame; attachments follow it.
    pub body: usize,
}

/// Why a client message has no readable envelope.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// There is a routing id and nothing else.
    #[error("the message has no body")]
    Empty,
    /// The return path is too long to be kept for every call.
    #[error("return path has {bytes} bytes, limit {bytes_max}")]
    PathTooLong {
        /// Bytes of the path.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
}

/// Finds path and body of `frames`, the first of which is the routing id.
///
/// The rule: a lone frame, or one that starts with `{` or `[`, is the body itself; else the first
/// empty frame among the next five ends the return path; with no empty frame there, the whole
/// message is a raw body. A four-byte frame in front of an empty one is a correlated REQ's request
/// id even when its first byte happens to be a brace, as happens twice in 256 requests.
///
/// How many frames there are is the caller's to judge: a message with too many is answered, too, for
/// which its path is needed.
///
/// # Errors
/// [`EnvelopeError`] when there is no body or the path is too long.
pub fn split<F: AsRef<[u8]>>(frames: &[F]) -> Result<Envelope, EnvelopeError> {
    let size = |n: usize| frames[n].as_ref().len();
    match frames.len() {
        0 | 1 => return Err(EnvelopeError::Empty),
        2 => {
            return Ok(Envelope {
                path: 1..1,
                has_delimiter: false,
                body: 1,
            });
        }
        _ => {}
    }
    let bare = Envelope {
        path: 1..1,
        has_delimiter: false,
        body: 1,
    };
    let is_request_id = size(1) == 4 && size(2) == 0;
    if is_json(frames[1].as_ref()) && !is_request_id {
        return Ok(bare);
    }
    let last = frames.len().min(limits::PATH_FRAMES_MAX + 2);
    let Some(delimiter) = (1..last).find(|&n| size(n) == 0) else {
        return Ok(bare);
    };
    if delimiter + 1 == frames.len() {
        // An empty frame at the end is a body's part: there is nothing below it to deliver.
        return Ok(bare);
    }
    let bytes = (1..delimiter).map(size).sum();
    if bytes > limits::PATH_BYTES_MAX {
        return Err(EnvelopeError::PathTooLong {
            bytes,
            bytes_max: limits::PATH_BYTES_MAX,
        });
    }
    Ok(Envelope {
        path: 1..delimiter + 1,
        has_delimiter: true,
        body: delimiter + 1,
    })
}

/// Whether a body is JSON: its first byte other than white space is `{` or `[`.
pub fn is_json(body: &[u8]) -> bool {
    let first = body
        .iter()
        .find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    matches!(first, Some(b'{' | b'['))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split_text(frames: &[&str]) -> Result<(Range<usize>, bool, usize), EnvelopeError> {
        split(frames).map(|e| (e.path, e.has_delimiter, e.body))
    }

    #[test]
    fn every_front_end_shape_is_split() {
        assert_eq!(split_text(&["id", "", "{}"]), Ok((1..2, true, 2)));
        assert_eq!(split_text(&["id", "reqi", "", "{}"]), Ok((1..3, true, 3)));
        assert_eq!(split_text(&["id", "{}"]), Ok((1..1, false, 1)));
        assert_eq!(
            split_text(&["id", "p1", "p2", "p3", "p4", "", "x"]),
            Ok((1..6, true, 6))
        );
        assert_eq!(
            split_text(&["id", "p1", "p2", "p3", "p4", "p5", "", "x"]),
            Ok((1..1, false, 1))
        );
        assert_eq!(split_text(&["id", "Hello"]), Ok((1..1, false, 1)));
        assert_eq!(split_text(&["id", "", ""]), Ok((1..2, true, 2)));
        assert_eq!(split_text(&["id", "a", ""]), Ok((1..1, false, 1)));
    }

    #[test]
    fn a_request_id_that_looks_like_json_is_still_a_request_id() {
        assert_eq!(split_text(&["id", "{abc", "", "{}"]), Ok((1..3, true, 3)));
        assert_eq!(split_text(&["id", "[{}]", "", "{}"]), Ok((1..3, true, 3)));
    }

    #[test]
    fn a_json_frame_without_a_delimiter_is_the_body_whatever_follows() {
        assert_eq!(
            split_text(&["id", "{\"a\":1}", "", "x"]),
            Ok((1..1, false, 1))
        );
    }

    #[test]
    fn caps_are_named() {
        assert_eq!(split_text(&["id"]), Err(EnvelopeError::Empty));
        let long = "p".repeat(1_025);
        assert!(matches!(
            split_text(&["id", &long, "", "x"]),
            Err(EnvelopeError::PathTooLong { bytes: 1_025, .. })
        ));
    }
}
