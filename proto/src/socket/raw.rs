//! The one audited module with `unsafe`: calls into libzmq and libc that have no safe wrapper. A
//! frame is in `message`, what concerns the process as a whole in `process`.
//!
//! The `zmq` crate hides its context pointer, panics on errno values it does not know and cannot
//! share a message, so contexts, messages, binding, sending, receiving and polling call the C API
//! here; options and closing go through the crate. What the types guarantee:
//!
//! - a [`RawSocket`] keeps its context alive, closes once, and is `Send` but not `Sync`, as libzmq
//!   allows a socket to move between threads but not to be used by two;
//! - a [`RawMessage`] is always initialised; its content is never written after creation.

#![allow(unsafe_code)]

mod message;
mod process;

use std::ffi::{CStr, c_int, c_long, c_void};
use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use zmq_sys::{errno, zmq_pollitem_t};

use super::poll::PollItem;

pub use message::RawMessage;
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
        message.refill(|pointer| {
            let flags = zmq_sys::ZMQ_DONTWAIT as c_int;
            // SAFETY: the socket lives and the message is initialised; libzmq replaces its content.
            check(unsafe { zmq_sys::zmq_msg_recv(pointer, self.pointer.as_ptr(), flags) })
        })
    }

    /// Sends a frame without waiting and leaves it empty; on an error it is left as it was.
    pub fn send(&self, message: &mut RawMessage, more: bool) -> Result<(), Errno> {
        let more = if more { zmq_sys::ZMQ_SNDMORE } else { 0 };
        let flags = (zmq_sys::ZMQ_DONTWAIT | more) as c_int;
        message.empty_by(|pointer| {
            // SAFETY: the socket lives and the message is initialised; libzmq empties what it takes.
            check(unsafe { zmq_sys::zmq_msg_send(pointer, self.pointer.as_ptr(), flags) }).map(drop)
        })
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
