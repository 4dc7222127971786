//! Which broker is meant, and where it is.

use crate::error::Error;
use muster_proto::connection::{Connection, ConnectionError, Curve};
use muster_proto::runtime::{CLUSTER_DEFAULT, RuntimeDir};
use std::path::PathBuf;

/// Names a broker. The default is the cluster `default` of this user on this machine.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// The cluster's name.
    pub cluster: Option<String>,
    /// The folder of the clusters' runtime directories, instead of the user's own.
    pub runtime_dir: Option<PathBuf>,
    /// A connection file to read, instead of the one in the runtime directory.
    pub connection: Option<PathBuf>,
    /// The frontend's address, instead of the one in the connection file. Keys still come from
    /// `connection` when that is given.
    pub endpoint: Option<String>,
}

/// Where a broker's frontend is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The frontend's endpoint.
    pub endpoint: String,
    /// The keys it asks for.
    pub curve: Option<Curve>,
    /// The connection file's content, where one was read: another broker's differs.
    pub connection: Option<Connection>,
}

impl Target {
    /// The cluster of this name.
    pub fn cluster(name: &str) -> Self {
        Target {
            cluster: Some(name.to_owned()),
            ..Target::default()
        }
    }

    /// The broker whose frontend is there.
    pub fn endpoint(endpoint: &str) -> Self {
        Target {
            endpoint: Some(endpoint.to_owned()),
            ..Target::default()
        }
    }

    /// What the environment says, as `muster` reads it: `MUSTER_CLUSTER`, `MUSTER_RUNTIME_DIR`,
    /// `MUSTER_CONNECTION` and `MUSTER_ENDPOINT`; where it says nothing, the default.
    pub fn from_env() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name| set(name).map(|value| value.to_string_lossy().into_owned());
        Target {
            cluster: text("MUSTER_CLUSTER"),
            runtime_dir: set("MUSTER_RUNTIME_DIR").map(PathBuf::from),
            connection: set("MUSTER_CONNECTION").map(PathBuf::from),
            endpoint: text("MUSTER_ENDPOINT"),
        }
    }

    /// The runtime directory meant by cluster name and folder.
    ///
    /// # Errors
    /// [`Error::Runtime`] when the name can't be one.
    pub fn runtime(&self) -> Result<RuntimeDir, Error> {
        let cluster = self.cluster.as_deref().unwrap_or(CLUSTER_DEFAULT);
        Ok(RuntimeDir::locate(cluster, self.runtime_dir.as_deref())?)
    }

    /// Finds the broker's address. Reads files, opens no socket.
    ///
    /// # Errors
    /// [`Error::NoBroker`] when there is no connection file or its broker is dead;
    /// [`Error::Connection`] when the file can't be read.
    pub fn resolve(&self) -> Result<Address, Error> {
        let connection = match (&self.connection, &self.endpoint) {
            (Some(path), _) => Some(read(Connection::read(path))?),
            (None, Some(_)) => None,
            (None, None) => Some(self.read_runtime()?),
        };
        let curve = connection
            .as_ref()
            .and_then(|connection| connection.curve.clone());
        let endpoint = match (&self.endpoint, &connection) {
            (Some(endpoint), _) if endpoint.contains("://") => endpoint.clone(),
            (Some(endpoint), _) => format!("tcp://{endpoint}"),
            (None, Some(connection)) => connection.frontend.clone(),
            (None, None) => unreachable!("without an endpoint the connection file was read"),
        };
        Ok(Address {
            endpoint,
            curve,
            connection,
        })
    }

    fn read_runtime(&self) -> Result<Connection, Error> {
        let dir = self.runtime()?;
        let connection = read(Connection::read(&dir.connection_path()))?;
        // Whoever can write there could send the calls to a broker of his own.
        dir.verify()?;
        if !dir.is_live() {
            let path = dir.connection_path();
            let looked = format!("the one of {} has ended", path.display());
            return Err(Error::NoBroker { looked });
        }
        Ok(connection)
    }
}

fn read(result: Result<Connection, ConnectionError>) -> Result<Connection, Error> {
    result.map_err(|error| match error {
        ConnectionError::Missing { .. } => Error::NoBroker {
            looked: error.to_string(),
        },
        error => error.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_alone_needs_no_file_and_tcp_is_understood() {
        let address = Target::endpoint("127.0.0.1:5559").resolve().unwrap();
        assert_eq!(address.endpoint, "tcp://127.0.0.1:5559");
        assert_eq!(
            Target::endpoint("ipc:///x/f").resolve().unwrap().endpoint,
            "ipc:///x/f"
        );
    }

    #[test]
    fn a_cluster_without_a_broker_names_the_file_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target {
            runtime_dir: Some(folder.path().into()),
            ..Target::cluster("c")
        };
        let error = target.resolve().unwrap_err();
        assert!(matches!(error, Error::NoBroker { .. }));
        assert!(error.to_string().contains("c/cluster.json"), "{error}");
    }

    #[test]
    fn a_file_whose_lock_is_free_is_stale_and_an_endpoint_overrides_the_address() {
        let folder = tempfile::tempdir().unwrap();
        let dir = RuntimeDir::locate("c", Some(folder.path())).unwrap();
        dir.create().unwrap();
        let connection = Connection {
            version: 1,
            name: "c".into(),
            host: "h".into(),
            pid: 1,
            started: 1,
            frontend: "ipc:///x/frontend".into(),
            backend: "ipc:///x/backend".into(),
            workers: "ipc:///x/workers".into(),
            events: "ipc:///x/events".into(),
            curve: None,
        };
        connection.write(&dir.connection_path()).unwrap();
        let mut target = Target {
            runtime_dir: Some(folder.path().into()),
            ..Target::cluster("c")
        };
        assert!(
            target
                .resolve()
                .unwrap_err()
                .to_string()
                .contains("has ended")
        );
        let _lock = dir.lock().unwrap();
        assert_eq!(target.resolve().unwrap().endpoint, "ipc:///x/frontend");
        target.connection = Some(dir.connection_path());
        target.endpoint = Some("tcp://127.0.0.1:1".into());
        let address = target.resolve().unwrap();
        assert_eq!(address.endpoint, "tcp://127.0.0.1:1");
        assert_eq!(address.connection, Some(connection));
    }
}
