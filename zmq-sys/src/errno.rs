//! Error numbers that libzmq reports: the system's, and its own above [`ZMQ_HAUSNUMERO`].

use crate::constant::ZMQ_HAUSNUMERO;

pub use libc::{
    EACCES, EADDRINUSE, EADDRNOTAVAIL, EAGAIN, EBUSY, ECONNREFUSED, EFAULT, EHOSTUNREACH,
    EINPROGRESS, EINTR, EINVAL, EMFILE, EMSGSIZE, ENAMETOOLONG, ENETDOWN, ENOBUFS, ENODEV, ENOENT,
    ENOMEM, ENOTCONN, ENOTSOCK, ENOTSUP, EPROTO, EPROTONOSUPPORT,
};

const fn own(offset: i32) -> i32 {
    ZMQ_HAUSNUMERO as i32 + offset
}

// The operation does not fit the socket's state; no protocol in common; the context has ended;
// no I/O thread.
pub const EFSM: i32 = own(51);
pub const ENOCOMPATPROTO: i32 = own(52);
pub const ETERM: i32 = own(53);
pub const EMTHREAD: i32 = own(54);

// Stand-ins where a system lacks the number. The `zmq` crate matches on them everywhere.
pub const ENOTSUP_ALT: i32 = own(1);
pub const EPROTONOSUPPORT_ALT: i32 = own(2);
pub const ENOBUFS_ALT: i32 = own(3);
pub const ENETDOWN_ALT: i32 = own(4);
pub const EADDRINUSE_ALT: i32 = own(5);
pub const EADDRNOTAVAIL_ALT: i32 = own(6);
pub const ECONNREFUSED_ALT: i32 = own(7);
pub const EINPROGRESS_ALT: i32 = own(8);
pub const ENOTSOCK_ALT: i32 = own(9);
pub const EMSGSIZE_ALT: i32 = own(10);
