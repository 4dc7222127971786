//! One frame of libzmq's, and where its content is.

use std::cell::UnsafeCell;
use std::ffi::{CStr, c_int, c_void};
use std::ptr::{self, NonNull};
use std::slice;

use zmq_sys::zmq_msg_t;

/// One frame: always initialised, never written to after its creation.
///
/// The cell lets [`share`](Self::share) mark the source; libzmq keeps that mark outside of the
/// content, so slices into it stay valid.
pub struct RawMessage {
    message: UnsafeCell<zmq_msg_t>,
    /// Every look at the content would be two calls of libzmq, so they are made once.
    place: Place,
}

/// Where the content of a message is. It stays there as long as the message is the same.
#[derive(Clone, Copy)]
enum Place {
    /// There is none, nor anything else that would have to be released.
    Nowhere,
    /// In the message itself, so it moves with it.
    Within { offset: u8, len: u8 },
    /// Outside of it.
    At { start: NonNull<u8>, len: usize },
}

// SAFETY: content, metadata and their reference counts may be released by any thread.
unsafe impl Send for RawMessage {}

impl RawMessage {
    pub fn empty() -> Self {
        Self::with(Place::Nowhere, |message| {
            // SAFETY: the pointer is valid and not yet a message.
            unsafe { zmq_sys::zmq_msg_init(message) }
        })
    }

    pub fn copy_of(bytes: &[u8]) -> Self {
        Self::join(&[bytes])
    }

    /// The parts one after the other.
    pub fn join(parts: &[&[u8]]) -> Self {
        let total = parts.iter().map(|part| part.len()).sum();
        let mut joined = Self::with(Place::Nowhere, |message| {
            // SAFETY: the pointer is valid and not yet a message.
            unsafe { zmq_sys::zmq_msg_init_size(message, total) }
        });
        let mut content = joined.locate(total);
        for part in parts {
            // SAFETY: the content has room for the lengths of all parts together, cannot overlap
            // any of them, and nobody else has seen it yet.
            unsafe {
                ptr::copy_nonoverlapping(part.as_ptr(), content, part.len());
                content = content.add(part.len());
            }
        }
        joined
    }

    /// Hands the buffer to libzmq, which frees it when the last copy is gone.
    pub fn owning(bytes: Vec<u8>) -> Self {
        unsafe extern "C" fn free(content: *mut c_void, capacity: *mut c_void) {
            // SAFETY: `owning` leaked a vector with this pointer and capacity; bytes need no drop,
            // so its length does not matter.
            drop(unsafe { Vec::from_raw_parts(content.cast::<u8>(), 0, capacity as usize) });
        }
        let mut bytes = std::mem::ManuallyDrop::new(bytes);
        let (content, len, capacity) = (bytes.as_mut_ptr(), bytes.len(), bytes.capacity());
        let mut owning = Self::with(Place::Nowhere, |message| {
            let hint = ptr::without_provenance_mut(capacity);
            // SAFETY: the pointer is valid and not yet a message; the content lives until `free`.
            unsafe { zmq_sys::zmq_msg_init_data(message, content.cast(), len, Some(free), hint) }
        });
        owning.locate(len);
        owning
    }

    /// A second handle on the same content; only content within the message itself is copied.
    pub fn share(&self) -> Self {
        Self::with(self.place, |copy| {
            // SAFETY: both are initialised before the copy; `self` is not `Sync`, so nobody else
            // marks or releases the source meanwhile.
            unsafe {
                zmq_sys::zmq_msg_init(copy);
                zmq_sys::zmq_msg_copy(copy, self.message.get())
            }
        })
    }

    pub fn bytes(&self) -> &[u8] {
        match self.place {
            Place::Nowhere => &[],
            Place::Within { offset, len } => {
                // SAFETY: `locate` found so many bytes there, within the message; they are unwritten
                // while `self` is borrowed.
                unsafe {
                    let start = self.message.get().cast::<u8>().add(offset.into());
                    slice::from_raw_parts(start, len.into())
                }
            }
            // SAFETY: libzmq keeps so many bytes there, unwritten, until the message is closed.
            Place::At { start, len } => unsafe { slice::from_raw_parts(start.as_ptr(), len) },
        }
    }

    pub fn property(&self, name: &CStr) -> Option<String> {
        // SAFETY: the message is initialised; the value lives as long as its metadata.
        unsafe {
            let value = zmq_sys::zmq_msg_gets(self.message.get(), name.as_ptr());
            (!value.is_null()).then(|| CStr::from_ptr(value).to_string_lossy().into_owned())
        }
    }

    /// Has libzmq put another message in the place of this one and tell its length; on an error it
    /// is left as it was. True: more frames follow.
    pub(super) fn refill<E>(
        &mut self,
        fill: impl FnOnce(*mut zmq_msg_t) -> Result<c_int, E>,
    ) -> Result<bool, E> {
        let pointer = self.message.get_mut() as *mut zmq_msg_t;
        // A C int ends before the longest messages do.
        let len = match fill(pointer)? {
            // SAFETY: the message is initialised.
            c_int::MAX => unsafe { zmq_sys::zmq_msg_size(pointer) },
            len => len as usize,
        };
        self.locate(len);
        // SAFETY: as above.
        Ok(unsafe { zmq_sys::zmq_msg_more(pointer) } != 0)
    }

    /// Has libzmq take the message and leave an empty one; on an error it is left as it was.
    pub(super) fn empty_by<T, E>(
        &mut self,
        take: impl FnOnce(*mut zmq_msg_t) -> Result<T, E>,
    ) -> Result<T, E> {
        let result = take(self.message.get_mut());
        if result.is_ok() {
            self.place = Place::Nowhere;
        }
        result
    }

    fn with(place: Place, init: impl FnOnce(*mut zmq_msg_t) -> c_int) -> Self {
        let mut message = zmq_msg_t::default();
        // Only memory can fail here; Rust's own allocations abort then, too.
        assert_eq!(init(&raw mut message), 0, "no memory for a message");
        Self {
            message: UnsafeCell::new(message),
            place,
        }
    }

    /// Asks libzmq where the content of `len` bytes is, and notes it.
    fn locate(&mut self, len: usize) -> *mut u8 {
        if len == 0 {
            // It may have no content at all, yet metadata to release.
            self.place = Place::Within { offset: 0, len: 0 };
            return ptr::dangling_mut();
        }
        let message = self.message.get();
        // SAFETY: the message is initialised.
        let start = unsafe { zmq_sys::zmq_msg_data(message) }.cast::<u8>();
        let offset = start.addr().wrapping_sub(message.addr());
        self.place = match NonNull::new(start) {
            Some(start) if offset >= size_of::<zmq_msg_t>() => Place::At { start, len },
            _ => Place::Within {
                offset: offset as u8,
                len: len as u8,
            },
        };
        start
    }
}

impl Drop for RawMessage {
    fn drop(&mut self) {
        if !matches!(self.place, Place::Nowhere) {
            // SAFETY: the message is initialised and closed this once.
            unsafe { zmq_sys::zmq_msg_close(self.message.get_mut()) };
        }
    }
}
