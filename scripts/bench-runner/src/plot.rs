//! The figures as a picture: each ratio with its spread beside what it is to reach, then curves.

use crate::figure::{Aim, Curve, Figure, short};
use crate::report::Report;
use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 430.0;
const RIGHT: f64 = WIDTH - 70.0;
const LINE: f64 = 24.0;
const CURVE_HEIGHT: f64 = 200.0;

const REACHED: &str = "#2a7f62";
const MISSED: &str = "#c0562f";
const NEUTRAL: &str = "#5b6b7b";

/// An SVG of a report.
pub fn svg(report: &Report) -> String {
    let ratios: Vec<&Figure> = report
        .figures
        .iter()
        .filter(|figure| figure.measure.contains('÷'))
        .collect();
    let bars_end = 70.0 + LINE * ratios.len() as f64;
    let height = bars_end + 30.0 + (CURVE_HEIGHT + 60.0) * report.curves.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    let machine = &report.machine;
    let title = format!(
        "Muster beside its references: {}, {} cores, load {}",
        machine.processor, machine.cores, machine.load
    );
    text(&mut out, 10.0, 20.0, "start", "#000000", &title);
    text(
        &mut out,
        10.0,
        38.0,
        "start",
        NEUTRAL,
        "ratio, p10 to p90 of the rounds; the tick is the aim",
    );
    let farthest = ratios
        .iter()
        .map(|figure| figure.value.p90)
        .fold(1.5, f64::max)
        .min(4.0);
    let x = |ratio: f64| LEFT + (RIGHT - LEFT) * (ratio / farthest).clamp(0.0, 1.0);
    line(&mut out, (x(1.0), 50.0), (x(1.0), bars_end), "#cccccc", 1.0);
    for (n, figure) in ratios.iter().enumerate() {
        let y = 62.0 + LINE * n as f64;
        let colour = match figure.aim.is_reached(figure.value.median) {
            Some(true) => REACHED,
            Some(false) => MISSED,
            None => NEUTRAL,
        };
        let label = format!("{}: {}", figure.row, figure.measure);
        text(&mut out, LEFT - 12.0, y + 4.0, "end", "#000000", &label);
        line(
            &mut out,
            (x(figure.value.p10), y),
            (x(figure.value.p90), y),
            colour,
            3.0,
        );
        let _ = writeln!(
            out,
            "<circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"{colour}\"/>",
            x(figure.value.median)
        );
        if let Aim::AtLeast(aim) | Aim::AtMost(aim) = figure.aim {
            line(
                &mut out,
                (x(aim), y - 8.0),
                (x(aim), y + 8.0),
                "#000000",
                1.5,
            );
        }
        text(
            &mut out,
            RIGHT + 12.0,
            y + 4.0,
            "start",
            colour,
            &short(figure.value.median),
        );
    }
    for (n, curve) in report.curves.iter().enumerate() {
        let top = bars_end + 50.0 + (CURVE_HEIGHT + 60.0) * n as f64;
        draw_curve(&mut out, curve, top);
    }
    out.push_str("</svg>\n");
    out
}

fn draw_curve(out: &mut String, curve: &Curve, top: f64) {
    let (left, bottom) = (60.0, top + CURVE_HEIGHT);
    let logs: Vec<f64> = curve
        .points
        .iter()
        .map(|(x, _)| x.max(1.0).log10())
        .collect();
    let (first, last) = match (logs.first(), logs.last()) {
        (Some(first), Some(last)) if last > first => (*first, *last),
        _ => return,
    };
    let highest = curve.points.iter().map(|(_, y)| y.p90).fold(0.0, f64::max) * 1.1;
    let at = |log: f64, value: f64| {
        let x = left + (RIGHT - left) * (log - first) / (last - first);
        (x, bottom - CURVE_HEIGHT * value / highest)
    };
    text(
        out,
        left,
        top - 12.0,
        "start",
        "#000000",
        &format!("{} by {}", curve.y, curve.x),
    );
    line(out, (left, bottom), (RIGHT, bottom), "#000000", 1.0);
    line(out, (left, top), (left, bottom), "#000000", 1.0);
    text(out, left - 6.0, top + 10.0, "end", NEUTRAL, &short(highest));
    text(out, left - 6.0, bottom, "end", NEUTRAL, "0");
    let mut before = None;
    for (log, (x, y)) in logs.iter().zip(&curve.points) {
        let here = at(*log, y.median);
        line(out, at(*log, y.p10), at(*log, y.p90), NEUTRAL, 1.5);
        if let Some(before) = before {
            line(out, before, here, REACHED, 2.0);
        }
        before = Some(here);
        text(out, here.0, bottom + 16.0, "middle", NEUTRAL, &short(*x));
        text(
            out,
            here.0,
            here.1 - 8.0,
            "middle",
            REACHED,
            &short(y.median),
        );
    }
}

fn line(out: &mut String, from: (f64, f64), to: (f64, f64), colour: &str, width: f64) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(
        out,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" \
         stroke-width=\"{width}\"/>"
    );
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, colour: &str, content: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{content}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine;
    use crate::stats::Summary;

    #[test]
    fn every_ratio_and_curve_is_drawn() {
        let mut report = Report::new(machine::describe());
        let value = Summary {
            median: 0.9,
            p10: 0.8,
            p90: 1.0,
        };
        report.figures.push(Figure {
            row: "a<b".into(),
            measure: "calls/s ÷ x".into(),
            value,
            aim: Aim::AtLeast(1.0),
            ..Figure::default()
        });
        let mut curve = Curve::new("c", "slots", "µs");
        curve.points = vec![(1.0, value), (1_000.0, value)];
        report.curves.push(curve);
        let svg = svg(&report);
        assert!(
            svg.contains("a&lt;b: calls/s ÷ x") && svg.contains("µs by slots"),
            "{svg}"
        );
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(svg.contains(MISSED));
    }
}
