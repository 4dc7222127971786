//! Functions written in Python: a child process that runs the files of `host`, and what is asked
//! of it.

mod keeper;
mod load;
mod pipe;
mod program;

pub(crate) use keeper::{Keeper, Succession};
pub(crate) use load::Hello;
pub use load::{LoadFailure, StartError};
pub(crate) use pipe::{Head, Message, flag, kind};

use crate::child::{Child, Ended, Output, set_nonblocking};
use crate::child_rules::ChildRules;
use muster_proto::socket::{Frame, Interest, PollItem, Wake, poll};
use pipe::Pipe;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a child that closed its pipe is given to end by itself, so that its own exit code is
/// seen instead of the signal that hurries it.
const EXIT_GRACE: Duration = Duration::from_millis(500);

/// What to load, and with which interpreter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Files and module names, as given.
    pub modules: Vec<String>,
    /// Put in front of every function's name.
    pub prefix: String,
    /// The interpreter, found on PATH unless it is a path.
    pub interpreter: String,
    /// A function to call once in each process, as `MODULE:FUNCTION` or `FILE:FUNCTION`.
    pub init: Option<String>,
    /// Run functions that clients send.
    pub allow_apply: bool,
    /// The environment that leads a function's own calls to the same broker.
    pub environ: Vec<(String, String)>,
    /// Where the broker's shelf is, when it may be on this machine.
    pub shelf: Option<PathBuf>,
    /// What holds for the children.
    pub rules: ChildRules,
    /// So many calls, or items of chunks, and a child is replaced.
    pub recycle_calls: Option<u32>,
}

/// A Python child of one slot.
pub(crate) struct Python {
    child: Child,
    pipe: Pipe,
    stderr: Option<OwnedFd>,
    output: Output,
    /// The slot's name, for the log.
    label: String,
    has_ended: bool,
}

impl Python {
    /// Starts a child; it loads its modules while others go on.
    ///
    /// # Errors
    /// [`StartError::Spawn`].
    pub fn start(
        source: &Source,
        label: &str,
        worker: &str,
        host: &str,
    ) -> Result<Self, StartError> {
        let failed = |error| StartError::Spawn {
            interpreter: source.interpreter.clone(),
            source: error,
        };
        let mut command = Command::new(&source.interpreter);
        command.args(["-c", &program::bootstrap(), label]);
        source.rules.apply(&mut command);
        if !source.environ.is_empty() {
            // These would come first.
            command.env_remove("MUSTER_CONNECTION");
            command.env_remove("MUSTER_ENDPOINT");
        }
        command.envs(source.environ.iter().map(|(name, value)| (name, value)));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = Child::spawn(&mut command).map_err(failed)?;
        let (Some(writer), Some(reader), Some(stderr)) = child.pipes() else {
            unreachable!("all three were asked for");
        };
        set_nonblocking(&stderr).map_err(failed)?;
        let mut pipe = Pipe::new(writer, reader).map_err(failed)?;
        pipe.push_raw(program::HOST.as_bytes());
        let config = serde_json::json!({
            "modules": source.modules,
            "prefix": source.prefix,
            "init": source.init,
            "allow_apply": source.allow_apply,
            "shelf": source.shelf,
            "worker": worker,
            "host": host,
        });
        let head = Head {
            kind: kind::CONFIGURE,
            ..Head::default()
        };
        pipe.push(head, "", config.to_string().as_bytes(), &[]);
        Ok(Python {
            child,
            pipe,
            stderr: Some(stderr),
            output: Output::default(),
            label: label.to_owned(),
            has_ended: false,
        })
    }

    /// The child's process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Waits until the modules are loaded; `None` when `is_interrupted` says so, which is asked
    /// whenever `wake` is woken.
    ///
    /// # Errors
    /// [`StartError`] when they cannot be.
    pub fn wait_loaded(
        &mut self,
        wake: &Wake,
        mut is_interrupted: impl FnMut() -> bool,
    ) -> Result<Option<Hello>, StartError> {
        loop {
            if is_interrupted() {
                return Ok(None);
            }
            if let Some(hello) = self.loaded()? {
                return Ok(Some(hello));
            }
            let [a, b, c, d] = self.poll_items(true);
            let mut items = [a, b, c, d, PollItem::fd(wake, Interest::Read)];
            poll(&mut items, None)?;
            let ready = readiness(&items);
            self.heed(ready);
            wake.drain();
        }
    }

    /// What it offers, once its modules are loaded; `None` when they are not yet.
    ///
    /// # Errors
    /// [`StartError`] when they cannot be.
    pub fn loaded(&mut self) -> Result<Option<Hello>, StartError> {
        loop {
            let message = match self.next() {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(None),
                Err(_) => return Err(self.ended("")),
            };
            let (kind, body) = (message.head.kind, message.body);
            let unreadable = match kind {
                kind::HELLO => match serde_json::from_slice(body) {
                    Ok(hello) => return Ok(Some(hello)),
                    Err(error) => format!("an unreadable hello: {error}"),
                },
                kind::LOAD_FAILED => match serde_json::from_slice(body) {
                    Ok(failure) => return Err(StartError::Load(failure)),
                    Err(error) => format!("an unreadable failure: {error}"),
                },
                _ => continue,
            };
            return Err(self.ended(&unreadable));
        }
    }

    fn ended(&mut self, why: &str) -> StartError {
        let ended = self.end();
        self.child.end_descendants();
        let is_killed = why.is_empty() && ended.signal.is_some();
        let ended = if why.is_empty() {
            ended.to_string()
        } else {
            why.to_owned()
        };
        StartError::Ended {
            ended,
            is_killed,
            stderr_tail: self.stderr_tail(),
        }
    }

    /// Everything that can happen to the child.
    /// `reads`: what it says is wanted now.
    pub fn poll_items(&self, reads: bool) -> [PollItem<'_>; 4] {
        let reading = if reads {
            Interest::Read
        } else {
            Interest::Nothing
        };
        let writing = if self.pipe.is_writing() {
            Interest::Write
        } else {
            Interest::Nothing
        };
        let output = match &self.stderr {
            Some(stderr) => PollItem::fd(stderr, Interest::Read),
            None => PollItem::fd(&self.child, Interest::Nothing),
        };
        [
            PollItem::fd(self.pipe.reader(), reading),
            PollItem::fd(self.pipe.writer(), writing),
            output,
            PollItem::fd(&self.child, Interest::Read),
        ]
    }

    /// Looks at what [`poll`] said of [`Self::poll_items`].
    pub fn heed(&mut self, ready: [bool; 4]) {
        let [_, _, has_output, has_ended] = ready;
        if has_output {
            self.read_output();
        }
        self.has_ended |= has_ended;
    }

    /// Tells the running function that nobody waits for it; [`Self::next`] sends it.
    pub fn push_cancel(&mut self, serial: u32) {
        let head = Head {
            kind: kind::CANCEL,
            serial,
            ..Head::default()
        };
        self.pipe.push(head, "", b"", &[]);
    }

    /// Adds a call; [`Self::next`] sends it.
    pub fn push_call(&mut self, head: Head, method: &str, params: &[u8], attachments: &[Frame]) {
        self.pipe.push(head, method, params, attachments);
    }

    /// Writes what there is room for and takes the next message, if there is one.
    ///
    /// # Errors
    /// When the child has ended or what it wrote is no message: [`Self::end`] it.
    pub fn next(&mut self) -> io::Result<Option<Message<'_>>> {
        if self.pipe.is_writing() {
            self.pipe.write()?;
        }
        if !self.pipe.read()? && self.has_ended {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.pipe.message()
    }

    /// Passes the child's output on to the log.
    fn read_output(&mut self) {
        let label = &self.label;
        if let Some(stderr) = &self.stderr
            && !self
                .output
                .read(stderr, |line| log::info!("slot={label} output: {line}"))
        {
            self.stderr = None;
        }
    }

    /// Ends the child, if it has not ended, and says how it did.
    pub fn end(&mut self) -> Ended {
        let _ = poll(
            &mut [PollItem::fd(&self.child, Interest::Read)],
            Some(EXIT_GRACE),
        );
        self.kill()
    }

    /// Lets an idle child end by itself, which it does when nothing more can come.
    pub fn dismiss(self) {
        let Python {
            mut child,
            pipe,
            stderr,
            mut output,
            label,
            ..
        } = self;
        drop(pipe);
        let _ = poll(
            &mut [PollItem::fd(&child, Interest::Read)],
            Some(EXIT_GRACE),
        );
        child.end_descendants();
        if let Some(stderr) = stderr {
            output.read(&stderr, |line| log::info!("slot={label} output: {line}"));
        }
    }

    /// Ends the child at once. What it started outside its group lives until it is [buried].
    ///
    /// [buried]: Self::bury
    pub fn kill(&mut self) -> Ended {
        let ended = self.child.kill();
        self.read_output();
        ended
    }

    /// Ends what the child started, wherever it went. That takes a look at every process of the
    /// machine, milliseconds, so whoever waits for word of its end is told first.
    pub fn bury(mut self) {
        self.child.end_descendants();
    }

    /// The last of what the child wrote to its standard error.
    pub fn stderr_tail(&self) -> String {
        self.output.tail()
    }
}

/// What the first items of a [`poll`] say, for [`Python::heed`].
pub(crate) fn readiness(items: &[PollItem<'_>]) -> [bool; 4] {
    std::array::from_fn(|at| items[at].is_readable() || items[at].is_broken())
}
