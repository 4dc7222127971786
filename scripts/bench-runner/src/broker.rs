//! The broker under measurement.

use anyhow::{Context as _, bail, ensure};
use muster_proto::connection::Connection;
use muster_proto::rpc;
use muster_proto::runtime::RuntimeDir;
use muster_proto::socket::{Context, Frame, Kind, Profile, SendOutcome, Socket};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(20);

/// A running broker with a runtime directory of its own. Ends when it is dropped.
pub struct Broker {
    child: Child,
    folder: tempfile::TempDir,
    /// Where its sockets are.
    pub connection: Connection,
    asker: Socket,
}

impl Broker {
    /// Starts `program` with more flags and waits until it answers.
    ///
    /// # Errors
    /// With its log, when it does not.
    pub fn start(program: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("mb").tempdir()?;
        let log_path = folder.path().join("log");
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MUSTER_") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .arg("--runtime-dir")
            .arg(folder.path())
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log_path)?)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let path = RuntimeDir::locate("default", Some(folder.path()))?.connection_path();
        let start = Instant::now();
        while !path.is_file() {
            let has_ended = child.try_wait()?.is_some();
            if has_ended || start.elapsed() > WAIT {
                let _ = child.kill();
                let log = std::fs::read_to_string(&log_path).unwrap_or_default();
                bail!("{} does not serve:\n{log}", program.display());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let connection = Connection::read(&path)?;
        let asker = Socket::open(&Context::new(1)?, Kind::Dealer, &Profile::ClientLink)?;
        asker.connect(&connection.frontend)?;
        let broker = Broker {
            child,
            folder,
            connection,
            asker,
        };
        broker.ask("broker.status", &Value::Array(Vec::new()))?;
        Ok(broker)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A path for a socket of somebody else in this measurement.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
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

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
