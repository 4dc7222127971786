//! Prometheus' text format, version 0.0.4.

use std::fmt::{Display, Write};

/// A document that grows family by family.
#[derive(Default)]
pub(super) struct Exposition {
    text: String,
    family: &'static str,
}

impl Exposition {
    pub(super) fn counter(&mut self, name: &'static str, help: &str) {
        self.family(name, "counter", help);
    }

    pub(super) fn gauge(&mut self, name: &'static str, help: &str) {
        self.family(name, "gauge", help);
    }

    pub(super) fn histogram(&mut self, name: &'static str, help: &str) {
        self.family(name, "histogram", help);
    }

    /// A family of one value without labels.
    pub(super) fn lone_gauge(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.gauge(name, help);
        self.value(&[], value);
    }

    /// A family of one value without labels.
    pub(super) fn lone_counter(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.counter(name, help);
        self.value(&[], value);
    }

    /// A value of the family begun last.
    pub(super) fn value(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.line("", labels, value);
    }

    /// A histogram of the family begun last: cumulative buckets without the one of no bound.
    pub(super) fn buckets(
        &mut self,
        labels: &[(&str, &str)],
        buckets: &[(f64, u64)],
        sum_s: f64,
        count: u64,
    ) {
        let bounds: Vec<String> = buckets.iter().map(|(bound, _)| bound.to_string()).collect();
        for (bound, (_, total)) in bounds.iter().zip(buckets) {
            self.line("_bucket", &[labels, &[("le", bound)]].concat(), total);
        }
        self.line("_bucket", &[labels, &[("le", "+Inf")]].concat(), count);
        self.line("_sum", labels, sum_s);
        self.line("_count", labels, count);
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.family);
        self.text.push_str(suffix);
        for (place, (name, text)) in labels.iter().enumerate() {
            self.text.push(if place == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            for c in text.chars() {
                match c {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    c => self.text.push(c),
                }
            }
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut out = Exposition::default();
        out.gauge("g", "Help.");
        out.value(&[("a", "x\\\"\n"), ("b", "é")], 1.5);
        assert_eq!(
            out.finish(),
            "# HELP g Help.\n# TYPE g gauge\ng{a=\"x\\\\\\\"\\n\",b=\"é\"} 1.5\n"
        );
    }
}
