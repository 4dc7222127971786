//! HTTP answers.

use bytes::Bytes;
use hyper::body::{Body, Frame as Part, SizeHint};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};
use muster_proto::socket::Frame;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// What every handler answers.
pub(crate) type Reply = Response<Payload>;

pub(crate) const JSON: &str = "application/json";
pub(crate) const XML: &str = "text/xml; charset=utf-8";
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";

/// An answer's body.
pub(crate) enum Payload {
    /// All of it, until it is taken.
    Whole(Option<Bytes>),
    /// As it comes.
    Stream(mpsc::Receiver<Bytes>),
}

/// An answer with a body of this type.
pub(crate) fn reply(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Reply {
    let body = body.into();
    let mut reply = Response::new(Payload::Whole(Some(body).filter(|body| !body.is_empty())));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

/// One line of text.
pub(crate) fn line(status: StatusCode, text: &str) -> Reply {
    reply(status, TEXT, format!("{text}\n"))
}

/// Success without a body.
pub(crate) fn no_content() -> Reply {
    let mut reply = Response::new(Payload::Whole(None));
    *reply.status_mut() = StatusCode::NO_CONTENT;
    reply
}

/// A frame as bytes: a large one is not copied.
pub(crate) fn bytes_of(frame: Frame) -> Bytes {
    struct Owner(Frame);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    if frame.len() <= 1024 {
        Bytes::copy_from_slice(&frame)
    } else {
        Bytes::from_owner(Owner(frame))
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Part<Bytes>, Infallible>>> {
        let part = match &mut *self {
            Payload::Whole(bytes) => Poll::Ready(bytes.take()),
            Payload::Stream(receiver) => receiver.poll_recv(context),
        };
        part.map(|bytes| bytes.map(|bytes| Ok(Part::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Payload::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Payload::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Payload::Stream(_) => SizeHint::default(),
        }
    }
}
