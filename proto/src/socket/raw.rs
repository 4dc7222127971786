//! The one audited module with `unsafe`: calls into libzmq and libc that have no safe wrapper. What
//! concerns the process as a whole is in `process`.
//!
//! The `zmq` crate hides its context pointer, panics on errno values it does not know and cannot
//! share a message, so contexts, messages, binding, sending, receiving and polling call the C API
//! here; options and closing go through the crate. What the types guarantee:
//!
//! - a [`RawSocket`] keeps its context alive, closes once, and is `Send` but not `Sync`, as libzmq
//!   allows a socket to move between threads but not to be used by two;
//! - a [`RawMessage`] is always initialised; its content is never written after creation.

#![allow(unsafe_code)]

mod process;

use std::cell::UnsafeCell;
use std::ffi::{CStr, c_int, c_long, c_void};
use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

use zmq_sys::{errno, zmq_msg_t, zmq_pollitem_t};

use super::poll::PollItem;

pub use process::{
    give_back_memory, keep_memory, libzmq_clock_us, limit_descriptors, newcomers_refused, seed_rand,
};

/// An error number of the system or of libzmq.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    fn last() -> Self {
        // SAFETY: reads a thread-local number.
        Self(unsafe { zmq_sys::zmq_errno() })
    }
}

impl From<zmq::Error> for Errno {
    fn from(error: zmq::Error) -> Self {
        Self(error.to_raw())
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: zmq_strerror returns a static string, or strerror's, which stays until the next
        // call of this thread.
        let text = unsafe { CStr::from_ptr(zmq_sys::zmq_strerror(self.0)) };
        f.write_str(&text.to_string_lossy())
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({}: {self})", self.0)
    }
}

impl std::error::Error for Errno {}

/// Calls again for as long as a signal interrupts: libzmq then has done nothing yet.
pub fn retry<T, E: Into<Errno>>(mut call: impl FnMut() -> Result<T, E>) -> Result<T, Errno> {
    loop {
        match call().map_err(Into::into) {
            Err(Errno(errno::EINTR)) => {}
            result => return result,
        }
    }
}

fn check(status: c_int) -> Result<c_int, Errno> {
    if status == -1 {
        Err(Errno::last())
    } else {
        Ok(status)
    }
}

/// A libzmq context; ends when its last socket and handle are gone.
pub struct RawContext(NonNull<c_void>);

// SAFETY: libzmq documents contexts as thread safe.
unsafe impl Send for RawContext {}
// SAFETY: as above.
unsafe impl Sync for RawContext {}

impl RawContext {
    pub fn new() -> Result<Self, Errno> {
        // SAFETY: takes nothing; null means failure.
        NonNull::new(unsafe { zmq_sys::zmq_ctx_new() })
            .map(Self)
            .ok_or_else(Errno::last)
    }

    pub fn set(&self, option: u32, value: i32) -> Result<(), Errno> {
        // SAFETY: the context lives as long as `self`.
        check(unsafe { zmq_sys::zmq_ctx_set(self.0.as_ptr(), option as c_int, value) }).map(drop)
    }

    pub fn get(&self, option: u32) -> Result<i32, Errno> {
        // SAFETY: as above.
        check(unsafe { zmq_sys::zmq_ctx_get(self.0.as_ptr(), option as c_int) })
    }

    /// Makes every blocking or later call on the context's sockets fail with `ETERM`.
    pub fn shutdown(&self) {
        // SAFETY: as above; it may be called from any thread, and twice.
        unsafe { zmq_sys::zmq_ctx_shutdown(self.0.as_ptr()) };
    }
}

impl Drop for RawContext {
    fn drop(&mut self) {
        // Every socket holds the context, so none is open here and the call cannot wait for one.
        let _ = retry(|| {
            // SAFETY: the last use of the pointer, unless a signal interrupted it.
            check(unsafe { zmq_sys::zmq_ctx_term(self.0.as_ptr()) })
        });
    }
}

/// A socket: closed, then its context released (fields drop in this order).
pub struct RawSocket {
    /// The `zmq` crate's view of the same socket; it closes.
    pub options: zmq::Socket,
    pointer: NonNull<c_void>,
    context: Arc<RawContext>,
}

// SAFETY: libzmq allows a socket to migrate between threads with a full fence, which a move
// between Rust threads implies. `RawSocket` is not `Sync`.
unsafe impl Send for RawSocket {}

impl RawSocket {
    pub fn open(context: &Arc<RawContext>, kind: u32) -> Result<Self, Errno> {
        // SAFETY: the context lives; null means failure.
        let pointer = unsafe { zmq_sys::zmq_socket(context.0.as_ptr(), kind as c_int) };
        let pointer = NonNull::new(pointer).ok_or_else(Errno::last)?;
        // SAFETY: the pointer is a fresh socket that nobody else will close.
        let options = unsafe { zmq::Socket::from_raw(pointer.as_ptr()) };
        Ok(Self {
            options,
            pointer,
            context: Arc::clone(context),
        })
    }

    pub fn context(&self) -> &Arc<RawContext> {
        &self.context
    }

    pub fn bind(&self, endpoint: &CStr) -> Result<(), Errno> {
        // SAFETY: the socket lives; the string ends in NUL.
        check(unsafe { zmq_sys::zmq_bind(self.pointer.as_ptr(), endpoint.as_ptr()) }).map(drop)
    }

    pub fn connect(&self, endpoint: &CStr) -> Result<(), Errno> {
        // SAFETY: as above.
        check(unsafe { zmq_sys::zmq_connect(self.pointer.as_ptr(), endpoint.as_ptr()) }).map(drop)
    }

    pub fn unbind(&self, endpoint: &CStr) -> Result<(), Errno> {
        // SAFETY: as above.
        check(unsafe { zmq_sys::zmq_unbind(self.pointer.as_ptr(), endpoint.as_ptr()) }).map(drop)
    }

    pub fn disconnect(&self, endpoint: &CStr) -> Result<(), Errno> {
        // SAFETY: as above.
        check(unsafe { zmq_sys::zmq_disconnect(self.pointer.as_ptr(), endpoint.as_ptr()) })
            .map(drop)
    }

    /// Sets an option that the `zmq` crate does not know to a number.
    pub fn set_number(&self, option: u32, value: i32) -> Result<(), Errno> {
        self.set_bytes(option, &value.to_ne_bytes())
    }

    /// Sets an option that the `zmq` crate does not know to bytes.
    pub fn set_bytes(&self, option: u32, value: &[u8]) -> Result<(), Errno> {
        // SAFETY: the socket lives; libzmq copies `len` bytes and checks the length it expects.
        check(unsafe {
            zmq_sys::zmq_setsockopt(
                self.pointer.as_ptr(),
                option as c_int,
                value.as_ptr().cast(),
                value.len(),
            )
        })
        .map(drop)
    }

    /// Receives a frame without waiting; true: more frames of the message follow.
    pub fn receive(&self, message: &mut RawMessage) -> Result<bool, Errno> {
        let pointer = message.0.get_mut();
        // SAFETY: the socket lives and the message is initialised; libzmq replaces its content.
        check(unsafe {
            let flags = zmq_sys::ZMQ_DONTWAIT as c_int;
            zmq_sys::zmq_msg_recv(pointer, self.pointer.as_ptr(), flags)
        })?;
        // SAFETY: the message is initialised.
        Ok(unsafe { zmq_sys::zmq_msg_more(pointer) } != 0)
    }

    /// Sends a frame without waiting and leaves it empty; on an error it is left as it was.
    pub fn send(&self, message: &mut RawMessage, more: bool) -> Result<(), Errno> {
        let more = if more { zmq_sys::ZMQ_SNDMORE } else { 0 };
        let flags = (zmq_sys::ZMQ_DONTWAIT | more) as c_int;
        // SAFETY: the socket lives and the message is initialised.
        check(unsafe { zmq_sys::zmq_msg_send(message.0.get_mut(), self.pointer.as_ptr(), flags) })
            .map(drop)
    }

    pub fn poll_item(&self, events: i16) -> zmq_pollitem_t {
        zmq_pollitem_t {
            socket: self.pointer.as_ptr(),
            fd: 0,
            events,
            revents: 0,
        }
    }
}

/// One frame: always initialised, never written to after its creation.
///
/// The cell lets [`share`](Self::share) mark the source; libzmq keeps that mark outside of the
/// content, so slices into it stay valid.
pub struct RawMessage(UnsafeCell<zmq_msg_t>);

// SAFETY: content, metadata and their reference counts may be released by any thread.
unsafe impl Send for RawMessage {}

impl RawMessage {
    fn with(init: impl FnOnce(*mut zmq_msg_t) -> c_int) -> Self {
        let mut message = zmq_msg_t::default();
        // Only memory can fail here; Rust's own allocations abort then, too.
        assert_eq!(init(&raw mut message), 0, "no memory for a message");
        Self(UnsafeCell::new(message))
    }

    pub fn empty() -> Self {
        // SAFETY: the pointer is valid and not yet a message.
        Self::with(|message| unsafe { zmq_sys::zmq_msg_init(message) })
    }

    pub fn copy_of(bytes: &[u8]) -> Self {
        Self::join(&[bytes])
    }

    /// The parts one after the other.
    pub fn join(parts: &[&[u8]]) -> Self {
        let total = parts.iter().map(|part| part.len()).sum();
        // SAFETY: the pointer is valid and not yet a message; the content has room for the lengths
        // of all parts together and cannot overlap any of them.
        Self::with(|message| unsafe {
            let status = zmq_sys::zmq_msg_init_size(message, total);
            if status == 0 {
                let mut content = zmq_sys::zmq_msg_data(message).cast::<u8>();
                for part in parts {
                    ptr::copy_nonoverlapping(part.as_ptr(), content, part.len());
                    content = content.add(part.len());
                }
            }
            status
        })
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
        // SAFETY: the pointer is valid and not yet a message; the content lives until `free`.
        Self::with(|message| unsafe {
            let hint = ptr::without_provenance_mut(capacity);
            zmq_sys::zmq_msg_init_data(message, content.cast(), len, Some(free), hint)
        })
    }

    /// A second handle on the same content; only content within the message itself is copied.
    pub fn share(&self) -> Self {
        let mut copy = zmq_msg_t::default();
        // SAFETY: both are initialised before the copy; `self` is not `Sync`, so nobody else marks
        // or releases the source meanwhile.
        let status = unsafe {
            zmq_sys::zmq_msg_init(&raw mut copy);
            zmq_sys::zmq_msg_copy(&raw mut copy, self.0.get())
        };
        assert_eq!(status, 0, "the source is a message");
        Self(UnsafeCell::new(copy))
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the message is initialised; its content stays in place and unwritten while `self`
        // is borrowed. An empty message may have a null pointer, which a slice must not.
        unsafe {
            match zmq_sys::zmq_msg_size(self.0.get()) {
                0 => &[],
                len => slice::from_raw_parts(zmq_sys::zmq_msg_data(self.0.get()).cast(), len),
            }
        }
    }

    pub fn property(&self, name: &CStr) -> Option<String> {
        // SAFETY: the message is initialised; the value lives as long as its metadata.
        unsafe {
            let value = zmq_sys::zmq_msg_gets(self.0.get(), name.as_ptr());
            (!value.is_null()).then(|| CStr::from_ptr(value).to_string_lossy().into_owned())
        }
    }
}

impl Drop for RawMessage {
    fn drop(&mut self) {
        // SAFETY: the message is initialised and closed this once.
        unsafe { zmq_sys::zmq_msg_close(self.0.get_mut()) };
    }
}

/// A socket's descriptor, on loan for as long as the socket lives.
pub fn borrow_fd(_socket: &RawSocket, fd: RawFd) -> BorrowedFd<'_> {
    // SAFETY: libzmq gave `fd` for this socket and keeps it open until the socket is closed, which
    // the borrow of the socket prevents.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Waits for events on any item; -1 waits for ever. Returns how many items have some.
pub fn poll(items: &mut [PollItem<'_>], timeout_ms: c_long) -> Result<usize, Errno> {
    let count = c_int::try_from(items.len()).expect("a poll of fewer items than a C int holds");
    // SAFETY: `PollItem` is a transparent `zmq_pollitem_t`; its lifetime keeps the socket or
    // descriptor open and, as `Socket` is not `Sync`, on this thread.
    check(unsafe { zmq_sys::zmq_poll(items.as_mut_ptr().cast(), count, timeout_ms) })
        .map(|ready| usize::try_from(ready).expect("a count of items"))
}

/// Copies messages both ways for ever, until the context ends.
pub fn proxy(frontend: &RawSocket, backend: &RawSocket) -> Errno {
    loop {
        // SAFETY: both sockets live and belong to this thread.
        let status = unsafe {
            zmq_sys::zmq_proxy(
                frontend.pointer.as_ptr(),
                backend.pointer.as_ptr(),
                ptr::null_mut(),
            )
        };
        let error = Errno::last();
        if status == -1 && error.0 != errno::EINTR {
            return error;
        }
    }
}

/// Reads options of a connection that libzmq owns, by the number its monitor told.
///
/// The connection may have ended meanwhile; then this is another descriptor's number or none, and
/// reading socket options of it fails or tells of another socket, which harms nothing.
pub fn with_descriptor<R>(fd: RawFd, read: impl FnOnce(BorrowedFd<'_>) -> R) -> R {
    assert!(fd >= 0, "a descriptor's number");
    // SAFETY: `read` gets it for the call alone, and only to read options.
    read(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Bytes handed to a connected socket that its peer's machine (TCP) or process (local) has not
/// taken yet. On a local socket they are the kernel's buffers, larger than what they hold.
pub fn unsent_bytes(fd: BorrowedFd<'_>) -> std::io::Result<usize> {
    let mut bytes: c_int = 0;
    // SAFETY: the descriptor is open; the kernel writes one C int.
    match unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) } {
        0 => Ok(usize::try_from(bytes).unwrap_or(0)),
        _ => Err(std::io::Error::last_os_error()),
    }
}
