//! The processes of a measurement: started here, ended here.

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// This program in another role. Ends when it is dropped.
pub struct RoleProcess {
    child: Child,
    /// Taken when it is to end.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    name: String,
}

impl RoleProcess {
    /// Starts it and waits until it is at work.
    ///
    /// # Errors
    /// When it ends instead.
    pub fn start(args: &[&str]) -> anyhow::Result<Self> {
        let mut role = Self::launch(args)?;
        role.await_ready()?;
        Ok(role)
    }

    /// Starts it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn launch(args: &[&str]) -> anyhow::Result<Self> {
        Self::launch_with(args, |_| Ok(()))
    }

    /// Starts it with more settings.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn launch_with(
        args: &[&str],
        set: impl FnOnce(&mut Command) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("this program")?;
        let mut command = Command::new(own);
        command
            .arg("role")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        set(&mut command)?;
        let mut child = command.spawn().with_context(|| format!("start {args:?}"))?;
        let input = Some(child.stdin.take().expect("piped above"));
        let output = BufReader::new(child.stdout.take().expect("piped above"));
        Ok(RoleProcess {
            child,
            input,
            output,
            name: args.join(" "),
        })
    }

    /// Waits until it is at work.
    ///
    /// # Errors
    /// When it ends instead.
    pub fn await_ready(&mut self) -> anyhow::Result<()> {
        let line = self.hear()?;
        ensure!(line == "ready", "{}: said {line}", self.name);
        Ok(())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Tells it what to do, as a line of JSON.
    ///
    /// # Errors
    /// When it has ended.
    pub fn order(&mut self, order: &impl Serialize) -> anyhow::Result<()> {
        let line = serde_json::to_string(order)?;
        let input = self
            .input
            .as_mut()
            .with_context(|| format!("{}: ended", self.name))?;
        writeln!(input, "{line}").with_context(|| format!("{}: ended", self.name))
    }

    /// Waits for what came of it, a line of JSON.
    ///
    /// # Errors
    /// When it has ended.
    pub fn outcome<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let line = self.hear()?;
        serde_json::from_str(&line).with_context(|| format!("{}: said {line}", self.name))
    }

    /// Waits for its next line.
    ///
    /// # Errors
    /// When it has ended.
    pub fn hear(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            let status = self.child.wait()?;
            bail!("{}: ended with {status}", self.name);
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for RoleProcess {
    fn drop(&mut self) {
        // A keeper has something to end before it ends itself; none takes long.
        self.input = None;
        let _ = self.child.wait();
    }
}

/// Time on a processor of all threads of a process so far, in seconds, by the scheduler's clock:
/// exact where ticks are coarse.
///
/// # Errors
/// When it has ended.
pub fn scheduled_seconds(pid: u32) -> anyhow::Result<f64> {
    let mut total_ns = 0u64;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        let first = text.split_whitespace().next().context("schedstat")?;
        total_ns += first.parse::<u64>()?;
    }
    Ok(total_ns as f64 / 1e9)
}

/// Resident memory of a process in bytes.
///
/// # Errors
/// When it has ended.
pub fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .context("VmRSS")?;
    let kb: u64 = line.split_whitespace().nth(1).context("VmRSS")?.parse()?;
    Ok(kb * 1024)
}

/// A program beside this one.
///
/// # Errors
/// When it isn't there.
pub fn beside(name: &str) -> anyhow::Result<std::path::PathBuf> {
    let own = std::env::current_exe().context("this program")?;
    let path = own.parent().unwrap_or(Path::new(".")).join(name);
    ensure!(
        path.is_file(),
        "{} is not there; build it first",
        path.display()
    );
    Ok(path)
}

/// In a role: tells the process that started it that this one is at work.
///
/// # Errors
/// When nobody can be told.
pub fn ready() -> anyhow::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "ready").context("standard output")?;
    out.flush().context("standard output")
}

/// In a role: ends this process when the one that started it has ended, however that happened.
pub fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
}
