//! What the workers of both sides run: the same parsing and the same functions.

use muster_proto::socket::Frame;
use serde_json::Value;
use std::time::Duration;

/// Runs `method` with its parameters as JSON; the result as JSON. Attachments come back as they
/// are.
///
/// # Panics
/// On a method or parameters that no row sends.
pub fn run(method: &str, params: &str, attachments: &[Frame]) -> Vec<u8> {
    let params: Vec<Value> = serde_json::from_str(params).expect("rows send arrays");
    let result = match (method, params.as_slice()) {
        ("echo", [value]) => value,
        ("sleep", [value]) => {
            let seconds = value.as_f64().expect("a number of seconds");
            std::thread::sleep(Duration::from_secs_f64(seconds));
            value
        }
        ("blob", [value]) => {
            assert!(!attachments.is_empty(), "a blob comes with its bytes");
            value
        }
        _ => panic!("no row calls {method} with {params:?}"),
    };
    serde_json::to_vec(result).expect("a JSON value is written as JSON")
}

/// The names [`run`] knows.
pub const METHODS: [&str; 3] = ["echo", "sleep", "blob"];
