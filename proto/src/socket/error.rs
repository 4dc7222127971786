//! What can go wrong with a socket, as far as a caller can act on it.

use std::path::PathBuf;

use zmq_sys::errno;

pub use super::raw::Errno;

/// A socket operation failed.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process listens there.
    #[error("{endpoint} is in use by another process")]
    AddressInUse {
        /// The endpoint as given.
        endpoint: String,
    },
    /// This machine has no such address.
    #[error("{endpoint}: this machine has no such address")]
    AddressNotAvailable {
        /// The endpoint as given.
        endpoint: String,
    },
    /// The address or the socket's folder needs rights that this process lacks.
    #[error("{endpoint}: permission denied")]
    PermissionDenied {
        /// The endpoint as given.
        endpoint: String,
    },
    /// The text is no endpoint.
    #[error("{endpoint:?} is not a usable endpoint: {reason}")]
    BadEndpoint {
        /// The endpoint as given.
        endpoint: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A local socket's path does not fit the system's address structure.
    #[error(
        "socket path {} is {bytes} bytes, the system's limit is {bytes_max}: \
         choose a shorter runtime directory",
        path.display()
    )]
    PathTooLong {
        /// The path of the `ipc://` endpoint.
        path: PathBuf,
        /// Its length.
        bytes: usize,
        /// The longest that works.
        bytes_max: usize,
    },
    /// The system refused the endpoint for another reason, such as a missing folder.
    #[error("{endpoint}: {source}")]
    Endpoint {
        /// The endpoint as given.
        endpoint: String,
        /// The system's reason.
        source: Errno,
    },
    /// A CURVE key is not 40 characters of Z85.
    #[error("the {which} key is not a CURVE key of 40 Z85 characters")]
    BadKey {
        /// "server", "public" or "secret".
        which: &'static str,
    },
    /// The limit of open files or of sockets is reached.
    #[error("no more sockets: the limit of open files or sockets is reached")]
    TooManyFiles,
    /// The context was shut down.
    #[error("the socket's context was shut down")]
    Terminated,
    /// The linked libzmq lacks what Muster relies on.
    #[error(
        "self-check {name:?} failed: {detail}. \
         Build from the source tree, whose zmq-sys replaces the registry's"
    )]
    SelfCheck {
        /// Which check.
        name: &'static str,
        /// What was found.
        detail: String,
    },
    /// Any other failure, with the call that met it.
    #[error("{call}: {source}")]
    System {
        /// The operation.
        call: &'static str,
        /// The system's reason.
        source: Errno,
    },
}

impl SocketError {
    /// The error of a call that names no endpoint.
    pub(super) fn of(call: &'static str) -> impl Fn(Errno) -> Self {
        move |source| match source.0 {
            errno::ETERM => Self::Terminated,
            errno::EMFILE | libc::ENFILE => Self::TooManyFiles,
            _ => Self::System { call, source },
        }
    }

    /// The error of binding or connecting to `endpoint`.
    pub(super) fn at(endpoint: &str) -> impl Fn(Errno) -> Self + '_ {
        move |source| {
            let endpoint = endpoint.to_owned();
            match source.0 {
                errno::EADDRINUSE => Self::AddressInUse { endpoint },
                errno::EADDRNOTAVAIL | errno::ENODEV => Self::AddressNotAvailable { endpoint },
                errno::EACCES | libc::EPERM => Self::PermissionDenied { endpoint },
                errno::EINVAL => Self::BadEndpoint {
                    endpoint,
                    reason: "malformed address",
                },
                errno::EPROTONOSUPPORT => Self::BadEndpoint {
                    endpoint,
                    reason: "transport not built in",
                },
                errno::ENOCOMPATPROTO => Self::BadEndpoint {
                    endpoint,
                    reason: "transport does not fit the socket",
                },
                errno::ETERM => Self::Terminated,
                errno::EMFILE | libc::ENFILE => Self::TooManyFiles,
                _ => Self::Endpoint { endpoint, source },
            }
        }
    }
}
