//! One side of an echo: what the clients call, the broker or libzmq's proxy with its workers.

use crate::broker::Broker;
use crate::process::{RoleProcess, scheduled_seconds};
use anyhow::Context as _;
use std::path::Path;
use std::time::Duration;

const WORKERS: usize = 4;

/// Workers of the broker's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Managed,
    Lanes,
}

/// Everything of one side; the clients are shared.
pub struct Pool {
    pub frontend: String,
    middle: Middle,
    workers: Vec<RoleProcess>,
}

/// What stands between clients and workers.
#[allow(clippy::large_enum_variant)] // There is one at a time.
enum Middle {
    Broker(Broker),
    Proxy(RoleProcess),
}

impl Pool {
    pub fn of_broker(program: &Path, kind: Kind) -> anyhow::Result<Self> {
        let broker = Broker::start(program, &[])?;
        let connection = broker.connection.clone();
        let mut processes = Vec::new();
        for n in 0..WORKERS {
            let name = format!("w{n}");
            processes.push(match kind {
                Kind::Managed => {
                    let path = broker.connection_path().to_str().context("a path")?;
                    let args = ["managed-worker", "--name", &name, "--connection", path];
                    RoleProcess::start(&args)?
                }
                Kind::Lanes => {
                    RoleProcess::start(&["rep-worker", "--endpoint", &connection.backend])?
                }
            });
        }
        broker.await_slots(WORKERS as u64, Duration::from_secs(10))?;
        let frontend = connection.frontend;
        Ok(Pool {
            frontend,
            middle: Middle::Broker(broker),
            workers: processes,
        })
    }

    /// Clients and workers come by TCP on loopback, with their roles' keys or without any.
    pub fn over_tcp(program: &Path, has_keys: bool) -> anyhow::Result<Self> {
        let listen = ["--listen", "tcp://127.0.0.1:0", "--curve"];
        let broker = Broker::start(program, if has_keys { &listen } else { &listen[..2] })?;
        let file = |role| -> anyhow::Result<String> {
            let path = broker.remote_path(role, has_keys)?;
            Ok(path.to_str().context("a path")?.to_owned())
        };
        let (client, worker) = (file("client")?, file("worker")?);
        let mut workers = Vec::new();
        for n in 0..WORKERS {
            let name = format!("w{n}");
            let args = ["managed-worker", "--name", &name, "--connection", &worker];
            workers.push(RoleProcess::start(&args)?);
        }
        broker.await_slots(WORKERS as u64, Duration::from_secs(10))?;
        Ok(Pool {
            frontend: client,
            middle: Middle::Broker(broker),
            workers,
        })
    }

    pub fn of_proxy(folder: &Path) -> anyhow::Result<Self> {
        let endpoint = |name: &str| format!("ipc://{}/{name}", folder.display());
        let (frontend, backend) = (endpoint("front"), endpoint("back"));
        let args = ["proxy", "--frontend", &frontend, "--backend", &backend];
        let middle = Middle::Proxy(RoleProcess::start(&args)?);
        let mut workers = Vec::new();
        for _ in 0..WORKERS {
            workers.push(RoleProcess::start(&["rep-worker", "--endpoint", &backend])?);
        }
        Ok(Pool {
            frontend,
            middle,
            workers,
        })
    }

    /// Processor time so far, in seconds: the middle and the workers.
    pub fn cpu_s(&self) -> anyhow::Result<[f64; 2]> {
        let middle = match &self.middle {
            Middle::Broker(broker) => broker.pid(),
            Middle::Proxy(proxy) => proxy.pid(),
        };
        Ok([scheduled_seconds(middle)?, cpu_s_of(&self.workers)?])
    }
}

/// Processor time of processes so far, in seconds.
pub fn cpu_s_of(processes: &[RoleProcess]) -> anyhow::Result<f64> {
    processes
        .iter()
        .map(|process| scheduled_seconds(process.pid()))
        .sum()
}
