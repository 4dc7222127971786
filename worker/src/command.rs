//! Shell commands as functions: a process for each call, without a shell unless one is asked for.
//!
//! The template is split like a shell line. `{}` takes the parameters, one argument each; without
//! one they are appended. Standard output without its last newline is the result.

mod process;
mod run;
mod shell;

pub(crate) use run::RunFunction;

use crate::call_error::{CallError, json_reason};
use crate::child_rules::ChildRules;
use crate::context::CallContext;
use muster_proto::socket::Wake;
use muster_proto::worker::{Method, Param};
use process::{Finished, Process};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::process::Command;

/// Where the parameters go.
const PLACE: &str = "{}";

/// How all commands of a worker are run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandModes {
    /// The first parameter goes to standard input.
    pub stdin: bool,
    /// Standard output is JSON.
    pub json: bool,
    /// Templates are lines for a shell.
    pub shell: bool,
}

/// A command on offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommandFunction {
    template: Vec<String>,
    modes: CommandModes,
    rules: ChildRules,
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
    /// A shell would read the parameters as part of its line.
    #[error(
        "command `{0}`: {PLACE} stands in quotes; leave them out, every parameter is a word of its own"
    )]
    QuotedPlace(String),
}

impl CommandFunction {
    /// Reads `NAME=COMMAND`.
    ///
    /// # Errors
    /// [`CommandError`] when it is none.
    pub fn parse(
        text: &str,
        modes: CommandModes,
        rules: &ChildRules,
    ) -> Result<(Method, Self), CommandError> {
        let (name, line) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| CommandError::NoName(text.to_owned()))?;
        let template = if modes.shell {
            shell::template(line)?
        } else {
            shlex::split(line).ok_or_else(|| CommandError::OpenQuote(line.to_owned()))?
        };
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
            shared: false,
        };
        let function = CommandFunction {
            template,
            modes,
            rules: rules.clone(),
        };
        Ok((method, function))
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
        command.args(&words[1..]);
        self.rules.apply(&mut command);
        let process = Process::start(&mut command, &self.rules, input, false)
            .map_err(|error| CallError::failed("OSError", format!("{}: {error}", words[0])))?;
        let is_cancelled = || context.cancel.is_set() || is_stopped();
        let finished = process.finish(wake, &is_cancelled)?;
        if finished.ended.exit_code != Some(0) {
            return Err(failed_exit(&finished));
        }
        self.write_result(finished.stdout, context, out)
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
            if word.contains(PLACE) && !self.modes.shell {
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

fn failed_exit(finished: &Finished) -> CallError {
    let parts = [
        finished.ended.to_string(),
        finished.reason.clone().unwrap_or_default(),
        finished.stderr_tail.trim_end().to_owned(),
    ];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    CallError::failed("CommandFailed", parts.join(": "))
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
        let (_, function) =
            CommandFunction::parse(&format!("c={line}"), modes, &ChildRules::default()).unwrap();
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
    fn a_shell_line_gets_parameters_as_words_it_does_not_read() {
        let cancel = CancelFlag::default();
        let context = CallContext::new("c", &cancel);
        let modes = CommandModes {
            shell: true,
            ..CommandModes::default()
        };
        let params = r#"["a b","$(touch /tmp/x);`id`","'\"; exit 3 #"]"#;
        let shell = |line| run_in(line, modes, params, &context);
        assert_eq!(
            shell("printf '%s|' {} | tr a-z A-Z").unwrap(),
            r#""A B|$(TOUCH /TMP/X);`ID`|'\"; EXIT 3 #|""#
        );
        assert_eq!(shell("printf '%s\\n' {} | wc -l").unwrap(), r#""3""#);
        assert_eq!(shell("printf '[%s]'").unwrap().matches('[').count(), 3);
    }

    #[test]
    fn a_command_beyond_its_memory_is_ended() {
        let cancel = CancelFlag::default();
        let rules = ChildRules {
            memory_bytes_max: Some(32 << 20),
            ..ChildRules::default()
        };
        let line = "c=sh -c 'head -c 200000000 /dev/zero | tail -c 190000000; sleep 1000'";
        let (_, function) = CommandFunction::parse(line, CommandModes::default(), &rules).unwrap();
        let wake = Wake::new().unwrap();
        let context = CallContext::new("c", &cancel);
        let mut out = Vec::new();
        let error = function
            .run("", &context, &wake, &|| false, &mut out)
            .unwrap_err();
        assert!(error.to_string().contains("--memory-max"), "{error}");
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
            ..CommandModes::default()
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
            json: true,
            ..CommandModes::default()
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
        let parse = |text| {
            let rules = ChildRules::default();
            CommandFunction::parse(text, CommandModes::default(), &rules).unwrap_err()
        };
        assert_eq!(parse("wc"), CommandError::NoName("wc".into()));
        assert_eq!(parse("=wc"), CommandError::NoName("=wc".into()));
        assert_eq!(parse("c='a"), CommandError::OpenQuote("'a".into()));
        assert_eq!(parse("c= "), CommandError::Empty("c".into()));
    }
}
