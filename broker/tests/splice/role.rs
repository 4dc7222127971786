//! Other processes: this test program started again, in a role.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use muster_proto::socket::{Context, SendOutcome};

use crate::rig::{answer, rep};

const ENDPOINT: &str = "MUSTER_TEST_ENDPOINT";

/// A process that ends with the test, however the test ends.
pub struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts one of the ignored tests of this program.
    pub fn start(role: &str, endpoint: &str) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", role])
            .env(ENDPOINT, endpoint)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Process { child, output }
    }

    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for a role that ends by itself; panics with its output if it failed.
    pub fn finish(mut self) {
        let mut output = String::new();
        self.output.read_to_string(&mut output).unwrap();
        assert!(self.child.wait().unwrap().success(), "{output}");
    }

    /// Waits for a line of output with `word` in it, and returns what follows it there.
    pub fn line(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(
                self.output.read_line(&mut line).unwrap(),
                0,
                "it ended before {word:?}"
            );
            if let Some((_, rest)) = line.trim_end().split_once(word) {
                return rest.to_owned();
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn endpoint() -> String {
    env::var(ENDPOINT).unwrap()
}

/// Echoes until it is killed.
#[test]
#[ignore = "a role that other tests start"]
fn echoing() {
    let context = Context::new(1).unwrap();
    let rep = rep(&context, &endpoint());
    let mut frames = Vec::new();
    loop {
        if rep
            .recv_timeout(&mut frames, Duration::from_secs(60))
            .unwrap()
        {
            assert_eq!(rep.send_frames(&mut frames).unwrap(), SendOutcome::Sent);
        }
    }
}

/// Answers once and leaves as fast as libzmq lets it.
#[test]
#[ignore = "a role that other tests start"]
fn answering_once() {
    let context = Context::new(1).unwrap();
    let rep = rep(&context, &endpoint());
    rep.set_linger(Duration::from_secs(10)).unwrap();
    answer(&rep);
}

/// Takes one request and never answers it.
#[test]
#[ignore = "a role that other tests start"]
fn holding() {
    let context = Context::new(1).unwrap();
    let rep = rep(&context, &endpoint());
    let mut frames = Vec::new();
    assert!(
        rep.recv_timeout(&mut frames, Duration::from_secs(60))
            .unwrap()
    );
    println!("holding it");
    std::io::stdout().flush().unwrap();
    rep.recv_timeout(&mut frames, Duration::from_secs(60))
        .unwrap_err();
}

/// Connects to a local socket and waits to be hung up on.
#[test]
#[ignore = "a role that other tests start"]
fn knocking() {
    let mut stream = UnixStream::connect(endpoint()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    assert_eq!(
        stream
            .read(&mut [0; 100])
            .map_err(|error| error.kind())
            .unwrap_or(0),
        0
    );
    println!("hung up");
}
