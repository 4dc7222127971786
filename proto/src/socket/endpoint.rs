//! Endpoints as text, checked before libzmq sees them.

use std::ffi::CString;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use super::error::SocketError;

/// The longest path of a local socket: `sockaddr_un` holds 108 bytes, the last one NUL.
pub const IPC_PATH_BYTES_MAX: usize = 107;

/// Which end of a link the endpoint is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Others connect here.
    Bind,
    /// Someone else listens there.
    Connect,
}

/// Checks an endpoint and gives it the form that C takes.
pub fn check(endpoint: &str, end: End) -> Result<CString, SocketError> {
    let bad = |reason| SocketError::BadEndpoint {
        endpoint: endpoint.to_owned(),
        reason,
    };
    let text = CString::new(endpoint).map_err(|_| bad("it holds a NUL byte"))?;
    let (transport, address) = endpoint
        .split_once("://")
        .ok_or_else(|| bad("it has no transport, such as tcp://"))?;
    if address.is_empty() {
        return Err(bad("it has no address"));
    }
    match transport {
        "tcp" => {
            let (host, port) = address
                .rsplit_once(':')
                .ok_or_else(|| bad("it has no port"))?;
            let is_any = host.is_empty() || host == "*";
            match (end, port.parse::<u16>()) {
                (End::Connect, _) if is_any => Err(bad("connecting takes a host, not a wildcard")),
                (End::Connect, Ok(0)) => Err(bad("connecting takes a port from 1 to 65535")),
                (End::Bind, Err(_)) if port == "*" => Ok(text),
                (_, Ok(_)) => Ok(text),
                (_, Err(_)) => Err(bad("its port is not a number from 0 to 65535")),
            }
        }
        "inproc" => Ok(text),
        "ipc" => {
            if address.len() > IPC_PATH_BYTES_MAX {
                return Err(SocketError::PathTooLong {
                    path: PathBuf::from(address),
                    bytes: address.len(),
                    bytes_max: IPC_PATH_BYTES_MAX,
                });
            }
            // Names in the abstract namespace have no permissions: every local user could connect.
            if end == End::Bind && address.starts_with('@') {
                return Err(bad(
                    "abstract names are open to every local user; use a path",
                ));
            }
            Ok(text)
        }
        _ => Err(bad("the transport must be tcp, ipc or inproc")),
    }
}

/// Whether the address needs IPv6 turned on.
///
/// It is not on for all: libzmq would then turn 127.0.0.1 into ::ffff:127.0.0.1, which a peer
/// without IPv6 cannot dial, and `localhost` into ::1, where a broker on 127.0.0.1 does not listen.
/// So a name means its IPv4 address if it has one.
pub fn needs_ipv6(endpoint: &str) -> bool {
    let Some(address) = endpoint.strip_prefix("tcp://") else {
        return false;
    };
    // A connecting end may name its own address first: `SOURCE;PEER`.
    let address = address.rsplit(';').next().unwrap_or(address);
    let Some((host, _port)) = address.rsplit_once(':') else {
        return false;
    };
    if host == "*" || host.starts_with('[') {
        return true;
    }
    if host.contains(':') {
        return true;
    }
    if host.parse::<Ipv4Addr>().is_ok() {
        return false;
    }
    // An unknown name may become known later; libzmq resolves it again at each attempt.
    let addresses: Vec<SocketAddr> = (host, 0)
        .to_socket_addrs()
        .map(Iterator::collect)
        .unwrap_or_default();
    !addresses.is_empty() && !addresses.iter().any(SocketAddr::is_ipv4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_of_the_three_transports_pass() {
        for endpoint in [
            "tcp://127.0.0.1:5555",
            "tcp://*:*",
            "ipc:///tmp/a",
            "inproc://x",
        ] {
            assert!(check(endpoint, End::Bind).is_ok(), "{endpoint}");
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_its_reason() {
        for (endpoint, word) in [
            ("", "no transport"),
            ("127.0.0.1:5555", "no transport"),
            ("tcp://", "no address"),
            ("tcp://127.0.0.1", "no port"),
            ("udp://127.0.0.1:1", "must be tcp"),
            ("tcp://a\0b:1", "NUL"),
            ("tcp://127.0.0.1:65536", "65535"),
            ("tcp://[::1]", "not a number"),
            ("ipc://@open", "abstract"),
        ] {
            let error = check(endpoint, End::Bind).unwrap_err();
            assert!(
                matches!(error, SocketError::BadEndpoint { .. }),
                "{endpoint:?}: {error}"
            );
            assert!(error.to_string().contains(word), "{endpoint:?}: {error}");
        }
        assert!(check("ipc://@open", End::Connect).is_ok());
        // libzmq takes these and never connects.
        for endpoint in [
            "tcp://*:5555",
            "tcp://:5555",
            "tcp://127.0.0.1:0",
            "tcp://127.0.0.1:*",
        ] {
            assert!(check(endpoint, End::Connect).is_err(), "{endpoint}");
        }
    }

    #[test]
    fn a_local_path_of_107_bytes_passes_and_one_of_108_is_too_long() {
        let path = |len: usize| format!("ipc://{:a<len$}", "/");
        assert!(check(&path(107), End::Bind).is_ok());
        let error = check(&path(108), End::Bind).unwrap_err();
        assert!(matches!(
            error,
            SocketError::PathTooLong {
                bytes: 108,
                bytes_max: 107,
                ..
            }
        ));
    }

    #[test]
    fn only_addresses_that_need_ipv6_turn_it_on() {
        for endpoint in ["tcp://*:1", "tcp://[::1]:1", "tcp://[::]:*"] {
            assert!(needs_ipv6(endpoint), "{endpoint}");
        }
        for endpoint in [
            "tcp://127.0.0.1:1",
            "tcp://0.0.0.0:*",
            "tcp://localhost:1",
            "ipc:///a",
            "inproc://a",
        ] {
            assert!(!needs_ipv6(endpoint), "{endpoint}");
        }
        assert!(!needs_ipv6("tcp://[::1]:0;127.0.0.1:1"));
    }
}
