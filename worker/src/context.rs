//! What a function can know and say about the call it runs for.

use crate::attachment::{Attachment, missing_attachment};
use crate::call_error::CallError;
use crate::cancel::CancelFlag;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use muster_proto::limits;
use muster_proto::socket::Frame;
use muster_proto::worker::StreamKind;
use std::borrow::Cow;
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// Attachments of one reply: what fits a message beside envelope and body.
pub(crate) const ATTACHMENTS_MAX: usize = limits::MESSAGE_FRAMES_MAX - 4;

/// Takes what a running function streams to its caller.
pub(crate) type StreamSink<'a> = dyn FnMut(StreamKind, &[u8]) + 'a;

/// The running call, for a function that wants more than its arguments.
///
/// Given as the first argument to functions of [`crate::Worker::function_with_context`].
pub struct CallContext<'a> {
    pub(crate) method: &'a str,
    pub(crate) cancel: &'a CancelFlag,
    pub(crate) deadline: Option<Instant>,
    pub(crate) attachments: &'a [Frame],
    /// Whether the reply may carry attachments.
    pub(crate) takes_frames: bool,
    pub(crate) attached: RefCell<Vec<Frame>>,
    /// `None`: the caller did not ask for a stream.
    pub(crate) stream: Option<RefCell<&'a mut StreamSink<'a>>>,
}

impl<'a> CallContext<'a> {
    /// The context of a call that has nothing but a method.
    pub(crate) fn new(method: &'a str, cancel: &'a CancelFlag) -> Self {
        CallContext {
            method,
            cancel,
            deadline: None,
            attachments: &[],
            takes_frames: false,
            attached: RefCell::default(),
            stream: None,
        }
    }

    /// The method's name as the caller wrote it.
    pub fn method(&self) -> &str {
        self.method
    }

    /// Whether nobody waits for the result any more: the call was cancelled or its deadline passed.
    /// A function that takes long looks here now and then, and returns early.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_set()
            || self
                .deadline
                .is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Sleeps, but not beyond a cancellation; whether the call is cancelled.
    pub fn sleep(&self, duration: Duration) -> bool {
        self.cancel.wait(duration)
    }

    /// When the caller stops waiting, if it set a timeout.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Tells a caller that asked for a stream how far the work is. Cheap when none did; dropped
    /// when the caller does not keep up.
    pub fn progress(&self, done: u64, total: u64) {
        if let Some(stream) = &self.stream {
            let value = format!(r#"{{"done":{done},"total":{total}}}"#);
            (stream.borrow_mut())(StreamKind::Progress, value.as_bytes());
        }
    }

    /// How many attachments came with the call.
    pub fn attachments(&self) -> usize {
        self.attachments.len()
    }

    /// The bytes that a parameter stands for.
    ///
    /// # Errors
    /// [`CallError::InvalidParams`] when the attachment did not come or the text is no base64.
    pub fn bytes<'b>(&'b self, attachment: &Attachment) -> Result<Cow<'b, [u8]>, CallError> {
        match attachment {
            Attachment::Frame(number) => match self.attachments.get(*number) {
                Some(frame) => Ok(Cow::Borrowed(frame)),
                None => Err(missing_attachment(number, self.attachments.len())),
            },
            Attachment::Base64(text) => BASE64
                .decode(text)
                .map(Cow::Owned)
                .map_err(|error| CallError::InvalidParams(format!("$base64: {error}"))),
        }
    }

    /// Puts bytes beside the result: returns what stands for them in it. A caller that takes no
    /// frames gets them as base64.
    ///
    /// # Errors
    /// [`CallError::TooLarge`] over the limits of an attachment or of a message's frames.
    pub fn attach(&self, bytes: Vec<u8>) -> Result<Attachment, CallError> {
        let (size, max) = (bytes.len(), limits::ATTACHMENT_BYTES_MAX);
        if size > max {
            return Err(CallError::TooLarge {
                what: "attachment_bytes",
                size,
                max,
            });
        }
        if !self.takes_frames {
            return Ok(Attachment::Base64(BASE64.encode(bytes)));
        }
        self.push(Frame::from(bytes))
    }

    /// Puts bytes that came with the call beside the result, without a copy of them.
    ///
    /// # Errors
    /// As [`Self::bytes`] and [`Self::attach`].
    pub fn attach_again(&self, attachment: &Attachment) -> Result<Attachment, CallError> {
        match attachment {
            Attachment::Frame(number) if self.takes_frames => match self.attachments.get(*number) {
                Some(frame) => self.push(frame.share()),
                None => Err(missing_attachment(number, self.attachments.len())),
            },
            _ => self.attach(self.bytes(attachment)?.into_owned()),
        }
    }

    fn push(&self, frame: Frame) -> Result<Attachment, CallError> {
        let mut attached = self.attached.borrow_mut();
        if attached.len() == ATTACHMENTS_MAX {
            let (size, max) = (attached.len() + 1, ATTACHMENTS_MAX);
            return Err(CallError::TooLarge {
                what: "attachments",
                size,
                max,
            });
        }
        attached.push(frame);
        Ok(Attachment::Frame(attached.len() - 1))
    }

    /// Sends the call's own attachments back under their numbers.
    pub(crate) fn attach_all_again(&self) {
        let mut attached = self.attached.borrow_mut();
        attached.extend(
            self.attachments
                .iter()
                .take(ATTACHMENTS_MAX)
                .map(Frame::share),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_beside_the_result_only_to_a_caller_that_takes_frames() {
        let cancel = CancelFlag::default();
        let mut context = CallContext::new("m", &cancel);
        assert_eq!(
            context.attach(vec![0, 1]).unwrap(),
            Attachment::Base64("AAE=".into())
        );
        assert!(context.attached.borrow().is_empty());
        context.takes_frames = true;
        assert_eq!(context.attach(vec![0, 1]).unwrap(), Attachment::Frame(0));
        assert_eq!(context.attach(vec![]).unwrap(), Attachment::Frame(1));
        assert_eq!(context.attached.borrow()[0][..], [0, 1]);
    }

    #[test]
    fn bytes_that_came_go_back_without_a_copy() {
        let cancel = CancelFlag::default();
        let frames = [Frame::from("x"), Frame::from(vec![7; 5_000])];
        let mut context = CallContext {
            attachments: &frames,
            ..CallContext::new("m", &cancel)
        };
        let (first, missing) = (Attachment::Frame(0), Attachment::Frame(2));
        let as_text = context.attach_again(&first).unwrap();
        assert_eq!(as_text, Attachment::Base64("eA==".into()));
        context.takes_frames = true;
        let again = context.attach_again(&Attachment::Frame(1)).unwrap();
        assert_eq!(again, Attachment::Frame(0));
        assert_eq!(context.attached.borrow()[0].as_ptr(), frames[1].as_ptr());
        assert!(context.attach_again(&missing).is_err());
    }

    #[test]
    fn bytes_are_read_from_frames_and_base64() {
        let cancel = CancelFlag::default();
        let frames = [Frame::from("abc")];
        let context = CallContext {
            attachments: &frames,
            ..CallContext::new("m", &cancel)
        };
        assert_eq!(&*context.bytes(&Attachment::Frame(0)).unwrap(), b"abc");
        assert!(context.bytes(&Attachment::Frame(1)).is_err());
        assert_eq!(
            &*context.bytes(&Attachment::Base64("YWJj".into())).unwrap(),
            b"abc"
        );
        assert!(context.bytes(&Attachment::Base64("?".into())).is_err());
    }

    #[test]
    fn progress_reaches_a_caller_that_asked() {
        let cancel = CancelFlag::default();
        let mut items = Vec::new();
        let mut sink = |kind, value: &[u8]| items.push((kind, value.to_vec()));
        let mut context = CallContext::new("m", &cancel);
        context.progress(1, 2);
        context.stream = Some(RefCell::new(&mut sink));
        context.progress(2, 2);
        drop(context);
        assert_eq!(
            items,
            [(StreamKind::Progress, br#"{"done":2,"total":2}"#.to_vec())]
        );
    }
}
