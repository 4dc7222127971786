//! Values without parts, from XML-RPC's text to JSON.

use super::document::is_blank;
use super::fault::Fault;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::fmt::Write;

/// Writes one value of type `kind` behind `json`.
///
/// # Errors
/// When the text is none of its type, or JSON has no such value.
pub(super) fn scalar(kind: &str, text: &str, json: &mut String) -> Result<(), Fault> {
    let bad = || Fault::bad_value(&format!("{text:.40?} is no {kind}"));
    let trimmed = text.trim();
    match kind {
        "string" => {
            string(text, json);
            Ok(())
        }
        "int" | "i1" | "i2" | "i4" | "i8" | "biginteger" => {
            let digits = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(bad());
            }
            // JSON has neither a plus nor leading zeros.
            let digits = digits.trim_start_matches('0');
            let digits = if digits.is_empty() { "0" } else { digits };
            if trimmed.starts_with('-') && digits != "0" {
                json.push('-');
            }
            json.push_str(digits);
            Ok(())
        }
        "boolean" => {
            json.push_str(match trimmed {
                "1" | "true" => "true",
                "0" | "false" => "false",
                _ => return Err(bad()),
            });
            Ok(())
        }
        "double" | "float" | "bigdecimal" => {
            let number: f64 = trimmed.parse().map_err(|_| bad())?;
            if !number.is_finite() {
                let reason = format!("{trimmed:.40} can't be sent: JSON has finite numbers");
                return Err(Fault::bad_value(&reason));
            }
            // `Debug` always writes a point or an exponent, so it stays a double.
            write!(json, "{number:?}").expect("a String takes all");
            Ok(())
        }
        "nil" if is_blank(text) => {
            json.push_str("null");
            Ok(())
        }
        "base64" => {
            let packed: String = text.split_ascii_whitespace().collect();
            BASE64.decode(&packed).map_err(|_| bad())?;
            write!(json, r#"{{"$base64":"{packed}"}}"#).expect("a String takes all");
            Ok(())
        }
        "dateTime.iso8601" => {
            let time = iso8601(trimmed).ok_or_else(bad)?;
            write!(json, r#"{{"$datetime":"{time}"}}"#).expect("a String takes all");
            Ok(())
        }
        _ => Err(Fault::no_call(&format!("a value of type {kind:.40}"))),
    }
}

pub(super) fn string(text: &str, json: &mut String) {
    json.push_str(&serde_json::to_string(text).expect("a string is JSON"));
}

/// `20260131T23:59:60`, or with hyphens, fractions and a zone, as `2026-01-31T23:59:60…`.
fn iso8601(text: &str) -> Option<String> {
    let (date, time) = text.split_once('T')?;
    let digits: String = date.chars().filter(|&c| c != '-').collect();
    let is_date = digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let hyphens = date.len() - digits.len();
    // Only the characters of a time: what stands here goes into JSON as it is.
    let is_time = (8..=32).contains(&time.len())
        && time
            .bytes()
            .all(|b| b.is_ascii_digit() || b":.+-Z".contains(&b))
        && time.as_bytes()[2] == b':'
        && time.as_bytes()[5] == b':';
    (is_date && is_time && matches!(hyphens, 0 | 2)).then(|| {
        let (year, rest) = digits.split_at(4);
        let (month, day) = rest.split_at(2);
        format!("{year}-{month}-{day}T{time}")
    })
}
