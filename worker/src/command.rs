//! Shell commands as functions: a process for each call, without a shell.
//!
//! The template is split like a shell line. `{}` takes the parameters, one argument each; without
//! one they are appended. Standard output without its last newline is the result.

use crate::call_error::{CallError, json_reason};
use crate::child::{Child, Ended, Output, set_nonblocking};
use crate::context::CallContext;
use muster_proto::limits;
use muster_proto::socket::{Interest, PollItem, Wake, poll};
use muster_proto::worker::{Method, Param};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

/// Where the parameters go.
const PLACE: &str = "{}";

/// How standard input and output are used, for all commands of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandModes {
    /// The first parameter goes to standard input.
    pub stdin: bool,
    /// Standard output is JSON.
    pub json: bool,
}

/// A command on offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommandFunction {
    template: Vec<String>,
    modes: CommandModes,
}

/// Why a command cannot be offered.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The text is not `NAME=COMMAND`.
    #[error("`{0}` is not NAME=COMMAND")]
    NoName(String),
    /// A quote is not closed, or a backslash ends the line.
    #[error("command `{0}` cannot be split into words: a quote is open")]
    OpenQuote(String),
    /// There is no program.
    #[error("method {0} names no program")]
    Empty(String),
}

impl CommandFunction {
    /// Reads `NAME=COMMAND`.
    ///
    /// # Errors
    /// [`CommandError`] when it is none.
    pub fn parse(text: &str, modes: CommandModes) -> Result<(Method, Self), CommandError> {
        let (name, line) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| CommandError::NoName(text.to_owned()))?;
        let template =
            shlex::split(line).ok_or_else(|| CommandError::OpenQuote(line.to_owned()))?;
        if template.is_empty() {
            return Err(CommandError::Empty(name.to_owned()));
        }
        let mut params = vec![Param {
            name: "*args".into(),
            optional: true,
        }];
        if modes.stdin {
            params.insert(
                0,
                Param {
                    name: "input".into(),
                    optional: true,
                },
            );
        }
        let method = Method {
            name: name.to_owned(),
            params: Some(params),
            doc: format!("Run the command: {line}"),
            once: false,
            chunks: false,
        };
        Ok((method, CommandFunction { template, modes }))
    }

    /// Runs the command for one call and appends its result as JSON. `wake` ends the wait early
    /// when the context's call was cancelled or `is_stopped` says so.
    ///
    /// # Errors
    /// [`CallError`]: wrong parameters, a failed start, another exit than 0, output that is too
    /// large or no JSON, cancellation.
    pub fn run(
        &self,
        params: &str,
        context: &CallContext<'_>,
        wake: &Wake,
        is_stopped: &dyn Fn() -> bool,
        out: &mut Vec<u8>,
    ) -> Result<(), CallError> {
        let (input, words) = self.words(params, context)?;
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        });
        let child = Child::spawn(&mut command)
            .map_err(|error| CallError::failed("OSError", format!("{}: {error}", words[0])))?;
        let mut run = Run::new(child, input.unwrap_or_default())
            .map_err(|error| CallError::failed("OSError", error.to_string()))?;
        let ended = run.wait(wake, &|| context.cancel.is_set() || is_stopped())?;
        if ended.exit_code != Some(0) {
            return Err(failed_exit(ended, &run.output.tail()));
        }
        self.write_result(run.stdout_bytes, context, out)
    }

    /// What goes to standard input, and the words of the command.
    fn words(
        &self,
        params: &str,
        context: &CallContext<'_>,
    ) -> Result<(Option<Vec<u8>>, Vec<String>), CallError> {
        let params = if params.is_empty() { "[]" } else { params };
        let values: Vec<Value> = serde_json::from_str(params).map_err(|_| {
            CallError::InvalidParams("a command takes its parameters by position".into())
        })?;
        let mut values = values.into_iter().enumerate();
        let input = match self.modes.stdin {
            false => None,
            true => Some(match values.next() {
                Some((_, value)) => input_bytes(value, context)?,
                None => Vec::new(),
            }),
        };
        let args = values
            .map(|(at, value)| argument(at, value))
            .collect::<Result<Vec<_>, _>>()?;
        let mut words = Vec::with_capacity(self.template.len() + args.len());
        let mut is_placed = false;
        for word in &self.template {
            if word.contains(PLACE) {
                is_placed = true;
                words.extend(args.iter().map(|arg| word.replace(PLACE, arg)));
            } else {
                words.push(word.clone());
            }
        }
        if !is_placed {
            words.extend(args);
        }
        if words.is_empty() {
            return Err(CallError::InvalidParams(
                "parameter 1: the program is missing".into(),
            ));
        }
        Ok((input, words))
    }

    fn write_result(
        &self,
        mut bytes: Vec<u8>,
        context: &CallContext<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), CallError> {
        if self.modes.json {
            let value: &RawValue = serde_json::from_slice(&bytes).map_err(|error| {
                CallError::failed(
                    "JSONDecodeError",
                    format!("output: {}", json_reason(&error)),
                )
            })?;
            out.extend_from_slice(value.get().as_bytes());
            return Ok(());
        }
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        match String::from_utf8(bytes) {
            Ok(text) => crate::answer::write_json(&text, out),
            // Not text: it travels as bytes.
            Err(error) => crate::answer::write_json(&context.attach(error.into_bytes())?, out),
        }
    }
}

fn input_bytes(value: Value, context: &CallContext<'_>) -> Result<Vec<u8>, CallError> {
    if let Value::String(text) = value {
        return Ok(text.into_bytes());
    }
    match serde_json::from_value(value.clone()) {
        Ok(attachment) => Ok(context.bytes(&attachment)?.into_owned()),
        Err(_) => Ok(value.to_string().into_bytes()),
    }
}

fn argument(at: usize, value: Value) -> Result<String, CallError> {
    let text = match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    if text.contains('\0') {
        let reason = format!("parameter {}: a NUL byte fits no argument", at + 1);
        return Err(CallError::InvalidParams(reason));
    }
    Ok(text)
}

fn failed_exit(ended: Ended, stderr: &str) -> CallError {
    let stderr = stderr.trim_end();
    let message = if stderr.is_empty() {
        ended.to_string()
    } else {
        format!("{ended}: {stderr}")
    };
    CallError::failed("CommandFailed", message)
}

/// One process under way.
struct Run {
    child: Child,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    input: Vec<u8>,
    written: usize,
    stdout_bytes: Vec<u8>,
    output: Output,
}

impl Run {
    fn new(mut child: Child, input: Vec<u8>) -> io::Result<Self> {
        let (stdin, stdout, stderr) = child.pipes();
        for pipe in [&stdin, &stdout, &stderr].into_iter().flatten() {
            set_nonblocking(pipe)?;
        }
        Ok(Run {
            child,
            stdin,
            stdout,
            stderr,
            input,
            written: 0,
            stdout_bytes: Vec::new(),
            output: Output::default(),
        })
    }

    /// Feeds and drains it until it has ended. A process it left behind may still hold its output:
    /// that is not waited for, and ends with the group.
    fn wait(&mut self, wake: &Wake, is_cancelled: &dyn Fn() -> bool) -> Result<Ended, CallError> {
        loop {
            if is_cancelled() {
                return Err(CallError::Cancelled);
            }
            let has_ended = self.child.try_wait();
            self.write_input();
            self.read_output()?;
            if let Some(ended) = has_ended {
                return Ok(ended);
            }
            let mut items = Vec::with_capacity(5);
            items.push(PollItem::fd(&self.child, Interest::Read));
            items.push(PollItem::fd(wake, Interest::Read));
            items.extend(
                self.stdin
                    .iter()
                    .map(|pipe| PollItem::fd(pipe, Interest::Write)),
            );
            let outputs = self.stdout.iter().chain(&self.stderr);
            items.extend(outputs.map(|pipe| PollItem::fd(pipe, Interest::Read)));
            poll(&mut items, None)
                .map_err(|error| CallError::failed("OSError", error.to_string()))?;
            wake.drain();
        }
    }

    fn write_input(&mut self) {
        let Some(stdin) = &self.stdin else { return };
        while self.written < self.input.len() {
            match rustix::io::write(stdin, &self.input[self.written..]) {
                Ok(count) => self.written += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                // It does not read on, which is its right: `head` does so.
                Err(_) => break,
            }
        }
        self.stdin = None;
    }

    fn read_output(&mut self) -> Result<(), CallError> {
        if let Some(stderr) = &self.stderr
            && !self
                .output
                .read(stderr, |line| log::debug!("command output: {line}"))
        {
            self.stderr = None;
        }
        let Some(stdout) = &self.stdout else {
            return Ok(());
        };
        let mut buffer = [0; 32 << 10];
        loop {
            match rustix::io::read(stdout, &mut buffer) {
                Ok(0) => {
                    self.stdout = None;
                    return Ok(());
                }
                Ok(count) => self.stdout_bytes.extend_from_slice(&buffer[..count]),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Ok(()),
            }
            let (size, max) = (self.stdout_bytes.len(), limits::BODY_BYTES_MAX);
            if size > max {
                return Err(CallError::TooLarge {
                    what: "output_bytes",
                    size,
                    max,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::CancelFlag;
    use muster_proto::socket::Frame;

    fn run_in(
        line: &str,
        modes: CommandModes,
        params: &str,
        context: &CallContext<'_>,
    ) -> Result<String, CallError> {
        let (_, function) = CommandFunction::parse(&format!("c={line}"), modes).unwrap();
        let wake = Wake::new().unwrap();
        let mut out = Vec::new();
        function.run(params, context, &wake, &|| false, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn run(line: &str, params: &str) -> Result<String, CallError> {
        let cancel = CancelFlag::default();
        run_in(
            line,
            CommandModes::default(),
            params,
            &CallContext::new("c", &cancel),
        )
    }

    #[test]
    fn parameters_are_arguments_and_never_shell() {
        assert_eq!(
            run("echo", r#"["a b","$HOME;","*"]"#).unwrap(),
            r#""a b $HOME; *""#
        );
        assert_eq!(
            run("echo {} end", r#"[1,[2,"x"],null]"#).unwrap(),
            r#""1 [2,\"x\"] null end""#
        );
        assert_eq!(
            run("printf '%s,' x={}", r#"["a","b"]"#).unwrap(),
            r#""x=a,x=b,""#
        );
        assert_eq!(run("printf 'a\\n\\n'", "").unwrap(), r#""a\n""#);
        assert!(matches!(
            run("echo", r#"["a\u0000"]"#),
            Err(CallError::InvalidParams(_))
        ));
        assert!(matches!(
            run("echo", r#"{"a":1}"#),
            Err(CallError::InvalidParams(_))
        ));
    }

    #[test]
    fn another_exit_than_zero_is_a_failure_with_its_stderr() {
        let error = run("sh -c 'echo oops >&2; exit 3'", "").unwrap_err();
        assert_eq!(error.to_string(), "CommandFailed: exit code 3: oops");
        let error = run("sh -c 'kill -KILL $$'", "").unwrap_err();
        assert_eq!(error.to_string(), "CommandFailed: signal 9");
        let error = run("/nonexistent/program", "").unwrap_err();
        assert!(
            error.to_string().contains("/nonexistent/program"),
            "{error}"
        );
    }

    #[test]
    fn the_first_parameter_can_feed_standard_input() {
        let cancel = CancelFlag::default();
        let frames = [Frame::from("framed bytes")];
        let context = CallContext {
            attachments: &frames,
            ..CallContext::new("c", &cancel)
        };
        let modes = CommandModes {
            stdin: true,
            json: false,
        };
        assert_eq!(
            run_in("wc -w", modes, r#"["one two three"]"#, &context).unwrap(),
            r#""3""#
        );
        assert_eq!(
            run_in("cat", modes, r#"[{"$frame":0}]"#, &context).unwrap(),
            r#""framed bytes""#
        );
        let large = format!(r#"["{}"]"#, "x".repeat(1 << 20));
        assert_eq!(
            run_in("wc -c", modes, &large, &context).unwrap(),
            r#""1048576""#
        );
        assert_eq!(
            run_in("head -c 1", modes, &large, &context).unwrap(),
            r#""x""#
        );
        assert!(run_in("cat", modes, r#"[{"$frame":1}]"#, &context).is_err());
    }

    #[test]
    fn output_can_be_json_or_bytes() {
        let cancel = CancelFlag::default();
        let context = CallContext::new("c", &cancel);
        let modes = CommandModes {
            stdin: false,
            json: true,
        };
        assert_eq!(
            run_in("echo", modes, r#"["{\"a\": [1.50]}"]"#, &context).unwrap(),
            r#"{"a": [1.50]}"#
        );
        let error = run_in("echo", modes, r#"["{"]"#, &context).unwrap_err();
        assert!(error.to_string().starts_with("JSONDecodeError"), "{error}");
        assert_eq!(run("printf '\\377'", "").unwrap(), r#"{"$base64":"/w=="}"#);
    }

    #[test]
    fn a_cancelled_command_ends_with_its_group() {
        let cancel = CancelFlag::default();
        cancel.set();
        let context = CallContext::new("c", &cancel);
        let error = run_in(
            "sh -c 'sleep 1000 | cat'",
            CommandModes::default(),
            "",
            &context,
        );
        assert_eq!(error.unwrap_err(), CallError::Cancelled);
    }

    #[test]
    fn what_a_command_leaves_behind_is_not_waited_for() {
        assert_eq!(
            run("sh -c 'sleep 1000 & echo done'", "").unwrap(),
            r#""done""#
        );
    }

    #[test]
    fn lines_that_are_no_commands_are_refused() {
        let parse = |text| CommandFunction::parse(text, CommandModes::default()).unwrap_err();
        assert_eq!(parse("wc"), CommandError::NoName("wc".into()));
        assert_eq!(parse("=wc"), CommandError::NoName("=wc".into()));
        assert_eq!(parse("c='a"), CommandError::OpenQuote("'a".into()));
        assert_eq!(parse("c= "), CommandError::Empty("c".into()));
    }
}
