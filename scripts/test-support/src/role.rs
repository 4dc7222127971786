//! A test program started again, as another process that a test needs.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// One of the `#[ignore]`d tests of this program in a process of its own, which ends with the
/// test that started it, however that ends.
pub struct Role {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Role {
    /// Starts the test of this name with these variables set.
    ///
    /// # Panics
    /// If this program can't be started again.
    pub fn start(test: &str, variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env::current_exe().expect("this program"))
            .args(["--ignored", "--exact", "--nocapture", test])
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program runs");
        let output = child.stdout.take().expect("it is piped");
        Role {
            child,
            output: BufReader::new(output),
        }
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    ///
    /// # Panics
    /// If the system does not say.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_some()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it was waited for already.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is our child");
    }

    /// SIGKILL; returns when it has ended.
    ///
    /// # Panics
    /// If it was waited for already.
    pub fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// Waits for a line of output with `word` in it, and returns what follows it there.
    ///
    /// # Panics
    /// If it ends without that line.
    pub fn line(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            let count = self.output.read_line(&mut line).expect("lines of text");
            assert_ne!(count, 0, "it ended before {word:?}");
            // The harness writes the test's name on the same line first.
            if let Some((_, rest)) = line.trim_end().split_once(word) {
                return rest.to_owned();
            }
        }
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// With its output, if it failed.
    pub fn finish(mut self) {
        let mut output = String::new();
        self.output
            .read_to_string(&mut output)
            .expect("lines of text");
        let status = self.child.wait().expect("it is our child");
        assert!(status.success(), "{output}");
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
