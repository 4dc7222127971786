//! `muster ls`: the clusters of this user on this machine.

use super::CommandResult;
use crate::cli::Common;
use crate::output::Output;
use muster_proto::connection::Connection;
use muster_proto::exit::Exit;
use muster_proto::runtime::RuntimeDir;
use serde_json::{Value, json};

/// Lists every cluster that left a connection file, living or not.
pub fn run(common: &Common, out: &mut Output) -> CommandResult {
    let clusters: Vec<Value> = RuntimeDir::all(common.runtime_dir.as_deref())
        .iter()
        .map(describe)
        .collect();
    if out.json {
        clusters
            .iter()
            .try_for_each(|cluster| out.line(&cluster.to_string()))?;
        return Ok(Exit::Done);
    }
    if clusters.is_empty() {
        out.note("no cluster is here; muster up -n 4 starts one");
        return Ok(Exit::Done);
    }
    let members = ["name", "state", "pid", "frontend"];
    let rows: Vec<Vec<Value>> = clusters
        .iter()
        .map(|c| members.iter().map(|name| c[*name].clone()).collect())
        .collect();
    out.table(&["CLUSTER", "STATE", "PID", "FRONTEND"], &rows)?;
    Ok(Exit::Done)
}

/// Names of the clusters that are up, for somebody who asked for one that is not.
pub fn live_clusters(common: &Common) -> Vec<String> {
    let all = RuntimeDir::all(common.runtime_dir.as_deref());
    let live = all.iter().filter(|dir| dir.is_live());
    live.map(|dir| dir.cluster().to_owned()).collect()
}

fn describe(dir: &RuntimeDir) -> Value {
    let path = dir.connection_path();
    let state = if dir.is_live() { "live" } else { "stale" };
    let connection = Connection::read(&path);
    let problem = connection.as_ref().err().map(ToString::to_string);
    let connection = connection.ok();
    let connection = connection.as_ref();
    json!({
        "name": dir.cluster(),
        "state": state,
        "pid": connection.map(|c| c.pid),
        "started": connection.map(|c| c.started),
        "frontend": connection.map(|c| c.frontend.as_str()),
        "file": path,
        "problem": problem,
    })
}
