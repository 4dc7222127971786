//! A managed worker: the worker library with the function of the run.

use super::{end_with_parent, ready};
use crate::starts::StartLog;
use crate::work::{METHOD, mix};
use muster_worker::{BrokerAddress, Worker};
use std::path::Path;
use std::time::Duration;

pub fn run(connection: &Path, name: &str, slots: u32, folder: &Path) -> anyhow::Result<()> {
    let starts = StartLog::open(folder)?;
    let worker = Worker::new()
        .name(name)
        .slots(slots)
        .function("nothing", || ())
        .function(METHOD, move |n: u64, nap_ms: u64| {
            starts.start(n)?;
            if nap_ms > 0 {
                std::thread::sleep(Duration::from_millis(nap_ms));
            }
            Ok::<_, std::io::Error>(mix(n))
        })
        .start(BrokerAddress::File(connection.to_owned()))?;
    end_with_parent();
    ready()?;
    Ok(worker.wait()?)
}
