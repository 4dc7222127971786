//! Opens the broker's sockets and writes where they are.

use crate::config::Listen;
use crate::keyring::Keyring;
use crate::shelf;
use crate::splice::{Listen as SpliceListen, Splice, SpliceConfig, SpliceError};
use crate::zap::Domain;
use log::warn;
use muster_proto::connection::{self, Connection, ConnectionError};
use muster_proto::runtime::{BROKER_FILES, Lock, RuntimeDir, RuntimeError};
use muster_proto::socket::{Context, Kind, Nonce, Profile, Socket, SocketError};
use std::fs;

/// The sockets, and the addresses they are at.
pub struct Doors {
    /// For clients.
    pub frontend: Socket,
    /// For managed workers.
    pub workers: Socket,
    /// For subscribers of events.
    pub events: Socket,
    /// For stock REP workers.
    pub splice: Splice,
    /// Which of the splice's listeners ask for keys.
    pub keyed_backends: Vec<bool>,
    /// Where subscribers must show a key, as bound.
    pub keyed_events: Option<String>,
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
    /// The stock workers' door.
    #[error(transparent)]
    Splice(#[from] SpliceError),
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
        for name in BROKER_FILES {
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
        let events = Socket::open(context, Kind::Xpub, &Profile::Events)?;
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
        events.bind(&local.events)?;
        // An endpoint has the options that its socket has when it is bound: what was bound above
        // is for this user alone and asks for no keys, what follows does. Nor do strangers' endless
        // attempts take the thread that serves the local doors.
        for socket in [&frontend, &workers, &events] {
            socket.use_io_thread(1)?;
        }
        if let Some(keyring) = identity.keyring {
            ask_for_keys(keyring, [&frontend, &workers, &events])?;
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
        let events_tcp = bind(&events, &listen.events)?;
        let keyed_events = match (&events_tcp, identity.keyring) {
            (Some(_), Some(_)) => Some(events.last_endpoint()?),
            _ => None,
        };
        // Without it large attachments take longer, and nothing else.
        if let Err(error) = shelf::start(&dir.path().join("shelf")) {
            warn!("no shelf for large attachments: {error}");
        }
        let config = splice_config(dir, &local, listen, identity);
        let keyed_backends = config
            .listeners
            .iter()
            .map(|listener| listener.curve)
            .collect();
        let splice = Splice::start(config)?;
        let backend_tcp = splice
            .bound()
            .get(1)
            .map(|bound| advertised(bound, identity));
        let is_open = [&frontend_tcp, &workers_tcp, &backend_tcp]
            .into_iter()
            .any(Option::is_some);
        let remote = is_open.then(|| Connection {
            frontend: frontend_tcp.unwrap_or_default(),
            backend: backend_tcp.unwrap_or_default(),
            workers: workers_tcp.unwrap_or_default(),
            events: events_tcp.unwrap_or_default(),
            ..local.clone()
        });
        Ok(Doors {
            events,
            splice,
            keyed_backends,
            keyed_events,
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

/// Has the endpoints that are bound from now on ask for keys.
fn ask_for_keys(keyring: &Keyring, sockets: [&Socket; 3]) -> Result<(), SocketError> {
    let domains = [Domain::Frontend, Domain::Workers, Domain::Events];
    for (socket, domain) in sockets.into_iter().zip(domains) {
        socket.set_curve_server(keyring.server_secret())?;
        socket.set_zap_domain(domain.name())?;
    }
    Ok(())
}

/// Where the splice listens: first for this user's programs, then for others.
fn splice_config(
    dir: &RuntimeDir,
    local: &Connection,
    listen: &Listen,
    identity: &Identity<'_>,
) -> SpliceConfig {
    let here = SpliceListen {
        endpoint: local.backend.clone(),
        curve: false,
    };
    let there = listen.backend.iter().map(|endpoint| SpliceListen {
        endpoint: endpoint.clone(),
        curve: identity.keyring.is_some() && endpoint.starts_with("tcp://"),
    });
    let mut config = SpliceConfig::new(dir.path());
    config.listeners = std::iter::once(here).chain(there).collect();
    config
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
