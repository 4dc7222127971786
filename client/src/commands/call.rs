//! `muster call`: one call and its result.

use super::{CommandResult, Failure, connect};
use crate::cli::{CallArgs, Common};
use crate::output::{Output, note};
use muster_client::{Answer, Call, Client, Error, Outcome, Pending, req};
use muster_proto::code::Code;
use muster_proto::exit::Exit;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeSet;
use std::time::Duration;

/// After this long a call whose method nobody offers says that it waits.
const WAITING_NOTE: Duration = Duration::from_secs(1);
/// How long an interrupted call waits for the broker to have cancelled it.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

/// Calls the method.
pub fn run(common: &Common, args: &CallArgs, out: &mut Output) -> CommandResult {
    if let Some(raw) = &args.raw {
        return call_raw(common, args, raw, out);
    }
    let call = new_call(args)?;
    if !args.text {
        tell_broken_json(args, out);
    }
    if args.req {
        let outcome = req::call(&common.target(), call);
        return print(outcome, None, args, out);
    }
    let client = connect(common)?;
    if args.no_wait {
        client.notify(call)?;
        return Ok(Exit::Done);
    }
    if args.all {
        return call_all(&client, &call, args, out);
    }
    let pending = client.submit(call.clone())?;
    cancel_on_interrupt(vec![pending.clone()])?;
    let outcome = wait(&client, &call, &pending, out);
    print(outcome, Some(&client), args, out)
}

fn new_call(args: &CallArgs) -> Result<Call, Failure> {
    let method = args.method.as_deref().unwrap_or_default();
    let params = if args.params.is_empty() {
        let values: Vec<String> = args
            .args
            .iter()
            .map(|arg| argument(arg, args.text))
            .collect();
        format!("[{}]", values.join(","))
    } else {
        named(&args.params, args.text)?
    };
    let mut call = Call::with_json(method, Some(params))?.timeout(args.timeout);
    if let Some(worker) = &args.to {
        call = call.to(worker);
    }
    if let Some(priority) = args.priority {
        call = call.priority(priority);
    }
    if let Some(attempts) = args.attempts {
        call = call.attempts_max(attempts);
    }
    Ok(call)
}

/// JSON as it is, anything else as a string.
fn argument(text: &str, is_text: bool) -> String {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) if !is_text => raw.get().to_owned(),
        _ => Value::from(text).to_string(),
    }
}

/// An argument that begins as JSON and is none was hardly meant as a string.
fn tell_broken_json(args: &CallArgs, out: &Output) {
    let values = args.params.iter().filter_map(|param| param.split_once('='));
    let texts = args.args.iter().map(String::as_str);
    for text in texts.chain(values.map(|(_, value)| value)) {
        if let Some(why) = broken_json(text) {
            out.note(&format!(
                "{text} goes as a string, since it is no JSON: {why} (--text: always a string)"
            ));
        }
    }
}

fn broken_json(text: &str) -> Option<serde_json::Error> {
    let is_meant = text.trim_start().starts_with(['[', '{', '"']);
    let read = serde_json::from_str::<&RawValue>(text);
    read.err().filter(|_| is_meant)
}

fn named(params: &[String], is_text: bool) -> Result<String, Failure> {
    let mut members = Vec::new();
    let mut names = BTreeSet::new();
    for param in params {
        let Some((name, value)) = param.split_once('=') else {
            return Err(Failure::Usage(format!("--param {param}: use NAME=VALUE")));
        };
        if !names.insert(name) {
            return Err(Failure::Usage(format!("--param {name} is given twice")));
        }
        members.push(format!(
            "{}:{}",
            Value::from(name),
            argument(value, is_text)
        ));
    }
    Ok(format!("{{{}}}", members.join(",")))
}

/// Waits; when nobody is there to run the call, says so once.
fn wait(client: &Client, call: &Call, pending: &Pending, out: &Output) -> Outcome {
    if let Some(outcome) = pending.wait_timeout(WAITING_NOTE) {
        return outcome;
    }
    let question = Call::new("broker.methods", &())?.timeout(WAITING_NOTE);
    if let Some(Ok(answer)) = client.submit(question)?.wait_timeout(WAITING_NOTE) {
        let offered: Vec<muster_client::MethodEntry> = answer.json().unwrap_or_default();
        let is_own = ["broker.", "system.", "rpc."]
            .iter()
            .any(|p| call.method().starts_with(p));
        let is_offered = offered.iter().any(|method| method.name == call.method());
        if !is_offered && !is_own && !pending.is_done() {
            out.note(&format!(
                "no worker offers {} now; the call waits for one",
                call.method()
            ));
        }
    }
    pending.wait()
}

fn cancel_on_interrupt(calls: Vec<Pending>) -> Result<(), Failure> {
    let cancel = move || {
        calls.iter().for_each(Pending::cancel);
        for call in &calls {
            let _ = call.wait_timeout(CANCEL_TIMEOUT);
        }
        std::process::exit(Exit::Signal(2).number());
    };
    super::on_interrupt(cancel)
}

/// One call to every worker that offers the method, in the order of their names.
fn call_all(client: &Client, call: &Call, args: &CallArgs, out: &mut Output) -> CommandResult {
    let workers: Vec<Value> = client.call("broker.workers", &())?.json()?;
    let offers = |worker: &Value| {
        let methods = worker["methods"].as_array();
        methods.is_some_and(|methods| methods.iter().any(|method| method == call.method()))
    };
    let names: Vec<&str> = workers
        .iter()
        .filter(|w| offers(w))
        .filter_map(|w| w["name"].as_str())
        .collect();
    if names.is_empty() {
        note(&format!("no worker offers {}", call.method()));
        return Ok(Exit::Unavailable);
    }
    let pending: Vec<Pending> = names
        .iter()
        .map(|name| client.submit(call.clone().to(name)))
        .collect::<Result<_, Error>>()?;
    cancel_on_interrupt(pending.clone())?;
    let mut exit = Exit::Done;
    let mut results = Vec::new();
    for (name, pending) in names.iter().zip(&pending) {
        let member = match pending.wait() {
            Ok(answer) => format!(r#""result":{}"#, answer.text()),
            Err(Error::Rpc(error)) => {
                exit = Exit::of_code(error.code);
                note(&format!("worker {name}: {error}"));
                format!(r#""error":{}"#, error.to_json())
            }
            Err(error) => return Err(error.into()),
        };
        results.push((name, member));
    }
    if out.json {
        for (name, member) in &results {
            out.line(&format!(r#"{{"worker":{},{member}}}"#, Value::from(**name)))?;
        }
    } else if args.raw_output {
        for (_, member) in &results {
            match member.strip_prefix(r#""result":"#) {
                Some(result) => out.line(&unquoted(result))?,
                None => out.line(&format!("{{{member}}}"))?,
            }
        }
    } else {
        let list: Vec<String> = results
            .iter()
            .map(|(_, member)| match member.strip_prefix(r#""result":"#) {
                Some(result) => result.to_owned(),
                None => format!("{{{member}}}"),
            })
            .collect();
        out.line(&format!("[{}]", list.join(",")))?;
    }
    Ok(exit)
}

fn call_raw(common: &Common, args: &CallArgs, raw: &str, out: &mut Output) -> CommandResult {
    let frames = if args.req {
        req::raw(&common.target(), raw.as_bytes(), args.timeout)?
    } else {
        let client = connect(common)?;
        if !common.quiet {
            let client = client.clone();
            std::thread::spawn(move || tell_waiting_body(&client));
        }
        client.raw(raw.as_bytes(), args.timeout)?
    };
    for frame in &frames {
        out.bytes(frame)?;
        out.bytes(b"\n")?;
    }
    Ok(Exit::Done)
}

/// Says once that nobody takes the body that is on its way; the program's end ends this thread.
fn tell_waiting_body(client: &Client) {
    std::thread::sleep(WAITING_NOTE);
    let status = client.call("broker.status", &());
    let status = status.and_then(|answer| answer.json::<Value>());
    if status.is_ok_and(|status| status["takes_raw"] == false) {
        note("no worker takes raw bodies now; this one waits for one");
    }
}

fn print(
    outcome: Outcome,
    client: Option<&Client>,
    args: &CallArgs,
    out: &mut Output,
) -> CommandResult {
    match outcome {
        Ok(answer) if out.json => out.line(&format!(r#"{{"result":{}}}"#, answer.text()))?,
        Ok(answer) => print_result(&answer, args.raw_output, out)?,
        Err(Error::Rpc(error)) if out.json => {
            out.line(&format!(r#"{{"error":{}}}"#, error.to_json()))?;
            return Ok(Exit::of_code(error.code));
        }
        Err(Error::Rpc(error)) if error.known_code() == Some(Code::MethodNotFound) => {
            let method = args.method.as_deref().unwrap_or_default();
            let mut error = error;
            // JSON-RPC has the broker say no more than this.
            if error.message == Code::MethodNotFound.message() {
                error.message = format!("{}: {method}", error.message);
            }
            super::report::rpc_error(&error);
            out.note(&hint(client, args));
            return Ok(Exit::Failed);
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Exit::Done)
}

/// What to look at when nobody offers the method.
fn hint(client: Option<&Client>, args: &CallArgs) -> String {
    let ask = |client: &Client| -> Result<Vec<Value>, Error> {
        let question = Call::new("broker.workers", &())?.timeout(WAITING_NOTE);
        client.submit(question)?.wait()?.json()
    };
    let (Some(to), Some(Ok(workers))) = (&args.to, client.map(ask)) else {
        return "what is on offer: muster methods".into();
    };
    if workers.iter().any(|worker| worker["name"] == **to) {
        return format!("worker {to} does not offer it; what is on offer: muster methods");
    }
    format!("no worker is named {to}; who is there: muster workers")
}

fn print_result(answer: &Answer, is_raw: bool, out: &mut Output) -> std::io::Result<()> {
    match is_raw {
        true => out.line(&unquoted(answer.text())),
        false => out.line(answer.text()),
    }
}

/// A JSON string's text; any other JSON as it is.
fn unquoted(json: &str) -> String {
    serde_json::from_str::<String>(json).unwrap_or_else(|_| json.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_json_or_else_strings() {
        assert_eq!(argument("5", false), "5");
        assert_eq!(argument(" [1, 2] ", false), "[1, 2]");
        assert_eq!(argument("hello", false), "\"hello\"");
        assert_eq!(argument("5", true), "\"5\"");
        assert_eq!(argument("", false), "\"\"");
        assert_eq!(
            named(&["x=5".into(), "n=a=b".into()], false).unwrap(),
            r#"{"x":5,"n":"a=b"}"#
        );
        assert!(named(&["x".into()], false).is_err());
        assert!(named(&["x=1".into(), "x=2".into()], false).is_err());
    }

    #[test]
    fn an_argument_that_was_meant_as_json_is_told_apart() {
        for meant in ["[1, 2", "{\"a\": }", "\"a", " [", "[a]"] {
            assert!(broken_json(meant).is_some(), "{meant}");
        }
        for fine in ["[1]", "{}", "\"a\"", "hello", "5x", ""] {
            assert!(broken_json(fine).is_none(), "{fine}");
        }
    }

    #[test]
    fn only_strings_lose_their_quotes() {
        assert_eq!(unquoted(r#""a\nb""#), "a\nb");
        assert_eq!(unquoted("[\"a\"]"), "[\"a\"]");
    }
}
