//! `muster.run`: programs that callers name, on a worker started with `--allow-run`.
//!
//! Source: docs/protocol.md, "Running commands".

use super::process::{Finished, Process};
use crate::answer::write_json;
use crate::attachment::Attachment;
use crate::call_error::{CallError, Origin};
use crate::child_rules::ChildRules;
use crate::context::CallContext;
use muster_proto::socket::Wake;
use muster_proto::worker::{Method, Param};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::process::Command;

const METHOD: &str = RunFunction::METHOD;

/// What a shell says of a program that is not there, and of one that can't be started.
const NOT_FOUND: i32 = 127;
const NOT_STARTED: i32 = 126;

/// Runs programs that callers name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunFunction {
    pub rules: ChildRules,
}

/// The parameters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Job {
    argv: Vec<String>,
    #[serde(default)]
    stdin: Option<Value>,
    #[serde(default)]
    env: Option<BTreeMap<String, String>>,
    #[serde(default)]
    cwd: Option<PathBuf>,
}

/// The result.
#[derive(Serialize)]
struct Ran<'a> {
    exit_code: Option<i32>,
    signal: Option<i32>,
    stdout: Written,
    stderr: Written,
    worker: &'a str,
    host: &'a str,
    pid: u32,
}

/// What a program wrote.
#[derive(Serialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Bytes(Attachment),
}

impl RunFunction {
    /// The name of the method.
    pub const METHOD: &str = "muster.run";

    /// What is registered: never to be run twice.
    pub fn method() -> Method {
        let param = |name: &str, optional| Param {
            name: name.into(),
            optional,
        };
        Method {
            name: METHOD.into(),
            params: Some(vec![
                param("argv", false),
                param("stdin", true),
                param("env", true),
                param("cwd", true),
            ]),
            doc: "Run a program: how it ended and what it wrote.".into(),
            once: true,
            chunks: false,
            shared: false,
        }
    }

    /// Runs one program and appends the result as JSON.
    ///
    /// # Errors
    /// [`CallError`]: wrong parameters, output that is too large, cancellation.
    pub fn run(
        &self,
        params: &str,
        context: &CallContext<'_>,
        origin: &Origin,
        wake: &Wake,
        is_stopped: &dyn Fn() -> bool,
        out: &mut Vec<u8>,
    ) -> Result<(), CallError> {
        let job: Job = read(params)?;
        let input = match job.stdin {
            None | Some(Value::Null) => None,
            Some(value) => Some(super::input_bytes(value, context)?),
        };
        let mut command = Command::new(&job.argv[0]);
        command.args(&job.argv[1..]);
        self.rules.apply(&mut command);
        command.envs(job.env.unwrap_or_default());
        if let Some(folder) = &job.cwd {
            if !folder.is_dir() {
                let reason = format!("parameter cwd: {} is no folder here", folder.display());
                return Err(CallError::InvalidParams(reason));
            }
            command.current_dir(folder);
        }
        let process = match Process::start(&mut command, &self.rules, input, true) {
            Ok(process) => process,
            Err(error) => {
                let ran = not_started(&job.argv[0], &error, origin);
                return write_json(&ran, out);
            }
        };
        let pid = process.pid();
        let is_cancelled = || context.cancel.is_set() || is_stopped();
        let Finished {
            ended,
            stdout,
            mut stderr,
            reason,
            ..
        } = process.finish(wake, &is_cancelled)?;
        if let Some(reason) = reason {
            stderr.extend_from_slice(format!("muster-worker: {reason}\n").as_bytes());
        }
        let ran = Ran {
            exit_code: ended.exit_code,
            signal: ended.signal,
            stdout: written(stdout, context)?,
            stderr: written(stderr, context)?,
            worker: &origin.worker,
            host: &origin.host,
            pid,
        };
        write_json(&ran, out)
    }
}

/// By name, or by position.
fn read(params: &str) -> Result<Job, CallError> {
    let wrong = |error: &dyn std::fmt::Display| {
        CallError::InvalidParams(format!("{METHOD} takes argv, stdin, env, cwd: {error}"))
    };
    let value: Value = match params {
        "" => Value::Object(serde_json::Map::new()),
        params => serde_json::from_str(params).map_err(|error| wrong(&error))?,
    };
    let value = match value {
        Value::Array(values) if values.len() <= 4 => ["argv", "stdin", "env", "cwd"]
            .into_iter()
            .map(str::to_owned)
            .zip(values)
            .collect(),
        other => other,
    };
    let job: Job = serde_json::from_value(value).map_err(|error| wrong(&error))?;
    if job.argv.first().is_none_or(String::is_empty) {
        return Err(wrong(&"argv names no program"));
    }
    let env = job.env.iter().flatten();
    let is_bad = |(name, value): (&String, &String)| {
        name.is_empty() || name.contains(['=', '\0']) || value.contains('\0')
    };
    if env.into_iter().any(is_bad) || job.argv.iter().any(|word| word.contains('\0')) {
        return Err(wrong(&"a NUL byte, or a variable without a proper name"));
    }
    Ok(job)
}

fn not_started<'a>(program: &str, error: &io::Error, origin: &'a Origin) -> Ran<'a> {
    let exit_code = match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_STARTED,
    };
    Ran {
        exit_code: Some(exit_code),
        signal: None,
        stdout: Written::Text(String::new()),
        stderr: Written::Text(format!("muster-worker: {program}: {error}\n")),
        worker: &origin.worker,
        host: &origin.host,
        pid: origin.pid,
    }
}

fn written(bytes: Vec<u8>, context: &CallContext<'_>) -> Result<Written, CallError> {
    Ok(match String::from_utf8(bytes) {
        Ok(text) => Written::Text(text),
        Err(error) => Written::Bytes(context.attach(error.into_bytes())?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::CancelFlag;
    use serde_json::json;

    fn run(params: &Value) -> Result<Value, CallError> {
        let cancel = CancelFlag::default();
        let context = CallContext::new(METHOD, &cancel);
        let function = RunFunction {
            rules: ChildRules::default(),
        };
        let origin = Origin {
            worker: "w".into(),
            host: "h".into(),
            pid: 7,
        };
        let wake = Wake::new().unwrap();
        let mut out = Vec::new();
        function.run(
            &params.to_string(),
            &context,
            &origin,
            &wake,
            &|| false,
            &mut out,
        )?;
        Ok(serde_json::from_slice(&out).unwrap())
    }

    #[test]
    fn a_program_that_ends_is_a_result_however_it_ended() {
        let ran = run(&json!({"argv": ["sh", "-c", "cat; echo err >&2; exit 3"], "stdin": "in"}));
        let ran = ran.unwrap();
        assert_eq!(
            (&ran["exit_code"], &ran["signal"]),
            (&json!(3), &Value::Null)
        );
        assert_eq!(
            (&ran["stdout"], &ran["stderr"]),
            (&json!("in"), &json!("err\n"))
        );
        assert_eq!((&ran["worker"], &ran["host"]), (&json!("w"), &json!("h")));
        let ran = run(&json!([["sh", "-c", "kill -KILL $$"]])).unwrap();
        assert_eq!(
            (&ran["exit_code"], &ran["signal"]),
            (&Value::Null, &json!(9))
        );
        let ran = run(&json!([["/nonexistent/program"]])).unwrap();
        assert_eq!(ran["exit_code"], 127);
        let ran = run(&json!([["/"]])).unwrap();
        assert_eq!(ran["exit_code"], 126);
        let ran = run(&json!([["printf", "\\377"]])).unwrap();
        assert_eq!(ran["stdout"], json!({"$base64": "/w=="}));
    }

    #[test]
    fn words_are_no_shell_and_environment_and_folder_are_the_callers() {
        let ran = run(&json!({"argv": ["echo", "$(id)", "a b", ";"]})).unwrap();
        assert_eq!(ran["stdout"], "$(id) a b ;\n");
        let argv = json!(["sh", "-c", "echo $X; pwd"]);
        let ran = run(&json!({"argv": argv, "env": {"X": "a  b;"}, "cwd": "/"})).unwrap();
        assert_eq!(ran["stdout"], "a b;\n/\n");
    }

    #[test]
    fn parameters_that_make_no_sense_are_named() {
        for params in [
            json!([]),
            json!([[]]),
            json!([[""]]),
            json!({"argv": "ls"}),
            json!({"argv": ["ls"], "shell": true}),
            json!({"argv": ["a\u{0}"]}),
            json!({"argv": ["ls"], "env": {"A=B": "c"}}),
            json!({"argv": ["ls"], "cwd": "/nonexistent"}),
        ] {
            let error = run(&params).unwrap_err();
            assert!(
                matches!(error, CallError::InvalidParams(_)),
                "{params}: {error}"
            );
        }
    }
}
