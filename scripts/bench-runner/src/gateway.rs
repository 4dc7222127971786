//! The gateway under measurement.

use crate::broker::Broker;
use crate::process::{self, RoleProcess};
use anyhow::{Context as _, ensure};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(20);

/// `muster gateway` for one broker. Ends when it is dropped.
pub struct Gateway {
    /// Its process id.
    pub pid: u32,
    /// Where it listens.
    pub address: SocketAddr,
    _keeper: RoleProcess,
}

impl Gateway {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(broker: &Broker) -> anyhow::Result<Self> {
        let program = process::beside("muster")?;
        let program = program.to_str().context("the program's path")?;
        let connection = broker.connection_path().to_str().context("a path")?;
        // The system picks a port; nobody else on the machine is likely to take it meanwhile.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let http = address.to_string();
        let args = [
            "keeper",
            "--",
            program,
            "gateway",
            "--http",
            &http,
            "--connection",
            connection,
        ];
        let mut keeper = RoleProcess::launch(&args)?;
        let pid = keeper.hear()?.parse().context("the gateway's process id")?;
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            ensure!(start.elapsed() < WAIT, "no gateway at {address}");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Gateway {
            pid,
            address,
            _keeper: keeper,
        })
    }
}
