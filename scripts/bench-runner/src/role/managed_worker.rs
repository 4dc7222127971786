//! A managed worker: the worker library with the functions of the rows.

use super::{end_with_parent, ready};
use crate::function;
use muster_proto::connection::Connection;
use muster_worker::{Attachment, BrokerAddress, CallContext, CallError, Worker};
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

pub fn run(connection: &Path, name: &str, workers: u32, slots: u32) -> anyhow::Result<()> {
    let connection = Connection::read(connection)?;
    let names = match workers {
        1 => vec![name.to_owned()],
        _ => (0..workers).map(|n| format!("{name}-{n}")).collect(),
    };
    let started: Result<Vec<_>, _> = names
        .iter()
        .map(|name| {
            worker(name, slots).start(BrokerAddress::Connection(Box::new(connection.clone())))
        })
        .collect();
    end_with_parent();
    ready()?;
    for worker in started? {
        worker.wait()?;
    }
    Ok(())
}

fn worker(name: &str, slots: u32) -> Worker {
    Worker::new()
        .name(name)
        .slots(slots)
        .function("echo", |value: Value| value)
        .function("square", |x: i64| x * x)
        .function("sleep", |seconds: f64| {
            std::thread::sleep(Duration::from_secs_f64(seconds));
            seconds
        })
        .function("hold", hold)
        .function_with_context("blob", blob)
}

/// Sends the bytes back that came, as the stock REP does.
#[allow(clippy::needless_pass_by_value)] // A function takes what its caller sent.
fn blob(call: &CallContext<'_>, bytes: Attachment) -> Result<Attachment, CallError> {
    assert!(
        call.bytes(&bytes)?.len() >= function::BLOB_BYTES_MIN,
        "a blob comes with its bytes"
    );
    call.attach_again(&bytes)
}

/// Writes down who started it and when, and takes its time.
fn hold(path: String) -> Result<String, std::io::Error> {
    let line = format!("{} {}\n", std::process::id(), monotonic_ns());
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    file.write_all(line.as_bytes())?;
    std::thread::sleep(Duration::from_millis(200));
    Ok(path)
}

/// The machine's clock that only goes forward, the same in every process.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
