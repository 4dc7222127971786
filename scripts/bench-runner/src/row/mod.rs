//! The rows of the table.

mod crowd;
mod echo;
mod gateway;
mod idle;
mod kill;
mod memory;
mod pool;
mod python;
mod scale;
mod sleeps;

use crate::bench::Bench;
use crate::figure::{Curve, Figure};

/// One row: its name on the command line and what measures it.
pub struct Row {
    /// As `--row` has it.
    pub name: &'static str,
    /// Measures it.
    pub run: fn(&Bench) -> anyhow::Result<Measured>,
}

/// What came of a row.
pub enum Measured {
    /// Its figures.
    Figures(Vec<Figure>),
    /// Something over something.
    Curves(Vec<Curve>),
    /// Nothing, and why.
    Skipped(String),
}

/// Every row, in the order of the table.
pub const ROWS: &[Row] = &[
    Row {
        name: "echo-managed",
        run: echo::managed,
    },
    Row {
        name: "echo-lanes",
        run: echo::lanes,
    },
    Row {
        name: "req-1",
        run: |bench| echo::req(bench, 1),
    },
    Row {
        name: "req-8",
        run: |bench| echo::req(bench, 8),
    },
    Row {
        name: "req-64",
        run: |bench| echo::req(bench, 64),
    },
    Row {
        name: "idle-lanes",
        run: crowd::lanes,
    },
    Row {
        name: "idle-connections",
        run: crowd::connections,
    },
    Row {
        name: "attachments",
        run: echo::attachments,
    },
    Row {
        name: "keys",
        run: echo::keys,
    },
    Row {
        name: "gateway",
        run: gateway::calls,
    },
    Row {
        name: "map",
        run: python::map,
    },
    Row {
        name: "python",
        run: python::pools,
    },
    Row {
        name: "sleeps",
        run: sleeps::run,
    },
    Row {
        name: "slots",
        run: scale::slots,
    },
    Row {
        name: "curve",
        run: scale::curve,
    },
    Row {
        name: "memory",
        run: memory::run,
    },
    Row {
        name: "kill-one",
        run: kill::one,
    },
    Row {
        name: "kill-all",
        run: kill::all,
    },
    Row {
        name: "idle",
        run: idle::run,
    },
    Row {
        name: "dashboard",
        run: gateway::dashboard,
    },
];
