//! What a row measured.

use crate::stats::Summary;
use serde::Serialize;
use std::fmt;

/// One line of the table.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figure {
    /// The row it belongs to, as `--row` has it.
    pub row: String,
    /// What was done.
    pub work: String,
    /// What the figure is: a ratio to the reference, or a value with a unit.
    pub measure: String,
    /// The figure: of ratios, the median of the rounds' ratios.
    pub value: Summary,
    /// What it is to reach.
    pub aim: Aim,
    /// This side in absolute terms, in `unit`.
    pub muster: Option<Summary>,
    /// The other side in absolute terms, in `unit`.
    pub reference: Option<Summary>,
    /// The unit of the two.
    pub unit: String,
    /// How many rounds.
    pub rounds: usize,
    /// What else there is to say.
    pub note: String,
}

/// One thing over another.
#[derive(Clone, Debug, Serialize)]
pub struct Curve {
    /// Its name.
    pub name: String,
    /// What goes to the right, on a logarithmic scale.
    pub x: String,
    /// What goes up.
    pub y: String,
    /// The points.
    pub points: Vec<(f64, Summary)>,
}

impl Curve {
    /// One without points.
    pub fn new(name: &str, x: &str, y: &str) -> Self {
        Curve {
            name: name.into(),
            x: x.into(),
            y: y.into(),
            points: Vec::new(),
        }
    }
}

/// What a figure is to reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
    /// Nothing: it is there to be read.
    #[default]
    None,
}

impl Aim {
    /// Whether a value reaches it; `None` where there is nothing to reach.
    pub fn is_reached(self, value: f64) -> Option<bool> {
        match self {
            Aim::AtLeast(least) => Some(value >= least),
            Aim::AtMost(most) => Some(value <= most),
            Aim::None => None,
        }
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Aim::AtLeast(least) => write!(f, "≥ {}", short(*least)),
            Aim::AtMost(most) => write!(f, "≤ {}", short(*most)),
            Aim::None => f.write_str("–"),
        }
    }
}

/// A number with three digits that count.
pub fn short(value: f64) -> String {
    let size = value.abs();
    let decimals = match size {
        _ if size == 0.0 || size >= 100.0 => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 0.1 => 2,
        _ if size >= 0.01 => 3,
        _ => 4,
    };
    let text = format!("{value:.decimals$}");
    let (sign, digits) = text
        .strip_prefix('-')
        .map_or(("", text.as_str()), |rest| ("-", rest));
    if decimals > 0 || digits.len() < 5 {
        return text;
    }
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_grouped() {
        for (value, text) in [
            (0.0, "0"),
            (0.00123, "0.0012"),
            (0.987, "0.99"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1234.0, "1234"),
            (123_456.7, "123,457"),
            (-1_234_567.0, "-1,234,567"),
        ] {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn an_aim_is_met_from_its_own_side() {
        assert_eq!(Aim::AtLeast(1.0).is_reached(0.99), Some(false));
        assert_eq!(Aim::AtMost(1.1).is_reached(1.1), Some(true));
        assert_eq!(Aim::None.is_reached(1.0), None);
    }
}
