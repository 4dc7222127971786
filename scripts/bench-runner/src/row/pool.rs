//! A broker with managed workers.

use crate::broker::Broker;
use crate::process::RoleProcess;
use anyhow::Context as _;
use std::path::Path;
use std::time::Duration;

/// The broker and its workers, one process each.
pub struct Managed {
    /// The broker.
    pub broker: Broker,
    /// The workers.
    pub workers: Vec<RoleProcess>,
}

impl Managed {
    /// Starts a broker and so many workers with so many slots each; returns when all are ready.
    ///
    /// # Errors
    /// When one does not come up.
    pub fn start(program: &Path, workers: usize, slots: usize) -> anyhow::Result<Self> {
        Self::start_with(program, &[], workers, slots)
    }

    /// The same with flags for the broker.
    ///
    /// # Errors
    /// When one does not come up.
    pub fn start_with(
        program: &Path,
        flags: &[&str],
        workers: usize,
        slots: usize,
    ) -> anyhow::Result<Self> {
        let mut pool = Managed {
            broker: Broker::start(program, flags)?,
            workers: Vec::new(),
        };
        for _ in 0..workers {
            pool.add(slots)?;
        }
        let total = (workers * slots) as u64;
        pool.broker.await_slots(total, Duration::from_secs(60))?;
        Ok(pool)
    }

    /// Many workers of one slot, so many in each process.
    ///
    /// # Errors
    /// When one does not come up.
    pub fn crowd(program: &Path, processes: usize, each: usize) -> anyhow::Result<Self> {
        let mut pool = Managed {
            broker: Broker::start(program, &[])?,
            workers: Vec::new(),
        };
        for _ in 0..processes {
            pool.launch(&["--workers", &each.to_string()])?;
        }
        let total = (processes * each) as u64;
        pool.broker.await_slots(total, Duration::from_secs(60))?;
        Ok(pool)
    }

    /// Starts one more worker; does not wait for its slots.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn add(&mut self, slots: usize) -> anyhow::Result<()> {
        self.launch(&["--slots", &slots.to_string()])
    }

    fn launch(&mut self, shape: &[&str]) -> anyhow::Result<()> {
        let name = format!("w{}", self.workers.len());
        let path = self.broker.connection_path().to_str().context("a path")?;
        let start = ["managed-worker", "--name", &name, "--connection", path];
        let args = [&start[..], shape].concat();
        self.workers.push(RoleProcess::start(&args)?);
        Ok(())
    }
}
