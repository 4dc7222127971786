//! Endpoints as text, and the sockets that listen at them or dial them.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use muster_proto::runtime::IPC_PATH_BYTES_MAX;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::{SpliceError, wire};

/// Connections waiting to be accepted: a thousand workers come back at once when a broker restarts.
const BACKLOG: i32 = 1024;

/// An endpoint that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// `tcp://HOST:PORT`; the host may be a name.
    Tcp { host: String, port: u16 },
    /// `ipc://PATH`.
    Ipc(PathBuf),
}

impl Address {
    /// Reads `tcp://HOST:PORT` (`*` for any address or port) or `ipc://PATH`.
    pub fn parse(endpoint: &str) -> Result<Self, SpliceError> {
        let bad = |reason| SpliceError::BadEndpoint {
            endpoint: endpoint.to_owned(),
            reason,
        };
        if let Some(path) = endpoint.strip_prefix("ipc://") {
            if path.is_empty() || path.contains('\0') {
                return Err(bad("it has no path"));
            }
            if path.starts_with('@') {
                return Err(bad(
                    "abstract names are open to every local user; use a path",
                ));
            }
            if path.len() > IPC_PATH_BYTES_MAX {
                let path = path.into();
                return Err(SpliceError::PathTooLong {
                    path,
                    bytes_max: IPC_PATH_BYTES_MAX,
                });
            }
            return Ok(Address::Ipc(path.into()));
        }
        let rest = endpoint
            .strip_prefix("tcp://")
            .ok_or(bad("it must start tcp:// or ipc://"))?;
        let (host, port) = rest.rsplit_once(':').ok_or(bad("it has no port"))?;
        let port = match port {
            "*" => 0,
            number => number
                .parse()
                .map_err(|_| bad("its port is no number up to 65535"))?,
        };
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        if bare.is_empty() {
            return Err(bad("it has no host"));
        }
        Ok(Address::Tcp {
            host: bare.to_owned(),
            port,
        })
    }

    /// The socket addresses, when no name has to be looked up for them.
    pub fn numeric(&self) -> Option<SocketAddr> {
        match self {
            Address::Tcp { host, port } => Some(SocketAddr::new(host.parse().ok()?, *port)),
            Address::Ipc(_) => None,
        }
    }

    /// Listens there; returns the socket and the real endpoint.
    pub fn listen(&self, endpoint: &str) -> Result<(OwnedFd, String), SpliceError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => SpliceError::AddressInUse {
                endpoint: endpoint.to_owned(),
            },
            _ => SpliceError::Listen {
                endpoint: endpoint.to_owned(),
                source,
            },
        };
        match self {
            Address::Ipc(path) => {
                let fd = listen_local(path).map_err(failed)?;
                Ok((fd, endpoint.to_owned()))
            }
            Address::Tcp { host, port } if host == "*" => {
                // Both families where the machine has both.
                let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), *port);
                listen_tcp(any)
                    .or_else(|error| match error.kind() {
                        io::ErrorKind::AddrInUse => Err(error),
                        _ => listen_tcp(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), *port)),
                    })
                    .map_err(failed)
            }
            Address::Tcp { host, port } => {
                let mut found = (host.as_str(), *port).to_socket_addrs().map_err(failed)?;
                let first = found
                    .next()
                    .ok_or_else(|| failed(Errno::ADDRNOTAVAIL.into()))?;
                // A name that means both families is listened at where clients look first.
                let address = found.find(SocketAddr::is_ipv4).filter(|_| first.is_ipv6());
                listen_tcp(address.unwrap_or(first)).map_err(failed)
            }
        }
    }
}

fn stream_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(
        family,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

fn family(address: SocketAddr) -> AddressFamily {
    if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    }
}

fn listen_tcp(address: SocketAddr) -> io::Result<(OwnedFd, String)> {
    let fd = stream_socket(family(address))?;
    // A broker that starts again finds its port held by connections of its predecessor.
    sockopt::set_socket_reuseaddr(&fd, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, !address.ip().is_unspecified())?;
    }
    rustix::net::bind(&fd, &address)?;
    rustix::net::listen(&fd, BACKLOG)?;
    let bound = SocketAddr::try_from(rustix::net::getsockname(&fd)?)?;
    Ok((fd, format!("tcp://{bound}")))
}

fn listen_local(path: &Path) -> io::Result<OwnedFd> {
    // A file without a listener is what a killed process left behind.
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
        && UnixStream::connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
    {
        fs::remove_file(path)?;
    }
    let fd = stream_socket(AddressFamily::UNIX)?;
    rustix::net::bind(&fd, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&fd, BACKLOG)?;
    Ok(fd)
}

/// Starts a connection to a TCP address; it is made, or has failed, when there is room to write.
pub(super) fn dial_tcp(address: SocketAddr) -> io::Result<OwnedFd> {
    let fd = stream_socket(family(address))?;
    wire::set_up_tcp(fd.as_fd())?;
    match rustix::net::connect(&fd, &address) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(fd),
        Err(error) => Err(error.into()),
    }
}

/// Connects to a local socket, which does not wait.
pub(super) fn dial_local(path: &Path) -> io::Result<OwnedFd> {
    let fd = stream_socket(AddressFamily::UNIX)?;
    rustix::net::connect(&fd, &SocketAddrUnix::new(path)?)?;
    Ok(fd)
}

/// A TCP peer as an endpoint, an IPv4 one always as IPv4.
pub(super) fn tcp_endpoint(address: SocketAddr) -> String {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => format!("tcp://{}", SocketAddr::new(ip.into(), address.port())),
        IpAddr::V6(_) => format!("tcp://{address}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read() {
        let tcp = |host: &str, port| Address::Tcp {
            host: host.into(),
            port,
        };
        assert_eq!(
            Address::parse("tcp://127.0.0.1:5560").unwrap(),
            tcp("127.0.0.1", 5560)
        );
        assert_eq!(Address::parse("tcp://*:*").unwrap(), tcp("*", 0));
        assert_eq!(Address::parse("tcp://[::1]:1").unwrap(), tcp("::1", 1));
        assert_eq!(
            Address::parse("ipc:///tmp/x").unwrap(),
            Address::Ipc("/tmp/x".into())
        );
        assert!(Address::parse("tcp://[::1]:1").unwrap().numeric().is_some());
        assert!(
            Address::parse("tcp://localhost:1")
                .unwrap()
                .numeric()
                .is_none()
        );
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_its_reason() {
        for (endpoint, word) in [
            ("udp://1.2.3.4:5", "must start"),
            ("tcp://127.0.0.1", "no port"),
            ("tcp://127.0.0.1:70000", "65535"),
            ("tcp://:5", "no host"),
            ("ipc://", "no path"),
            ("ipc://@open", "abstract"),
        ] {
            let error = Address::parse(endpoint).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains(endpoint), "{error}");
        }
        let long = format!("ipc:///{}", "x".repeat(107));
        assert!(matches!(
            Address::parse(&long),
            Err(SpliceError::PathTooLong { .. })
        ));
    }

    #[test]
    fn a_dead_listeners_file_is_replaced_and_a_living_ones_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(listen_local(&path).unwrap());
        let living = listen_local(&path).unwrap();
        let error = listen_local(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(living);
        fs::write(folder.path().join("file"), "kept").unwrap();
        assert!(listen_local(&folder.path().join("file")).is_err());
        assert_eq!(
            fs::read_to_string(folder.path().join("file")).unwrap(),
            "kept"
        );
    }

    #[test]
    fn a_mapped_address_is_shown_as_what_it_is() {
        let mapped: SocketAddr = "[::ffff:1.2.3.4]:5".parse().unwrap();
        assert_eq!(tcp_endpoint(mapped), "tcp://1.2.3.4:5");
    }
}
