//! The broker and workers of a run, whose processes can be killed, stopped and started again.

use crate::work::METHOD;
use anyhow::{Context as _, bail, ensure};
use muster_bench::process::{self, RoleProcess};
use muster_client::{Client, Target};
use muster_proto::connection::Connection;
use muster_proto::runtime::RuntimeDir;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Every process of a run has this in its environment, so that none is overlooked at the end.
const MARK: &str = "MUSTER_CHAOS_FOLDER";
/// Longer than a broker or worker needs to come up on a busy machine.
const WAIT: Duration = Duration::from_secs(30);
/// Slots of each worker.
pub const SLOTS: usize = 2;

/// What serves calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A program made with the worker library: its slots are threads.
    Library,
    /// `muster-worker` with a Python module: each slot has a child.
    Program,
    /// A stock REP socket.
    Lane,
}

/// How many of each kind.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// [`Kind::Library`].
    pub libraries: usize,
    /// [`Kind::Program`].
    pub programs: usize,
    /// [`Kind::Lane`].
    pub lanes: usize,
}

impl Plan {
    fn kinds(self) -> impl Iterator<Item = Kind> {
        let some = |kind, count| std::iter::repeat_n(kind, count);
        some(Kind::Library, self.libraries)
            .chain(some(Kind::Program, self.programs))
            .chain(some(Kind::Lane, self.lanes))
    }

    /// Slots when all are there.
    pub fn slots(self) -> usize {
        (self.libraries + self.programs) * SLOTS + self.lanes
    }
}

/// One worker: its process, if it lives.
pub struct Member {
    /// What it is.
    pub kind: Kind,
    /// Its name in the cluster.
    pub name: String,
    process: Option<RoleProcess>,
    pid: Option<u32>,
    /// When to start it again.
    back: Option<Instant>,
}

impl Member {
    /// Its process, unless it is dead.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }
}

/// A broker with workers, below one folder.
pub struct Cluster {
    /// Where logs are, and the runtime directory.
    pub folder: PathBuf,
    /// The workers.
    pub members: Vec<Member>,
    connection_path: PathBuf,
    broker: Option<RoleProcess>,
    broker_pid: u32,
}

impl Cluster {
    /// Starts all and waits until every slot is ready.
    ///
    /// # Errors
    /// When one does not come up.
    pub fn start(folder: &Path, plan: Plan) -> anyhow::Result<Self> {
        let runtime = RuntimeDir::locate("default", Some(folder))?;
        let mut cluster = Cluster {
            folder: folder.to_owned(),
            members: Vec::new(),
            connection_path: runtime.connection_path(),
            broker: None,
            broker_pid: 0,
        };
        cluster.start_broker()?;
        for (place, kind) in plan.kinds().enumerate() {
            cluster.members.push(Member {
                kind,
                name: format!("w{place}"),
                process: None,
                pid: None,
                back: None,
            });
            cluster.start_member(place)?;
        }
        cluster.await_slots(plan.slots(), WAIT)?;
        Ok(cluster)
    }

    /// The connection file.
    pub fn connection_path(&self) -> &Path {
        &self.connection_path
    }

    /// The broker's process.
    pub fn broker_pid(&self) -> u32 {
        self.broker_pid
    }

    /// A new client.
    ///
    /// # Errors
    /// When the broker does not answer in time.
    pub fn client(&self) -> anyhow::Result<Client> {
        let target = Target {
            connection: Some(self.connection_path.clone()),
            ..Target::default()
        };
        let start = Instant::now();
        loop {
            match Client::connect(&target) {
                Ok(client) => return Ok(client),
                Err(error) => ensure!(start.elapsed() < WAIT, "the broker: {error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until so many slots are ready or busy; how long that took.
    ///
    /// # Errors
    /// When they are not in time.
    pub fn await_slots(&self, slots: usize, patience: Duration) -> anyhow::Result<Duration> {
        let client = self.client()?;
        let start = Instant::now();
        loop {
            let status: Value = client.call("broker.status", &())?.json()?;
            let count = |state| status["slots"][state].as_u64().unwrap_or_default();
            if count("ready") + count("busy") >= slots as u64 {
                return Ok(start.elapsed());
            }
            if start.elapsed() > patience {
                let log = std::fs::read_to_string(self.folder.join("processes.log"));
                let log = log.unwrap_or_default();
                bail!("{slots} slots in vain: {}\n{log}", status["slots"]);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The broker dies as in a crash and is started again at once.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn crash_broker(&mut self) -> anyhow::Result<()> {
        signal(self.broker_pid, Signal::KILL);
        self.start_broker()
    }

    /// Kills a worker's process, to be back after `pause`.
    pub fn kill_member(&mut self, place: usize, pause: Duration) {
        let member = &mut self.members[place];
        if let Some(pid) = member.pid.take() {
            signal(pid, Signal::KILL);
        }
        member.back = Some(Instant::now() + pause);
    }

    /// Starts the workers again whose time has come.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn tend(&mut self) -> anyhow::Result<()> {
        for place in 0..self.members.len() {
            if self.members[place]
                .back
                .is_some_and(|at| at <= Instant::now())
            {
                self.start_member(place)?;
            }
        }
        Ok(())
    }

    /// The processes that run a worker's functions, where these are others than its own.
    pub fn children(&self, place: usize) -> Vec<u32> {
        let Some(pid) = self.members[place].pid else {
            return Vec::new();
        };
        let path = format!("/proc/{pid}/task");
        let threads = std::fs::read_dir(path).into_iter().flatten().flatten();
        threads
            .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
            .flat_map(|text| {
                text.split_whitespace()
                    .filter_map(|pid| pid.parse().ok())
                    .collect::<Vec<u32>>()
            })
            .collect()
    }

    /// Ends everything; the processes that are left over after that.
    ///
    /// # Errors
    /// When `/proc` can't be read.
    pub fn stop(mut self) -> anyhow::Result<Vec<u32>> {
        self.members.clear();
        self.broker = None;
        let start = Instant::now();
        loop {
            let left = marked(&self.folder)?;
            if left.is_empty() || start.elapsed() > Duration::from_secs(5) {
                return Ok(left);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn start_broker(&mut self) -> anyhow::Result<()> {
        // The keeper of the dead one has nothing left to keep.
        self.broker = None;
        let program = process::beside("muster-broker")?;
        let program = program.to_str().context("the broker's path")?;
        let runtime_dir = self.folder.to_str().context("a folder's path")?;
        let args = ["keeper", "--", program, "--runtime-dir", runtime_dir];
        let mut keeper = launch(&self.folder, &args)?;
        self.broker_pid = keeper.hear()?.parse().context("a process id")?;
        self.broker = Some(keeper);
        let start = Instant::now();
        while !Connection::read(&self.connection_path)
            .is_ok_and(|connection| connection.pid == self.broker_pid)
        {
            ensure!(start.elapsed() < WAIT, "the broker does not serve");
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn start_member(&mut self, place: usize) -> anyhow::Result<()> {
        // The old process is reaped before the new one starts.
        self.members[place].process = None;
        let member = &self.members[place];
        let text = |path: &Path| path.to_str().map(str::to_owned).context("a path");
        let (connection, folder) = (text(&self.connection_path)?, text(&self.folder)?);
        let slots = SLOTS.to_string();
        let (process, pid) = match member.kind {
            Kind::Library => {
                let args = [
                    "managed",
                    "--connection",
                    &connection,
                    "--name",
                    &member.name,
                    "--slots",
                    &slots,
                    "--folder",
                    &folder,
                ];
                let process = launch(&self.folder, &args)?;
                let pid = process.pid();
                (process, pid)
            }
            Kind::Program => {
                let program = text(&process::beside("muster-worker")?)?;
                let module = format!("{}/../parts/chaos_methods.py", env!("CARGO_MANIFEST_DIR"));
                let args = [
                    "keeper",
                    "--",
                    &program,
                    "--connection",
                    &connection,
                    "--name",
                    &member.name,
                    "-n",
                    &slots,
                    "--python",
                    &module,
                ];
                let mut process = launch(&self.folder, &args)?;
                let pid = process.hear()?.parse()?;
                (process, pid)
            }
            Kind::Lane => {
                let backend = Connection::read(&self.connection_path)?.backend;
                let args = ["lane", "--endpoint", &backend, "--folder", &folder];
                let process = launch(&self.folder, &args)?;
                let pid = process.pid();
                (process, pid)
            }
        };
        let member = &mut self.members[place];
        member.process = Some(process);
        member.pid = Some(pid);
        member.back = None;
        Ok(())
    }
}

/// Starts this program in a role, apart from the terminal's Ctrl-C, its messages in a file.
///
/// # Errors
/// When the system refuses.
pub fn launch(folder: &Path, args: &[&str]) -> anyhow::Result<RoleProcess> {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("processes.log"))?;
    RoleProcess::launch_with(args, |command| {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MUSTER_") {
                command.env_remove(name);
            }
        }
        command
            .env(MARK, folder)
            .env("XDG_STATE_HOME", folder.join("state"))
            .stderr(log)
            .process_group(0);
        Ok(())
    })
}

/// Sends a signal to a process that may have ended.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        let _ = kill_process(pid, signal);
    }
}

/// The living processes of a run.
fn marked(folder: &Path) -> anyhow::Result<Vec<u32>> {
    let mark = format!("{MARK}={}", folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == mark.as_bytes())
        {
            found.push(pid);
        }
    }
    Ok(found)
}

/// The method of a kind.
pub fn method(kind: Kind) -> &'static str {
    match kind {
        Kind::Lane => crate::work::LANE_METHOD,
        Kind::Library | Kind::Program => METHOD,
    }
}
