//! A client's call as the broker keeps it: bytes and where the parts are.

use muster_core as core;
use muster_proto::rpc::RpcError;
use muster_proto::socket::Frame;
use std::ops::Range;

/// Up to here a body is copied into a block of its own: a frame from the network pins the buffer
/// it was received in. Longer ones are shared by counting.
const COPY_BYTES_MAX: usize = 4 << 10;

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One JSON-RPC call or notification.
    Call,
    /// An opaque body.
    Raw,
    /// What a batch came with; its items are requests of their own.
    Batch,
    /// What `system.multicall` came with; its items are requests of their own.
    Multicall,
}

/// One request. Spans are of [`Request::body`].
#[derive(Debug)]
pub struct Request {
    /// What it is.
    pub kind: Kind,
    path: ReturnPath,
    body: Text,
    id: Span,
    params: Span,
    extra: Option<Box<Extra>>,
}

/// What few requests have.
#[derive(Debug, Default)]
pub struct Extra {
    /// Frames below the body.
    pub attachments: Vec<Frame>,
    /// What to leave out of the body for a strict server.
    pub meta_span: Option<Range<usize>>,
    /// The caller wants stream items.
    pub stream: bool,
    /// The reply may have attachments though the request has none.
    pub frames: bool,
    /// That, and large ones may be on the shelf.
    pub shared: bool,
    /// A map chunk's timeout per item.
    pub item_timeout_ms: u32,
    /// Items of a map chunk; 0: a plain call.
    pub items: u32,
    /// The answer, when it needs no worker.
    pub answer: Option<Result<String, RpcError>>,
}

/// Where a reply goes below the routing id.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ReturnPath {
    /// No delimiter.
    Bare,
    /// An empty delimiter and nothing above it: a plain REQ.
    Delimiter,
    /// Frames above the delimiter, as they came.
    Frames(Box<[Box<[u8]>]>),
}

#[derive(Debug)]
enum Text {
    Own(Box<[u8]>),
    Shared(Box<Frame>),
}

/// Start and length; bodies are far below 4 GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    start: u32,
    len: u32,
}

impl Span {
    const NONE: Span = Span {
        start: u32::MAX,
        len: 0,
    };

    /// Where `part`, a slice of `whole`, stands.
    fn of(whole: &[u8], part: &str) -> Self {
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        Span {
            start: start as u32,
            len: part.len() as u32,
        }
    }

    fn range(self) -> Option<Range<usize>> {
        let start = self.start as usize;
        (self != Self::NONE).then(|| start..start + self.len as usize)
    }
}

impl Request {
    /// Keeps `frame` and the path above it. `frames[1..body]` is the path.
    pub fn new(kind: Kind, frames: &[Frame], has_delimiter: bool, body: usize) -> Self {
        let path = match (has_delimiter, body) {
            (false, _) => ReturnPath::Bare,
            (true, 2) => ReturnPath::Delimiter,
            (true, _) => {
                let above = &frames[1..body - 1];
                ReturnPath::Frames(above.iter().map(|frame| Box::from(&frame[..])).collect())
            }
        };
        let text = match kind {
            // A batch's own text lives on in its items.
            Kind::Batch | Kind::Multicall => Text::Own(Box::default()),
            Kind::Call | Kind::Raw => Text::of(&frames[body]),
        };
        let attachments = &frames[body + 1..];
        let mut request = Request {
            kind,
            path,
            body: text,
            id: Span::NONE,
            params: Span::NONE,
            extra: None,
        };
        if !attachments.is_empty() {
            request.extra_mut().attachments = attachments.iter().map(Frame::share).collect();
        }
        request
    }

    /// An item of a batch or multicall: it has no path of its own.
    pub fn item(kind: Kind, object: &str) -> Self {
        let body = Text::Own(object.as_bytes().into());
        let path = ReturnPath::Bare;
        Request {
            kind,
            path,
            body,
            id: Span::NONE,
            params: Span::NONE,
            extra: None,
        }
    }

    /// Notes where id and parameters stand in `object`, the text this request was made of.
    pub fn note_spans(&mut self, object: &[u8], id: Option<&str>, params: Option<&str>) {
        self.id = id.map_or(Span::NONE, |id| Span::of(object, id));
        self.params = params.map_or(Span::NONE, |params| Span::of(object, params));
    }

    /// Sets an id that is not part of the body: a multicall's envelope has its call's.
    pub fn set_text(&mut self, text: &str) {
        self.body = Text::Own(text.as_bytes().into());
        self.id = Span {
            start: 0,
            len: text.len() as u32,
        };
    }

    /// The body, or a batch item's object.
    pub fn body(&self) -> &[u8] {
        match &self.body {
            Text::Own(bytes) => bytes,
            Text::Shared(frame) => frame,
        }
    }

    /// The body as a frame that shares its bytes, when it is kept as one.
    pub fn body_frame(&self) -> Option<Frame> {
        match &self.body {
            Text::Own(_) => None,
            Text::Shared(frame) => Some(frame.share()),
        }
    }

    /// The id as written; `None`: a notification, or unknown.
    pub fn id(&self) -> Option<&str> {
        self.text(self.id)
    }

    /// The parameters as written.
    pub fn params(&self) -> Option<&str> {
        self.text(self.params)
    }

    /// Where the parameters stand in the body.
    pub fn params_span(&self) -> Range<usize> {
        self.params.range().unwrap_or(0..0)
    }

    fn text(&self, span: Span) -> Option<&str> {
        std::str::from_utf8(&self.body()[span.range()?]).ok()
    }

    /// The rest.
    pub fn extra(&self) -> Option<&Extra> {
        self.extra.as_deref()
    }

    /// The rest, made when it isn't there.
    pub fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// Frames below the body.
    pub fn attachments(&self) -> &[Frame] {
        self.extra().map_or(&[], |extra| &extra.attachments)
    }

    /// Whether the reply may have attachments.
    pub fn takes_frames(&self) -> bool {
        self.extra()
            .is_some_and(|extra| extra.frames || extra.shared || !extra.attachments.is_empty())
    }

    /// Whether the message has an empty frame above its body.
    pub fn has_delimiter(&self) -> bool {
        self.path != ReturnPath::Bare
    }

    /// Whether it came through a proxy, or with a request id: not straight from a DEALER.
    pub fn is_forwarded(&self) -> bool {
        matches!(self.path, ReturnPath::Frames(_))
    }

    /// Puts the frames above the reply's body into `out`.
    pub fn push_path(&self, out: &mut Vec<Frame>) {
        match &self.path {
            ReturnPath::Bare => {}
            ReturnPath::Delimiter => out.push(Frame::empty()),
            ReturnPath::Frames(frames) => {
                out.extend(frames.iter().map(|frame| Frame::from(&frame[..])));
                out.push(Frame::empty());
            }
        }
    }
}

impl Text {
    fn of(frame: &Frame) -> Self {
        if frame.len() <= COPY_BYTES_MAX {
            Text::Own(frame[..].into())
        } else {
            Text::Shared(Box::new(frame.share()))
        }
    }
}

impl core::Request for Request {
    fn bytes(&self) -> usize {
        let attachments: usize = self.attachments().iter().map(|frame| frame.len()).sum();
        size_of::<Self>() + self.body().len() + attachments
    }
}
