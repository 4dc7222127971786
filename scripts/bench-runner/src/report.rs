//! The figures for people and for programs.

use crate::figure::{Curve, Figure, short};
use crate::machine::Machine;
use crate::stats::Summary;
use serde_json::json;
use std::io::{self, Write};

/// Everything a run found.
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// What was measured over something.
    pub curves: Vec<Curve>,
    /// Rows that could not be, and why.
    pub skipped: Vec<(String, String)>,
    /// Rows that went wrong, and how.
    pub failed: Vec<(String, String)>,
}

impl Report {
    /// Nothing measured yet.
    pub fn new(machine: Machine) -> Self {
        Report {
            machine,
            figures: Vec::new(),
            curves: Vec::new(),
            skipped: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// One object a line: the machine, then each figure, then what is missing.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn print_json(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", json!({"machine": self.machine}))?;
        for figure in &self.figures {
            let mut object = serde_json::to_value(figure)?;
            object["reached"] = json!(figure.aim.is_reached(figure.value.median));
            writeln!(out, "{object}")?;
        }
        for curve in &self.curves {
            writeln!(out, "{}", json!({"curve": curve}))?;
        }
        for (row, reason) in &self.skipped {
            writeln!(out, "{}", json!({"row": row, "skipped": reason}))?;
        }
        for (row, reason) in &self.failed {
            writeln!(out, "{}", json!({"row": row, "failed": reason}))?;
        }
        Ok(())
    }

    /// A table in Markdown, which reads well on a terminal, too.
    pub fn print_table(&self) {
        println!("{}", self.machine);
        println!();
        let heads = [
            "work",
            "measure",
            "aim",
            "figure",
            "p10–p90",
            "muster",
            "reference",
            "",
        ];
        let mut lines = vec![heads.map(str::to_owned)];
        for figure in &self.figures {
            let value = &figure.value;
            let absolute = |summary: Option<Summary>| {
                summary.map_or("–".into(), |s| {
                    format!("{} {}", short(s.median), figure.unit)
                })
            };
            let mark = match figure.aim.is_reached(value.median) {
                Some(true) => "reached",
                Some(false) => "not reached",
                None => "",
            };
            lines.push([
                figure.work.clone(),
                figure.measure.clone(),
                figure.aim.to_string(),
                short(value.median),
                format!("{}–{}", short(value.p10), short(value.p90)),
                absolute(figure.muster),
                absolute(figure.reference),
                mark.into(),
            ]);
        }
        let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max();
        let widths: Vec<usize> = (0..heads.len()).map(|at| width(at).unwrap_or(0)).collect();
        for (n, line) in lines.iter().enumerate() {
            let cells = line
                .iter()
                .zip(&widths)
                .map(|(cell, &width)| format!("{cell:width$}"));
            println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
            if n == 0 {
                let rules = widths.iter().map(|&width| "-".repeat(width.max(1)));
                println!("| {} |", rules.collect::<Vec<_>>().join(" | "));
            }
        }
        let mut last = "";
        for figure in self.figures.iter().filter(|figure| !figure.note.is_empty()) {
            if figure.note != last {
                println!("\n{}: {}", figure.row, figure.note);
            }
            last = &figure.note;
        }
        for curve in &self.curves {
            let point = |(x, y): &(f64, Summary)| format!("{} → {}", short(*x), short(y.median));
            let points: Vec<_> = curve.points.iter().map(point).collect();
            let points = points.join(", ");
            println!("\n{}: {} by {}: {points}", curve.name, curve.y, curve.x);
        }
        for (row, reason) in &self.skipped {
            println!("{row}: skipped, {reason}");
        }
        for (row, reason) in &self.failed {
            println!("{row}: failed, {reason}");
        }
    }
}
