//! The rows of the table.

mod echo;

use crate::bench::Bench;
use crate::figure::Figure;

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
        name: "attachments",
        run: echo::attachments,
    },
];
