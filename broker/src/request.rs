//! A client's call as the broker keeps it: bytes and where the parts are.

use muster_core as core;
use muster_proto::rpc::{CallView, RpcError};
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
    /// Keeps the path of a message, `frames[1..body]`, its body, if the kind needs one, and what is
    /// below it.
    pub fn new(kind: Kind, frames: &[Frame], has_delimiter: bool, body: usize) -> Self {
        let text = match kind {
            Kind::Raw => Text::of(&frames[body]),
            // A batch's own text lives on in its items.
            Kind::Call | Kind::Batch | Kind::Multicall => Text::Own(Box::default()),
        };
        Self::with(kind, text, frames, has_delimiter, body)
    }

    /// The same of a call, which was read.
    pub fn call(view: &CallView<'_>, frames: &[Frame], has_delimiter: bool, body: usize) -> Self {
        let text = Text::of(&frames[body]);
        let mut request = Self::with(Kind::Call, text, frames, has_delimiter, body);
        request.note_spans(view);
        request
    }

    fn with(kind: Kind, body: Text, frames: &[Frame], has_delimiter: bool, at: usize) -> Self {
        let path = match (has_delimiter, at) {
            (false, _) => ReturnPath::Bare,
            (true, 2) => ReturnPath::Delimiter,
            (true, _) => {
                let above = &frames[1..at - 1];
                ReturnPath::Frames(above.iter().map(|frame| Box::from(&frame[..])).collect())
            }
        };
        let attachments = &frames[at + 1..];
        let mut request = Request {
            kind,
            path,
            body,
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
    pub fn item(view: &CallView<'_>) -> Self {
        let mut request = Self::unread_item();
        request.body = Text::Own(view.object.as_bytes().into());
        request.note_spans(view);
        request
    }

    /// An item that could not be read.
    pub fn unread_item() -> Self {
        Request {
            kind: Kind::Call,
            path: ReturnPath::Bare,
            body: Text::Own(Box::default()),
            id: Span::NONE,
            params: Span::NONE,
            extra: None,
        }
    }

    /// Notes where id and parameters stand in the text, which is the view's object.
    fn note_spans(&mut self, view: &CallView<'_>) {
        let span = |part| Span::of(view.object.as_bytes(), part);
        self.id = view.id.map_or(Span::NONE, span);
        self.params = view.params.map_or(Span::NONE, span);
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

    /// The same as bytes: as they are copied they need not be read.
    pub fn id_bytes(&self) -> Option<&[u8]> {
        Some(&self.body()[self.id.range()?])
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
