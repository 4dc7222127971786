//! What the stock REP workers run: the functions that managed workers offer by the library.

use muster_proto::socket::Frame;
use serde_json::Value;
use std::time::Duration;

/// A blob is no echo.
pub const BLOB_BYTES_MIN: usize = 1;

/// Runs `method` with its parameters as JSON; the result as JSON.
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
            let bytes = attachments.iter().map(|frame| frame.len()).sum::<usize>();
            assert!(bytes >= BLOB_BYTES_MIN, "a blob comes with its bytes");
            value
        }
        _ => panic!("no row calls {method} with {params:?}"),
    };
    serde_json::to_vec(result).expect("a JSON value is written as JSON")
}
