//! Opens the broker's sockets and writes where they are.

use crate::config::Listen;
use crate::keyring::Keyring;
use crate::zap::Domain;
use muster_proto::connection::{self, Connection, ConnectionError};
use muster_proto::runtime::{Lock, RuntimeDir, RuntimeError};
use muster_proto::socket::{Context, Kind, Nonce, Profile, Socket, SocketError};
use std::fs;

/// The sockets, and the addresses they are at.
pub struct Doors {
    /// For clients.
    pub frontend: Socket,
    /// For managed workers.
    pub workers: Socket,
    /// Where programs on this machine find them.
    pub local: Connection,
    /// Where programs on other machines find them.
    pub remote: Option<Connection>,
    files: Files,
}

/// Why a door does not open.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The runtime directory.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The connection file.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

/// Who the broker is.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// Its host.
    pub host: &'a str,
    /// When it started, in seconds since 1970.
    pub started: u64,
    /// The host that other machines connect to, if it is not the one listened on.
    pub advertise: Option<&'a str>,
    /// Arrives when a client's connection ends.
    pub disconnect: Nonce,
    /// The keys, when the TCP doors ask for them.
    pub keyring: Option<&'a Keyring>,
}

/// Removes what the broker leaves in its runtime directory, whichever way its loop ends.
struct Files {
    dir: RuntimeDir,
    _lock: Lock,
}

impl Drop for Files {
    fn drop(&mut self) {
        for name in ["cluster.json", "frontend", "workers", "backend", "events"] {
            // What isn't there needs no removing.
            let _ = fs::remove_file(self.dir.path().join(name));
        }
    }
}

impl Doors {
    /// Takes the runtime directory's lock, opens the sockets and binds them.
    ///
    /// # Errors
    /// [`DoorError`]: another broker is there, an address is in use, a directory is not safe.
    pub fn open(
        context: &Context,
        dir: &RuntimeDir,
        listen: &Listen,
        identity: &Identity<'_>,
    ) -> Result<Self, DoorError> {
        dir.create()?;
        // Before any bind: libzmq would replace a living broker's socket files.
        let files = Files {
            _lock: dir.lock()?,
            dir: dir.clone(),
        };
        let disconnect = identity.disconnect;
        let frontend = Socket::open(context, Kind::Router, &Profile::Frontend { disconnect })?;
        let workers = Socket::open(context, Kind::Router, &Profile::Workers { disconnect })?;
        let local = Connection {
            version: connection::VERSION,
            name: dir.cluster().to_owned(),
            host: identity.host.to_owned(),
            pid: std::process::id(),
            started: identity.started,
            frontend: dir.endpoint("frontend")?,
            backend: dir.endpoint("backend")?,
            workers: dir.endpoint("workers")?,
            events: dir.endpoint("events")?,
            curve: None,
        };
        frontend.bind(&local.frontend)?;
        workers.bind(&local.workers)?;
        // An endpoint has the options that its socket has when it is bound: what was bound above
        // is for this user alone and asks for no keys, what follows does.
        if let Some(keyring) = identity.keyring {
            for (socket, domain) in [(&frontend, Domain::Frontend), (&workers, Domain::Workers)] {
                socket.set_curve_server(keyring.server_secret())?;
                socket.set_zap_domain(domain.name())?;
            }
        }
        let bind = |socket: &Socket, endpoint: &Option<String>| match endpoint {
            None => Ok(None),
            Some(endpoint) => {
                socket.bind(endpoint)?;
                socket
                    .last_endpoint()
                    .map(|bound| Some(advertised(&bound, identity)))
            }
        };
        let frontend_tcp = bind(&frontend, &listen.frontend)?;
        let workers_tcp = bind(&workers, &listen.workers)?;
        let remote = (frontend_tcp.is_some() || workers_tcp.is_some()).then(|| Connection {
            frontend: frontend_tcp.unwrap_or_default(),
            backend: listen.backend.clone().unwrap_or_default(),
            workers: workers_tcp.unwrap_or_default(),
            events: listen.events.clone().unwrap_or_default(),
            ..local.clone()
        });
        Ok(Doors {
            frontend,
            workers,
            local,
            remote,
            files,
        })
    }

    /// Writes the connection file: from now on others find the broker.
    ///
    /// # Errors
    /// [`DoorError::Connection`].
    pub fn announce(&self) -> Result<(), DoorError> {
        self.local.write(&self.files.dir.connection_path())?;
        Ok(())
    }
}

/// The bound address as other machines have to write it.
fn advertised(bound: &str, identity: &Identity<'_>) -> String {
    let Some((_, port)) = bound
        .strip_prefix("tcp://")
        .and_then(|rest| rest.rsplit_once(':'))
    else {
        return bound.to_owned();
    };
    let is_any = bound.starts_with("tcp://0.0.0.0:") || bound.starts_with("tcp://[::]:");
    match identity.advertise {
        Some(host) => format!("tcp://{host}:{port}"),
        None if is_any => format!("tcp://{}:{port}", identity.host),
        None => bound.to_owned(),
    }
}
