//! Two namespaces, `here` with the broker and `there`, and a cable between them.

use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Addresses that exist in the two namespaces alone.
const HERE: &str = "10.213.77.1";
const THERE: &str = "10.213.77.2";
/// What `lane_mix(1)` answers.
pub const MIX_OF_1: &str = "7107324278099875";

/// Waits until `check` gives something.
pub fn wait_for<T>(what: &str, check: impl FnMut() -> Option<T>) -> T {
    muster_test_support::wait_for(what, PATIENCE, check)
}

/// Whatever the test harness does with output: skipping must not go unseen.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A process that is killed with the test.
pub struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The two machines.
pub struct Lab {
    here: String,
    there: String,
    folder: tempfile::TempDir,
    broker: Option<Process>,
}

impl Lab {
    /// `None`, and a line about it, where the machine does not allow it.
    pub fn build(test: &str) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = |side| format!("muster-{}-{number}-{side}", std::process::id());
        let mut lab = Lab {
            here: name("here"),
            there: name("there"),
            folder: tempfile::Builder::new().prefix("mh").tempdir().unwrap(),
            broker: None,
        };
        if let Err(reason) = lab.lay_cable() {
            say(&format!("skipped: {test}: {reason}"));
            return None;
        }
        let broker = Command::new("ip")
            .args(["netns", "exec", &lab.here])
            .arg(program("muster-broker"))
            .args(["--listen", &format!("tcp://{HERE}:5555"), "--insecure"])
            .arg("--runtime-dir")
            .arg(lab.folder.path())
            .env_remove("MUSTER_CLUSTER")
            .env("XDG_STATE_HOME", lab.folder.path().join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(lab.log("broker"))
            .spawn()
            .unwrap();
        lab.broker = Some(Process(broker));
        wait_for("the broker", || lab.try_status());
        Some(lab)
    }

    fn lay_cable(&self) -> Result<(), String> {
        ip(&["netns", "add", &self.here])?;
        ip(&["netns", "add", &self.there])?;
        let (here, there) = (self.here.as_str(), self.there.as_str());
        ip(&[
            "link", "add", "cable", "netns", here, "type", "veth", "peer", "name", "cable",
            "netns", there,
        ])?;
        for (side, address) in [(here, HERE), (there, THERE)] {
            ip(&[
                "-n",
                side,
                "addr",
                "add",
                &format!("{address}/30"),
                "dev",
                "cable",
            ])?;
            ip(&["-n", side, "link", "set", "lo", "up"])?;
            ip(&["-n", side, "link", "set", "cable", "up"])?;
        }
        Ok(())
    }

    /// Pulls the cable, or plugs it in again.
    pub fn cable(&self, is_up: bool) {
        let state = if is_up { "up" } else { "down" };
        ip(&["-n", &self.there, "link", "set", "cable", state]).unwrap();
    }

    /// Everything that is sent from there vanishes, or no longer does.
    pub fn lose_what_comes_from_there(&self, is_lost: bool) {
        let verb = if is_lost { "add" } else { "del" };
        let to = format!("{HERE}/32");
        ip(&["-n", &self.there, "route", verb, "blackhole", &to]).unwrap();
    }

    /// How long it took to find out, which is said and bounded.
    pub fn found(&self, what: &str, since: Instant, at_most: Duration) {
        let took = since.elapsed();
        say(&format!("{what}: found after {:.1} s", took.as_secs_f64()));
        assert!(took < at_most, "{what}: found after {took:?}");
    }

    pub fn worker_here(&self, name: &str) -> Process {
        self.worker(&self.here, name)
    }

    pub fn worker_there(&self, name: &str) -> Process {
        self.worker(&self.there, name)
    }

    fn worker(&self, side: &str, name: &str) -> Process {
        let program = program("muster-worker");
        let connect = format!("tcp://{HERE}:5555");
        self.spawn(
            side,
            &program,
            &["--connect", &connect, "-n", "1", "--name", name],
        )
    }

    pub fn lane_here(&self) -> Process {
        self.lane(&self.here)
    }

    pub fn lane_there(&self) -> Process {
        self.lane(&self.there)
    }

    fn lane(&self, side: &str) -> Process {
        let program = Path::new(env!("CARGO_BIN_EXE_muster-chaos"));
        let endpoint = format!("tcp://{HERE}:5556");
        let folder = self.folder.path().to_str().unwrap();
        self.spawn(
            side,
            program,
            &["role", "lane", "--endpoint", &endpoint, "--folder", folder],
        )
    }

    /// `muster call` in the namespace of the broker.
    pub fn call_here(&self, args: &[&str]) -> Child {
        self.muster(&self.here, args)
    }

    /// A bare client there, whose call takes two minutes.
    pub fn keyless_call_there(&self) -> Process {
        let program = Path::new(env!("CARGO_BIN_EXE_muster-chaos"));
        let endpoint = format!("tcp://{HERE}:5555");
        let args = [
            "role",
            "one-call",
            "--endpoint",
            &endpoint,
            "--method",
            "sleep",
            "--params",
            "[120]",
        ];
        self.spawn(&self.there, program, &args)
    }

    fn muster(&self, side: &str, args: &[&str]) -> Child {
        Command::new("ip")
            .args(["netns", "exec", side])
            .arg(program("muster"))
            .args(["--endpoint", &format!("tcp://{HERE}:5555"), "call"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(self.log("client"))
            .spawn()
            .unwrap()
    }

    /// What a call printed, which has to succeed.
    pub fn result(&self, call: Child) -> String {
        let Output { status, stdout, .. } = call.wait_with_output().unwrap();
        let log = std::fs::read_to_string(self.folder.path().join("client.log"));
        assert!(status.success(), "{status}: {}", log.unwrap_or_default());
        String::from_utf8(stdout).unwrap()
    }

    fn spawn(&self, side: &str, program: &Path, args: &[&str]) -> Process {
        let child = Command::new("ip")
            .args(["netns", "exec", side])
            .arg(program)
            .args(args)
            // A role ends when this is closed, which it never is before the kill.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(self.log("workers"))
            .spawn()
            .unwrap();
        Process(child)
    }

    fn log(&self, name: &str) -> std::fs::File {
        std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join(format!("{name}.log")))
            .unwrap()
    }

    /// Over the Unix socket, which no namespace of networks keeps apart.
    fn try_status(&self) -> Option<Value> {
        let target = muster_client::Target {
            connection: Some(self.folder.path().join("default/cluster.json")),
            ..muster_client::Target::default()
        };
        let client = muster_client::Client::connect(&target).ok()?;
        client.call("broker.status", &json!([])).ok()?.json().ok()
    }

    fn status(&self) -> Value {
        wait_for("the broker's status", || self.try_status())
    }

    pub fn count(&self, what: &str) -> u64 {
        self.status()["calls"][what].as_u64().unwrap()
    }

    pub fn managed(&self) -> u64 {
        self.status()["workers"]["managed"].as_u64().unwrap()
    }

    pub fn lanes(&self) -> u64 {
        self.status()["workers"]["lanes"].as_u64().unwrap()
    }

    pub fn await_running(&self, count: u64) {
        wait_for("the call to run", || {
            (self.count("running") == count).then_some(())
        });
    }

    pub fn await_slots(&self, count: u64) {
        wait_for("the slots", || {
            let slots = &self.status()["slots"];
            let there = slots["ready"].as_u64()? + slots["busy"].as_u64()?;
            (there == count).then_some(())
        });
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.broker = None;
        for side in [&self.here, &self.there] {
            let _ = ip(&["netns", "del", side]);
        }
        if std::thread::panicking() {
            for name in ["broker", "workers", "client"] {
                let path = self.folder.path().join(format!("{name}.log"));
                let log = std::fs::read_to_string(path).unwrap_or_default();
                say(&format!("--- {name}:\n{log}"));
            }
        }
    }
}

/// Runs `ip`; the reason when it can't.
fn ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip")
        .args(args)
        .output()
        .map_err(|error| format!("ip (iproute2): {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(format!("ip {}: {reason}", args.join(" ")))
        }
    }
}

fn program(name: &str) -> PathBuf {
    muster_test_support::program(env!("CARGO_BIN_EXE_muster-chaos"), name)
}
