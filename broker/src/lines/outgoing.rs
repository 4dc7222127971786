//! A message on its way to a stock worker.

use muster_proto::socket::Frame;
use std::borrow::Cow;

/// One frame above the delimiter, and what is below it.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// The frame above the delimiter, which comes back with the answer.
    pub fence: &'a [u8],
    /// The first frame below it.
    pub body: Body<'a>,
    /// The frames that follow.
    pub attachments: &'a [Frame],
}

/// Bytes that travel as one frame.
#[derive(Debug)]
pub enum Body<'a> {
    /// Small, or made for this message.
    Bytes(Cow<'a, [u8]>),
    /// Kept elsewhere as well, and not to be copied.
    Frame(Frame),
}

impl Outgoing<'_> {
    /// The message as frames of libzmq.
    pub(super) fn into_frames(self, frames: &mut Vec<Frame>) {
        frames.clear();
        frames.push(Frame::from(self.fence));
        frames.push(Frame::empty());
        frames.push(match self.body {
            Body::Bytes(Cow::Borrowed(bytes)) => Frame::from(bytes),
            Body::Bytes(Cow::Owned(bytes)) => Frame::from(bytes),
            Body::Frame(frame) => frame,
        });
        frames.extend(self.attachments.iter().map(Frame::share));
    }
}
