//! A ROUTER in a context of its own.

// Each test uses a part of it.
#![allow(dead_code)]

use std::ffi::{CStr, CString, c_int, c_void};
use std::net::TcpStream;
use std::time::Duration;

use muster_test_support::zmtp;
use zmq_sys::{ZMQ_LAST_ENDPOINT, ZMQ_LINGER, ZMQ_MAXMSGSIZE, ZMQ_RCVTIMEO, ZMQ_ROUTER};

/// Waits end far earlier; this is the limit for a machine under extreme load.
pub const PATIENCE: Duration = Duration::from_secs(30);
pub const MESSAGE_BYTES_MAX: i64 = 1 << 20;

/// A ROUTER in a context of its own.
pub struct Router {
    context: *mut c_void,
    socket: *mut c_void,
}

impl Router {
    pub fn bind(endpoint: &str) -> (Self, String) {
        // SAFETY: the context and the socket are fresh and live until drop; options have the
        // types that libzmq expects.
        unsafe {
            let context = zmq_sys::zmq_ctx_new();
            let socket = zmq_sys::zmq_socket(context, ZMQ_ROUTER as c_int);
            let router = Router { context, socket };
            router.set(ZMQ_MAXMSGSIZE, &MESSAGE_BYTES_MAX.to_ne_bytes());
            router.set(ZMQ_LINGER, &0i32.to_ne_bytes());
            let patience_ms = PATIENCE.as_millis() as i32;
            router.set(ZMQ_RCVTIMEO, &patience_ms.to_ne_bytes());
            let bound = router.and_bind(endpoint);
            (router, bound)
        }
    }

    pub fn and_bind(&self, endpoint: &str) -> String {
        let endpoint = CString::new(endpoint).unwrap();
        let mut bound = [0u8; 256];
        let mut size = bound.len();
        // SAFETY: the socket lives; the string ends in NUL; the buffer has room for `size` bytes.
        unsafe {
            assert_eq!(zmq_sys::zmq_bind(self.socket, endpoint.as_ptr()), 0);
            let option = ZMQ_LAST_ENDPOINT as c_int;
            let status = zmq_sys::zmq_getsockopt(
                self.socket,
                option,
                bound.as_mut_ptr().cast(),
                &raw mut size,
            );
            assert_eq!(status, 0);
        }
        String::from_utf8(bound[..size - 1].to_vec()).unwrap()
    }

    pub fn set(&self, option: u32, value: &[u8]) {
        // SAFETY: the socket lives; libzmq checks the size.
        let status = unsafe {
            let value_at = value.as_ptr().cast();
            zmq_sys::zmq_setsockopt(self.socket, option as c_int, value_at, value.len())
        };
        assert_eq!(status, 0);
    }

    /// Reports events to an endpoint, for a reader to come.
    pub fn monitor(&self, endpoint: &CStr, events: c_int) {
        // SAFETY: the socket lives; the string ends in NUL.
        let status = unsafe { zmq_sys::zmq_socket_monitor(self.socket, endpoint.as_ptr(), events) };
        assert_eq!(status, 0);
    }

    /// The sizes of the next message's frames, the routing id's first.
    pub fn sizes(&self) -> Vec<c_int> {
        let mut sizes = Vec::new();
        let mut buffer = [0u8; 16];
        loop {
            // SAFETY: the socket lives; the buffer has room for `len` bytes; the size is cut.
            let (size, more) = unsafe {
                let at = buffer.as_mut_ptr().cast();
                let size = zmq_sys::zmq_recv(self.socket, at, buffer.len(), 0);
                assert!(size >= 0, "no message came");
                let mut more: c_int = 0;
                let mut len = size_of::<c_int>();
                let option = zmq_sys::ZMQ_RCVMORE as c_int;
                let to = (&raw mut more).cast();
                zmq_sys::zmq_getsockopt(self.socket, option, to, &raw mut len);
                (size, more)
            };
            sizes.push(size);
            if more == 0 {
                return sizes;
            }
        }
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        // SAFETY: the last use of both.
        unsafe {
            zmq_sys::zmq_close(self.socket);
            zmq_sys::zmq_ctx_term(self.context);
        }
    }
}

pub fn connect(endpoint: &str) -> TcpStream {
    zmtp::connect(endpoint, PATIENCE)
}
