//! Where the broker is, and how it is found.

use muster_proto::connection::{Connection, ConnectionError, Curve};
use muster_proto::rpc::read_reply;
use muster_proto::runtime::{CLUSTER_DEFAULT, RuntimeDir};
use muster_proto::socket::{Context, Frame, Kind, Profile, Socket, SocketError};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Pauses between two looks, the first and the longest: a broker that starts is found soon, one
/// that never does costs nothing.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Where to find the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerAddress {
    /// By the connection file in a cluster's runtime directory.
    Cluster {
        /// The cluster's name.
        name: String,
        /// Where runtime directories are, if not in the user's default place.
        runtime_dir: Option<PathBuf>,
    },
    /// By a connection file somewhere else.
    File(PathBuf),
    /// By the endpoint at which clients connect; the broker tells the others there.
    Frontend(String),
    /// By what a connection file says.
    Connection(Box<Connection>),
}

impl Default for BrokerAddress {
    fn default() -> Self {
        BrokerAddress::Cluster {
            name: CLUSTER_DEFAULT.to_owned(),
            runtime_dir: None,
        }
    }
}

impl BrokerAddress {
    /// What the environment says, in the words of `muster-worker`: a file (`MUSTER_CONNECTION`), a
    /// frontend (`MUSTER_CONNECT`), or the cluster `MUSTER_CLUSTER` in `MUSTER_RUNTIME_DIR`; where
    /// it says nothing, the default.
    pub fn from_env() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(file) = set("MUSTER_CONNECTION") {
            return BrokerAddress::File(file.into());
        }
        if let Some(frontend) = set("MUSTER_CONNECT") {
            return BrokerAddress::Frontend(frontend.to_string_lossy().into_owned());
        }
        let name = set("MUSTER_CLUSTER").map(|name| name.to_string_lossy().into_owned());
        BrokerAddress::Cluster {
            name: name.unwrap_or_else(|| CLUSTER_DEFAULT.to_owned()),
            runtime_dir: set("MUSTER_RUNTIME_DIR").map(PathBuf::from),
        }
    }
}

impl From<&str> for BrokerAddress {
    fn from(frontend: &str) -> Self {
        BrokerAddress::Frontend(frontend.to_owned())
    }
}

impl From<&String> for BrokerAddress {
    fn from(frontend: &String) -> Self {
        BrokerAddress::Frontend(frontend.clone())
    }
}

impl From<Connection> for BrokerAddress {
    fn from(connection: Connection) -> Self {
        BrokerAddress::Connection(Box::new(connection))
    }
}

/// How to reach the broker as a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The endpoint for managed workers.
    pub workers: String,
    pub curve: Option<Curve>,
}

/// Looks for the broker until it is found, without ever waiting.
pub(crate) struct Finder {
    address: BrokerAddress,
    context: Context,
    /// The frontend, while it is being asked.
    asked: Option<Socket>,
    pause: Duration,
    next_look: Instant,
    /// Why the last look found nothing.
    reason: String,
}

impl Finder {
    pub fn new(address: BrokerAddress, context: Context) -> Self {
        Finder {
            address,
            context,
            asked: None,
            pause: PAUSE,
            next_look: Instant::now(),
            reason: String::new(),
        }
    }

    /// When to look again.
    pub fn due(&self) -> Instant {
        self.next_look
    }

    /// The socket whose answer ends the wait early.
    pub fn socket(&self) -> Option<&Socket> {
        self.asked.as_ref()
    }

    /// Why nothing was found, in words.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Looks, if it is time or an answer has come.
    ///
    /// # Errors
    /// An endpoint or cluster name that can never work, or no more descriptors.
    pub fn look(&mut self) -> Result<Option<Found>, FindError> {
        let found = self.read_answer()?;
        if found.is_some() {
            return Ok(found);
        }
        let now = Instant::now();
        if now < self.next_look {
            return Ok(None);
        }
        self.next_look = now + self.pause;
        self.pause = (2 * self.pause).min(PAUSE_MAX);
        match &self.address {
            BrokerAddress::Cluster { name, runtime_dir } => {
                let dir = RuntimeDir::locate(name, runtime_dir.as_deref())?;
                // A connection file without a living broker is an old one.
                if !dir.is_live() {
                    self.reason = format!("no broker runs in {}", dir.path().display());
                    return Ok(None);
                }
                self.read_file(&dir.connection_path())
            }
            BrokerAddress::File(path) => {
                let path = path.clone();
                self.read_file(&path)
            }
            BrokerAddress::Connection(connection) => Ok(Some(Found::of(connection))),
            BrokerAddress::Frontend(frontend) => {
                self.reason = format!("nobody answers at {frontend}");
                let frontend = frontend.clone();
                self.ask(&frontend)?;
                Ok(None)
            }
        }
    }

    fn read_file(&mut self, path: &Path) -> Result<Option<Found>, FindError> {
        match Connection::read(path) {
            Ok(connection) => Ok(Some(Found::of(&connection))),
            Err(ConnectionError::Missing { .. }) => {
                self.reason = format!("there is no connection file {}", path.display());
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn ask(&mut self, frontend: &str) -> Result<(), SocketError> {
        if self.asked.is_none() {
            let socket = Socket::open(&self.context, Kind::Dealer, &Profile::ClientLink)?;
            socket.connect(frontend)?;
            self.asked = Some(socket);
        }
        if let Some(socket) = &self.asked {
            // Not sent while there is no connection, and asked again at the next look.
            let request = r#"{"jsonrpc":"2.0","method":"broker.endpoints","id":1}"#;
            let _ = socket.send([Frame::empty(), Frame::from(request)])?;
        }
        Ok(())
    }

    fn read_answer(&mut self) -> Result<Option<Found>, SocketError> {
        let (Some(socket), BrokerAddress::Frontend(frontend)) = (&self.asked, &self.address) else {
            return Ok(None);
        };
        let mut frames = Vec::new();
        while socket.recv_into(&mut frames)? {
            let reply = frames.last().and_then(|body| read_reply(body));
            let Some(reply) = reply else { continue };
            match reply.outcome {
                Err(error) => self.reason = format!("{frontend} answers: {error}"),
                Ok(result) => match serde_json::from_str::<Endpoints>(result) {
                    Err(error) => self.reason = format!("{frontend} answers: {error}"),
                    Ok(endpoints) => {
                        let workers = reachable(&endpoints.workers, frontend);
                        self.asked = None;
                        return Ok(Some(Found {
                            workers,
                            curve: None,
                        }));
                    }
                },
            }
        }
        Ok(None)
    }

    /// Starts over, after the broker was lost.
    pub fn restart(&mut self) {
        self.pause = PAUSE;
        self.next_look = Instant::now();
    }
}

/// Why the broker can't even be looked for.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The cluster's name or directory.
    #[error(transparent)]
    Runtime(#[from] muster_proto::runtime::RuntimeError),
    /// The connection file.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The endpoint.
    #[error(transparent)]
    Socket(#[from] SocketError),
}

impl Found {
    fn of(connection: &Connection) -> Self {
        Found {
            workers: connection.workers.clone(),
            curve: connection.curve.clone(),
        }
    }
}

#[derive(Deserialize)]
struct Endpoints {
    workers: String,
}

/// The endpoint with the frontend's host in place of one that means any.
fn reachable(endpoint: &str, frontend: &str) -> String {
    let host = frontend
        .strip_prefix("tcp://")
        .and_then(|rest| rest.rsplit_once(':'));
    let parts = endpoint
        .strip_prefix("tcp://")
        .and_then(|rest| rest.rsplit_once(':'));
    match (host, parts) {
        (Some((host, _)), Some(("*" | "0.0.0.0" | "[::]", port))) => format!("tcp://{host}:{port}"),
        _ => endpoint.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::socket::{Interest, PollItem, poll};

    #[test]
    fn an_endpoint_that_means_any_host_gets_the_frontends() {
        let front = "tcp://broker.lan:5555";
        assert_eq!(
            reachable("tcp://0.0.0.0:5557", front),
            "tcp://broker.lan:5557"
        );
        assert_eq!(
            reachable("tcp://10.0.0.1:5557", front),
            "tcp://10.0.0.1:5557"
        );
        assert_eq!(reachable("ipc:///x/workers", front), "ipc:///x/workers");
    }

    #[test]
    fn a_cluster_without_a_broker_is_looked_for_again_later() {
        let folder = tempfile::tempdir().unwrap();
        let address = BrokerAddress::Cluster {
            name: "c".into(),
            runtime_dir: Some(folder.path().to_owned()),
        };
        let mut finder = Finder::new(address, Context::new(1).unwrap());
        assert!(finder.look().unwrap().is_none());
        assert!(finder.reason().contains("no broker"), "{}", finder.reason());
        assert!(finder.due() > Instant::now());
    }

    #[test]
    fn the_frontend_is_asked_for_the_other_endpoints() {
        let context = Context::new(1).unwrap();
        let frontend = Socket::open(&context, Kind::Router, &Profile::Inproc).unwrap();
        frontend.bind("tcp://127.0.0.1:*").unwrap();
        let address = BrokerAddress::from(&frontend.last_endpoint().unwrap());
        let mut finder = Finder::new(address, context);
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut frames = Vec::new();
        loop {
            assert!(Instant::now() < deadline, "{}", finder.reason());
            if let Some(found) = finder.look().unwrap() {
                assert_eq!(
                    found,
                    Found {
                        workers: "tcp://127.0.0.1:7".into(),
                        curve: None
                    }
                );
                return;
            }
            if frontend.recv_into(&mut frames).unwrap() {
                assert!(frames[1].is_empty());
                let reply = r#"{"jsonrpc":"2.0","result":{"workers":"tcp://*:7"},"id":1}"#;
                frames[2] = Frame::from(reply);
                let _ = frontend.send_frames(&mut frames).unwrap();
            }
            let socket = finder.socket().expect("it asks");
            let mut items = [
                PollItem::socket(socket, Interest::Read),
                PollItem::socket(&frontend, Interest::Read),
            ];
            poll(&mut items, Some(Duration::from_millis(20))).unwrap();
        }
    }
}
