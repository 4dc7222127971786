//! `muster down`: the end of a cluster of this machine.

use super::{CommandResult, Failure};
use crate::cli::{Common, DownArgs};
use crate::output::{Output, note};
use crate::process::{Process, host};
use crate::upfile::{UpFile, clean};
use muster_client::{Call, Client};
use muster_proto::connection::Connection;
use muster_proto::exit::Exit;
use muster_proto::runtime::RuntimeDir;
use serde_json::{Value, json};
use std::time::Duration;

/// A broker that does not say who its workers are is ended without them.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(1);
/// After this long it says that it waits.
const WAITING_NOTE: Duration = Duration::from_secs(1);
/// `up` waits for its children; it gets this much longer than they do.
const UP_MARGIN: Duration = Duration::from_secs(10);

/// Ends the broker, its workers on this machine, and the `muster up` that started them.
pub fn run(common: &Common, args: &DownArgs, out: &mut Output) -> CommandResult {
    if common.endpoint.is_some() || common.connection.is_some() {
        let text = "down ends a cluster of this machine; name it by --cluster";
        return Err(Failure::Usage(text.into()));
    }
    let dir = common.target().runtime()?;
    let grace = args.timeout;
    // Asked first: a broker that drains may not answer any more.
    let workers = if dir.is_live() {
        local_workers(common)
    } else {
        Vec::new()
    };
    if !common.quiet {
        std::thread::spawn(move || tell_wait(grace));
    }
    let mut ended = Vec::new();
    if let Some(up) = UpFile::read(&dir).and_then(|file| file.process()) {
        up.end(grace + UP_MARGIN);
        ended.push(("up", up.pid()));
    }
    if let Some(broker) = broker(&dir) {
        broker.end(grace);
        ended.push(("broker", broker.pid()));
    }
    workers.iter().for_each(Process::ask_to_end);
    for worker in &workers {
        if !worker.has_ended(grace) {
            worker.end(Duration::ZERO);
        }
        ended.push(("worker", worker.pid()));
    }
    clean(&dir);
    if out.json {
        for (kind, pid) in &ended {
            out.line(&json!({"ended": kind, "pid": pid}).to_string())?;
        }
    }
    if dir.is_live() {
        let text = format!("the broker of {} can't be ended", dir.path().display());
        return Err(Failure::State(text));
    }
    if ended.is_empty() {
        out.note(&format!("cluster {} is not up", dir.cluster()));
    } else {
        out.note(&format!("cluster {} is down", dir.cluster()));
    }
    Ok(Exit::Done)
}

/// Says once what takes so long; the program's end ends this thread.
fn tell_wait(grace: Duration) {
    std::thread::sleep(WAITING_NOTE);
    let seconds = grace.as_secs_f64();
    note(&format!(
        "calls under way have up to {seconds} s to end (--timeout)"
    ));
}

/// The broker that holds the directory's lock.
fn broker(dir: &RuntimeDir) -> Option<Process> {
    if !dir.is_live() {
        return None;
    }
    let connection = Connection::read(&dir.connection_path()).ok()?;
    Process::open_named(connection.pid, "muster-broker")
}

/// The managed workers here that are programs of Muster; those inside other programs stay.
fn local_workers(common: &Common) -> Vec<Process> {
    let ask = || -> Result<Vec<Value>, muster_client::Error> {
        let client = Client::connect(&common.target())?;
        let call = Call::new("broker.workers", &())?.timeout(QUESTION_TIMEOUT);
        client.submit(call)?.wait()?.json()
    };
    let host = host();
    let is_here = |worker: &&Value| worker["kind"] == "managed" && worker["host"] == *host;
    let pid = |worker: &Value| u32::try_from(worker["pid"].as_u64()?).ok();
    let found = ask().unwrap_or_default();
    let pids = found.iter().filter(is_here).filter_map(pid);
    pids.filter_map(|pid| Process::open_named(pid, "muster-worker"))
        .collect()
}
