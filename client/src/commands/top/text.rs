//! Figures as short text.

use crate::output::duration_text;

/// Five blocks and a number.
pub fn bar(share: f64) -> String {
    let full = (share * 5.0).round() as usize;
    format!(
        "{}{} {:>3.0}%",
        "█".repeat(full),
        "░".repeat(5 - full),
        share * 100.0
    )
}

/// So many a second.
pub fn rate(value: f64) -> String {
    match value {
        0.0 => "0".into(),
        value if value < 10.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

/// A length of time from microseconds on.
pub fn time(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".into(),
        Some(s) if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        Some(s) if s < 1e-2 => format!("{:.2} ms", s * 1e3),
        Some(s) if s < 1.0 => format!("{:.0} ms", s * 1e3),
        Some(s) => duration_text(s),
    }
}

/// How long ago, in whole units.
pub fn ago(ms: u64) -> String {
    match ms / 1_000 {
        s @ 0..60 => format!("{s} s ago"),
        s @ 60..3_600 => format!("{} min ago", s / 60),
        s @ 3_600..86_400 => format!("{} h ago", s / 3_600),
        s => format!("{} d ago", s / 86_400),
    }
}
