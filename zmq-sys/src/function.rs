//! Functions and types of the C API.
//!
//! Safety, for all of them: a context or socket pointer comes from `zmq_ctx_new` or `zmq_socket` and
//! is not closed; a socket is used by one thread at a time; a message is initialised before use and
//! closed once; strings end in NUL. Functions that return `c_int` give -1 on failure and leave the
//! reason in [`zmq_errno`].

use crate::RawFd;
use libc::{c_char, c_int, c_long, c_short, c_ulong, c_void, size_t};

/// One frame. Small content lies within, larger content behind a counted pointer.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(target_pointer_width = "64", repr(align(8)))]
#[cfg_attr(target_pointer_width = "32", repr(align(4)))]
pub struct zmq_msg_t {
    opaque: [u8; 64],
}

impl Default for zmq_msg_t {
    /// Zeros: not yet a message, to be given to one of the `zmq_msg_init` functions.
    fn default() -> Self {
        Self { opaque: [0; 64] }
    }
}

/// Frees the content given to [`zmq_msg_init_data`]; runs on any thread.
pub type zmq_free_fn = unsafe extern "C" fn(data: *mut c_void, hint: *mut c_void);

/// What to wait for: a socket, or a descriptor where `socket` is null.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct zmq_pollitem_t {
    pub socket: *mut c_void,
    pub fd: RawFd,
    pub events: c_short,
    pub revents: c_short,
}

unsafe extern "C" {
    pub fn zmq_errno() -> c_int;
    pub fn zmq_strerror(errnum: c_int) -> *const c_char;
    pub fn zmq_version(major: *mut c_int, minor: *mut c_int, patch: *mut c_int);
    pub fn zmq_has(capability: *const c_char) -> c_int;

    pub fn zmq_ctx_new() -> *mut c_void;
    pub fn zmq_ctx_term(context: *mut c_void) -> c_int;
    pub fn zmq_ctx_shutdown(context: *mut c_void) -> c_int;
    pub fn zmq_ctx_set(context: *mut c_void, option: c_int, value: c_int) -> c_int;
    pub fn zmq_ctx_get(context: *mut c_void, option: c_int) -> c_int;

    pub fn zmq_msg_init(message: *mut zmq_msg_t) -> c_int;
    pub fn zmq_msg_init_size(message: *mut zmq_msg_t, size: size_t) -> c_int;
    pub fn zmq_msg_init_data(
        message: *mut zmq_msg_t,
        data: *mut c_void,
        size: size_t,
        free: Option<zmq_free_fn>,
        hint: *mut c_void,
    ) -> c_int;
    pub fn zmq_msg_send(message: *mut zmq_msg_t, socket: *mut c_void, flags: c_int) -> c_int;
    pub fn zmq_msg_recv(message: *mut zmq_msg_t, socket: *mut c_void, flags: c_int) -> c_int;
    pub fn zmq_msg_close(message: *mut zmq_msg_t) -> c_int;
    pub fn zmq_msg_move(destination: *mut zmq_msg_t, source: *mut zmq_msg_t) -> c_int;
    /// Shares large content by counting; marks `source` as shared.
    pub fn zmq_msg_copy(destination: *mut zmq_msg_t, source: *mut zmq_msg_t) -> c_int;
    pub fn zmq_msg_data(message: *mut zmq_msg_t) -> *mut c_void;
    pub fn zmq_msg_size(message: *const zmq_msg_t) -> size_t;
    pub fn zmq_msg_more(message: *const zmq_msg_t) -> c_int;
    pub fn zmq_msg_get(message: *const zmq_msg_t, property: c_int) -> c_int;
    pub fn zmq_msg_gets(message: *const zmq_msg_t, property: *const c_char) -> *const c_char;

    pub fn zmq_socket(context: *mut c_void, kind: c_int) -> *mut c_void;
    pub fn zmq_close(socket: *mut c_void) -> c_int;
    pub fn zmq_setsockopt(
        socket: *mut c_void,
        option: c_int,
        value: *const c_void,
        size: size_t,
    ) -> c_int;
    pub fn zmq_getsockopt(
        socket: *mut c_void,
        option: c_int,
        value: *mut c_void,
        size: *mut size_t,
    ) -> c_int;
    pub fn zmq_bind(socket: *mut c_void, endpoint: *const c_char) -> c_int;
    pub fn zmq_connect(socket: *mut c_void, endpoint: *const c_char) -> c_int;
    pub fn zmq_unbind(socket: *mut c_void, endpoint: *const c_char) -> c_int;
    pub fn zmq_disconnect(socket: *mut c_void, endpoint: *const c_char) -> c_int;
    pub fn zmq_recv(socket: *mut c_void, buffer: *mut c_void, size: size_t, flags: c_int) -> c_int;
    pub fn zmq_socket_monitor(socket: *mut c_void, endpoint: *const c_char, events: c_int)
    -> c_int;

    pub fn zmq_poll(items: *mut zmq_pollitem_t, count: c_int, timeout_ms: c_long) -> c_int;
    pub fn zmq_proxy(frontend: *mut c_void, backend: *mut c_void, capture: *mut c_void) -> c_int;
    pub fn zmq_proxy_steerable(
        frontend: *mut c_void,
        backend: *mut c_void,
        capture: *mut c_void,
        control: *mut c_void,
    ) -> c_int;

    /// A `uint64_t` with the time in µs by libzmq's own clock (see its zmq_utils.cpp).
    pub fn zmq_stopwatch_start() -> *mut c_void;
    pub fn zmq_stopwatch_stop(watch: *mut c_void) -> c_ulong;

    pub fn zmq_z85_encode(destination: *mut c_char, bytes: *const u8, size: size_t) -> *mut c_char;
    pub fn zmq_z85_decode(destination: *mut u8, text: *const c_char) -> *mut u8;
    pub fn zmq_curve_keypair(public_key: *mut c_char, secret_key: *mut c_char) -> c_int;
    pub fn zmq_curve_public(public_key: *mut c_char, secret_key: *const c_char) -> c_int;

    // Muster's own, in `patch/added/newcomers.h`.
    pub fn muster_limit_descriptors(keyless: c_int, keyed: c_int);
    pub fn muster_newcomers_refused() -> u64;
}
