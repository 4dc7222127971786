//! A ROUTER in a context of its own, and peers made of bytes.

// Each test uses a part of it.
#![allow(dead_code)]

use std::ffi::{CStr, CString, c_int, c_void};
use std::io::Read;
use std::net::TcpStream;
use std::process::Child;
use std::time::Duration;

use zmq_sys::{ZMQ_LAST_ENDPOINT, ZMQ_LINGER, ZMQ_MAXMSGSIZE, ZMQ_RCVTIMEO, ZMQ_ROUTER};

/// Waits end far earlier; this is the limit for a machine under extreme load.
pub const PATIENCE: Duration = Duration::from_secs(30);
pub const MESSAGE_BYTES_MAX: i64 = 1 << 20;

pub const MORE: u8 = 1;
pub const LONG: u8 = 2;
pub const COMMAND: u8 = 4;

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
    let stream = TcpStream::connect(endpoint.trim_start_matches("tcp://")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = match u8::try_from(body.len()) {
        Ok(len) => vec![flags, len],
        Err(_) => {
            let mut head = vec![flags | LONG];
            head.extend_from_slice(&(body.len() as u64).to_be_bytes());
            head
        }
    };
    bytes.extend_from_slice(body);
    bytes
}

/// Whether the other side hangs up instead of taking what we say.
pub fn is_hung_up(stream: &mut impl Read) -> bool {
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// Kills the process of a role when the test ends, however it ends.
pub struct Role(pub Child);

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
