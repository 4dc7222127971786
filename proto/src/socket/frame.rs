//! A frame: one part of a message.

use std::ffi::CString;
use std::fmt;
use std::ops::Deref;

use super::raw::RawMessage;

/// Up to here a copy is cheaper than handing the buffer over, which costs two allocations to track.
const COPY_BYTES_MAX: usize = 512;

/// One part of a message: bytes that never change, shared by counting.
///
/// Moves and shares cost 88 bytes. Frames from the network may point into a larger receive buffer:
/// `Frame::from(&frame[..])` makes one of its own, for what is kept long.
pub struct Frame(pub(super) RawMessage);

impl Frame {
    /// The empty frame, such as the delimiter of an envelope.
    pub fn empty() -> Self {
        Self(RawMessage::empty())
    }

    /// The parts one after the other, written straight into the message.
    pub fn join(parts: &[&[u8]]) -> Self {
        Self(RawMessage::join(parts))
    }

    /// The bytes of a buffer that is used again and again: a few are copied, many are handed over and
    /// room for as many takes their place.
    pub fn take(buffer: &mut Vec<u8>) -> Self {
        if buffer.len() <= COPY_BYTES_MAX {
            let frame = Self::from(&buffer[..]);
            buffer.clear();
            return frame;
        }
        let fresh = Vec::with_capacity(buffer.len());
        Self(RawMessage::owning(std::mem::replace(buffer, fresh)))
    }

    /// The same bytes again, without copying them if there are more than 33.
    pub fn share(&self) -> Self {
        Self(self.0.share())
    }

    /// A property that the connection gave this frame on arrival: "User-Id" (from ZAP),
    /// "Peer-Address", "Socket-Type". None for frames made here.
    pub fn property(&self, name: &str) -> Option<String> {
        self.0.property(&CString::new(name).ok()?)
    }
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Default for Frame {
    fn default() -> Self {
        Self::empty()
    }
}

impl Clone for Frame {
    /// [`share`](Self::share).
    fn clone(&self) -> Self {
        self.share()
    }
}

impl PartialEq for Frame {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl Eq for Frame {}

impl PartialEq<[u8]> for Frame {
    fn eq(&self, other: &[u8]) -> bool {
        self[..] == *other
    }
}

impl<const N: usize> PartialEq<&[u8; N]> for Frame {
    fn eq(&self, other: &&[u8; N]) -> bool {
        self[..] == other[..]
    }
}

impl fmt::Debug for Frame {
    /// Length and the first bytes: frames can be large and are not for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self[..self.len().min(32)];
        let more = if shown.len() < self.len() { "…" } else { "" };
        write!(
            f,
            "Frame({} bytes: \"{}{more}\")",
            self.len(),
            shown.escape_ascii()
        )
    }
}

impl From<&[u8]> for Frame {
    fn from(bytes: &[u8]) -> Self {
        Self(RawMessage::copy_of(bytes))
    }
}

impl<const N: usize> From<&[u8; N]> for Frame {
    fn from(bytes: &[u8; N]) -> Self {
        Self::from(&bytes[..])
    }
}

impl From<&str> for Frame {
    fn from(text: &str) -> Self {
        Self::from(text.as_bytes())
    }
}

impl From<String> for Frame {
    fn from(text: String) -> Self {
        Self::from(text.into_bytes())
    }
}

impl From<Vec<u8>> for Frame {
    /// Takes the buffer over; a small one is copied, which is cheaper.
    fn from(bytes: Vec<u8>) -> Self {
        if bytes.len() <= COPY_BYTES_MAX {
            Self(RawMessage::copy_of(&bytes))
        } else {
            Self(RawMessage::owning(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_any_size_hold_the_bytes_they_were_made_of() {
        for len in [0, 1, 33, 34, COPY_BYTES_MAX, COPY_BYTES_MAX + 1, 1 << 20] {
            let mut bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
            // Spare capacity must not confuse the release of a buffer handed over.
            bytes.reserve(1000);
            let copied = Frame::from(&bytes[..]);
            let shared = copied.share();
            drop(copied);
            assert_eq!(shared[..], bytes[..]);
            assert_eq!(Frame::from(bytes.clone())[..], bytes[..]);
        }
    }

    #[test]
    fn joined_parts_stand_one_after_the_other() {
        assert_eq!(Frame::join(&[])[..], b""[..]);
        assert_eq!(Frame::join(&[b"", b"ab", b"", b"c"])[..], b"abc"[..]);
        let long = vec![7u8; 5_000];
        let joined = Frame::join(&[b"x", &long, b"y"]);
        assert_eq!(joined.len(), 5_002);
        assert_eq!((joined[0], joined[5_001]), (b'x', b'y'));
        assert_eq!(joined[1..5_001], long[..]);
    }

    #[test]
    fn a_large_buffer_is_taken_over_and_shared_without_a_copy() {
        let bytes = vec![7u8; 1 << 20];
        let pointer = bytes.as_ptr();
        let frame = Frame::from(bytes);
        let shared = frame.share();
        assert_eq!(frame.as_ptr(), pointer);
        assert_eq!(shared.as_ptr(), pointer);
        drop(frame);
        assert_eq!(shared.share().as_ptr(), pointer);
        assert!(shared.iter().all(|&byte| byte == 7));
    }

    #[test]
    fn a_buffer_is_taken_and_ready_for_the_next_frame() {
        for len in [0, 5, COPY_BYTES_MAX, COPY_BYTES_MAX + 1, 1 << 16] {
            let mut buffer = vec![3u8; len];
            assert_eq!(Frame::take(&mut buffer)[..], vec![3u8; len][..]);
            assert!(buffer.is_empty() && buffer.capacity() >= len);
        }
    }

    #[test]
    fn shares_of_a_frame_can_end_on_other_threads() {
        let frame = Frame::from(vec![1u8; 4096]);
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let shared = frame.share();
                std::thread::spawn(move || shared.share().iter().map(|&b| usize::from(b)).sum())
            })
            .collect();
        drop(frame);
        for thread in threads {
            let sum: usize = thread.join().unwrap();
            assert_eq!(sum, 4096);
        }
    }

    #[test]
    fn a_frame_made_here_has_no_properties() {
        assert_eq!(Frame::from("x").property("Peer-Address"), None);
        assert_eq!(Frame::from("x").property("nul\0inside"), None);
    }

    #[test]
    fn debug_output_is_cut_short_and_escaped() {
        let text = format!("{:?}", Frame::from(vec![0u8; 1000]));
        assert!(
            text.starts_with("Frame(1000 bytes: \"\\x00") && text.len() < 200,
            "{text}"
        );
    }
}
