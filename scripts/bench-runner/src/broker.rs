//! The broker under measurement.

use crate::process::RoleProcess;
use anyhow::{Context as _, bail, ensure};
use muster_proto::connection::Connection;
use muster_proto::rpc;
use muster_proto::runtime::RuntimeDir;
use muster_proto::socket::{Context, Frame, Kind, Profile, SendOutcome, Socket};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(20);

/// A running broker with a runtime directory of its own. Ends when it is dropped.
pub struct Broker {
    pid: u32,
    path: PathBuf,
    /// Where its sockets are.
    pub connection: Connection,
    asker: Socket,
    _keeper: RoleProcess,
    folder: tempfile::TempDir,
}

impl Broker {
    /// Starts `program` with more flags and waits until it answers.
    ///
    /// # Errors
    /// With its log, when it does not.
    pub fn start(program: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("mb").tempdir()?;
        let log_path = folder.path().join("log");
        let program = program.to_str().context("the broker's path")?;
        let runtime_dir = folder.path().to_str().context("a folder's path")?;
        let mut args = vec!["keeper", "--", program, "--runtime-dir", runtime_dir];
        args.extend(flags);
        let mut keeper = RoleProcess::launch_with(&args, |command| {
            for (name, _) in std::env::vars_os() {
                if name.to_string_lossy().starts_with("MUSTER_") {
                    command.env_remove(name);
                }
            }
            command.env("XDG_STATE_HOME", folder.path().join("state"));
            command.stderr(std::fs::File::create(&log_path)?);
            Ok(())
        })?;
        let pid = keeper.hear()?.parse().context("the broker's process id")?;
        let path = RuntimeDir::locate("default", Some(folder.path()))?.connection_path();
        let start = Instant::now();
        while !path.is_file() {
            let has_ended = !Path::new(&format!("/proc/{pid}/stat")).exists();
            if has_ended || start.elapsed() > WAIT {
                let log = std::fs::read_to_string(&log_path).unwrap_or_default();
                bail!("{program} does not serve:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let connection = Connection::read(&path)?;
        let asker = Socket::open(&Context::new(1)?, Kind::Dealer, &Profile::ClientLink)?;
        asker.connect(&connection.frontend)?;
        let broker = Broker {
            pid,
            path,
            connection,
            asker,
            _keeper: keeper,
            folder,
        };
        broker.ask("broker.status", &Value::Array(Vec::new()))?;
        Ok(broker)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its connection file.
    pub fn connection_path(&self) -> &Path {
        &self.path
    }

    /// A connection file for a peer of this role that comes by TCP.
    ///
    /// # Errors
    /// When the broker does not listen on TCP.
    pub fn remote_path(&self, role: &str, has_keys: bool) -> anyhow::Result<PathBuf> {
        if has_keys {
            let path = format!("state/muster/default/{role}.json");
            return Ok(self.folder.path().join(path));
        }
        let status = self.ask("broker.status", &Value::Array(Vec::new()))?;
        let door = |name: &str| {
            let endpoint = status["tcp_endpoints"][name].as_str();
            endpoint.map(str::to_owned).context("a TCP endpoint")
        };
        let path = self.folder.path().join("remote.json");
        let remote = Connection {
            frontend: door("frontend")?,
            backend: door("backend")?,
            workers: door("workers")?,
            events: door("events")?,
            ..self.connection.clone()
        };
        remote.write(&path)?;
        Ok(path)
    }

    /// Asks for the result of one of its own methods.
    ///
    /// # Errors
    /// When it refuses or stays silent.
    pub fn ask(&self, method: &str, params: &Value) -> anyhow::Result<Value> {
        let body = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params},"id":1}}"#);
        let mut frames = vec![Frame::empty(), Frame::from(body)];
        let sent = self.asker.send_timeout(&mut frames, WAIT)?;
        ensure!(
            sent == SendOutcome::Sent,
            "{method}: the broker takes no call"
        );
        ensure!(
            self.asker.recv_timeout(&mut frames, WAIT)?,
            "{method}: no answer"
        );
        let reply = rpc::read_reply(&frames[1]).context("the broker's reply")?;
        match reply.outcome {
            Ok(result) => Ok(serde_json::from_str(result)?),
            Err(error) => bail!("{method}: {}", error.to_json()),
        }
    }

    /// Waits until so many slots are joined.
    ///
    /// # Errors
    /// When they do not come in time.
    pub fn await_slots(&self, count: u64, timeout: Duration) -> anyhow::Result<()> {
        self.await_status(timeout, |status| {
            status["slots"]["ready"].as_u64() >= Some(count)
        })
        .with_context(|| format!("{count} ready slots"))
    }

    /// Waits until the broker's status is as wanted.
    ///
    /// # Errors
    /// With the last status, when it does not become so in time.
    pub fn await_status(
        &self,
        timeout: Duration,
        is_wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let status = self.ask("broker.status", &Value::Array(Vec::new()))?;
            if is_wanted(&status) {
                return Ok(());
            }
            ensure!(
                start.elapsed() < timeout,
                "after {timeout:?} the status is {status}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
