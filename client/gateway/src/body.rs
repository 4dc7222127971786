//! Reading a request's body: so much, in such a time.

use crate::budget::Share;
use crate::gateway::Gateway;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body, Incoming};

/// A body with the memory it takes.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) bytes: Bytes,
    _share: Share,
}

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoBody {
    TooLarge { bytes_max: usize },
    Slow,
    Busy,
    Broken,
}

impl NoBody {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            NoBody::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            NoBody::Slow => StatusCode::REQUEST_TIMEOUT,
            NoBody::Busy => StatusCode::SERVICE_UNAVAILABLE,
            NoBody::Broken => StatusCode::BAD_REQUEST,
        }
    }

    pub(crate) fn reason(self) -> String {
        match self {
            NoBody::TooLarge { bytes_max } => format!("the body is over {bytes_max} bytes"),
            NoBody::Slow => "the body did not come in time".into(),
            NoBody::Busy => "the bodies of other requests take all the memory there is".into(),
            NoBody::Broken => "the body broke off".into(),
        }
    }
}

/// Reads a body within the gateway's limits.
pub(crate) async fn read(body: Incoming, gateway: &Gateway) -> Result<Held, NoBody> {
    let bytes_max = gateway.body_bytes_max;
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(NoBody::TooLarge { bytes_max });
    }
    let reading = read_all(body, bytes_max, gateway.budget.share());
    let timeout = tokio::time::timeout(gateway.patience.body, reading);
    timeout.await.unwrap_or(Err(NoBody::Slow))
}

async fn read_all(mut body: Incoming, bytes_max: usize, mut share: Share) -> Result<Held, NoBody> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(part) = body.frame().await {
        let Ok(bytes) = part.map_err(|_| NoBody::Broken)?.into_data() else {
            // Trailers.
            continue;
        };
        if first.len() + all.len() + bytes.len() > bytes_max {
            return Err(NoBody::TooLarge { bytes_max });
        }
        if !share.grow(bytes.len()) {
            return Err(NoBody::Busy);
        }
        if first.is_empty() && all.is_empty() {
            // Most bodies come in one piece, which needs no copy.
            first = bytes;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&bytes);
        }
    }
    let bytes = if all.is_empty() { first } else { all.freeze() };
    Ok(Held {
        bytes,
        _share: share,
    })
}
