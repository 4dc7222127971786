//! A worker's answer as the broker keeps it: a part of the message it came in.

use muster_core as core;
use muster_proto::socket::Frame;
use std::rc::Rc;

/// An answer's bytes and attachments.
#[derive(Debug)]
pub struct Reply {
    bytes: Bytes,
    form: Form,
    attachments: Option<Rc<[Frame]>>,
}

/// What the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A result or an error object as JSON.
    Value,
    /// A whole JSON-RPC reply under the call's id.
    Whole,
    /// Opaque.
    Raw,
}

#[derive(Debug)]
enum Bytes {
    /// A span of a message that other answers came in, too.
    Packed {
        message: Rc<Frame>,
        start: u32,
        len: u32,
    },
    /// A frame of its own. Few answers have one, and all of them are moved about.
    Frame(Box<Frame>),
    /// A copy that outlives the message.
    Copy(Rc<[u8]>),
}

impl Reply {
    /// An answer packed into `message`, of which `part` is a slice.
    pub fn packed(
        message: &Rc<Frame>,
        part: &[u8],
        form: Form,
        attachments: impl Iterator<Item = Frame>,
    ) -> Self {
        let start = (part.as_ptr() as usize - message.as_ptr() as usize) as u32;
        let bytes = Bytes::Packed {
            message: message.clone(),
            start,
            len: part.len() as u32,
        };
        Reply {
            bytes,
            form,
            attachments: shared(attachments),
        }
    }

    /// An answer in a frame of its own.
    pub fn frame(frame: Frame, form: Form, attachments: impl Iterator<Item = Frame>) -> Self {
        Reply {
            bytes: Bytes::Frame(Box::new(frame)),
            form,
            attachments: shared(attachments),
        }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Packed {
                message,
                start,
                len,
            } => &message[*start as usize..(*start + *len) as usize],
            Bytes::Frame(frame) => frame,
            Bytes::Copy(bytes) => bytes,
        }
    }

    /// The bytes as a frame, shared when they are one.
    pub fn to_frame(&self) -> Frame {
        match &self.bytes {
            Bytes::Frame(frame) => frame.share(),
            Bytes::Packed { .. } | Bytes::Copy(_) => Frame::from(self.bytes()),
        }
    }

    /// What the bytes are.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Frames that follow.
    pub fn attachments(&self) -> &[Frame] {
        self.attachments.as_deref().unwrap_or_default()
    }
}

/// The frames, kept only if there are some.
fn shared(frames: impl Iterator<Item = Frame>) -> Option<Rc<[Frame]>> {
    let mut frames = frames.peekable();
    frames.peek().is_some().then(|| frames.collect())
}

impl Clone for Reply {
    /// For keeping: an answer packed with others is copied, so that it does not pin them all.
    fn clone(&self) -> Self {
        let bytes = match &self.bytes {
            Bytes::Packed { .. } => Bytes::Copy(self.bytes().into()),
            Bytes::Frame(frame) => Bytes::Frame(frame.clone()),
            Bytes::Copy(bytes) => Bytes::Copy(bytes.clone()),
        };
        Reply {
            bytes,
            form: self.form,
            attachments: self.attachments.clone(),
        }
    }
}

impl core::Reply for Reply {
    fn bytes(&self) -> usize {
        self.bytes().len()
            + self
                .attachments()
                .iter()
                .map(|frame| frame.len())
                .sum::<usize>()
    }
}
