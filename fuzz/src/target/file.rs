//! Files that may come from elsewhere.

use self::joblog::{HEADER, Resume};
use muster_proto::connection::Connection;

// It belongs to the program `muster`, which is no library.
#[allow(dead_code)]
#[path = "../../../client/src/joblog.rs"]
mod joblog;

/// A connection file.
pub fn connection(data: &[u8]) {
    if let Ok(connection) = Connection::parse(data) {
        let text = serde_json::to_vec(&connection).expect("it was read from JSON");
        assert_eq!(Connection::parse(&text), Ok(connection));
    }
}

/// A joblog to resume from, which somebody may have edited: bare, and behind the header that it
/// needs to be read any further.
pub fn joblog(data: &[u8]) {
    for log in [data, &[HEADER.as_bytes(), data].concat()] {
        for resume in [Resume::No, Resume::Ended] {
            // Memory can be read to its end.
            let read = joblog::read(log, resume).expect("memory can be read");
            if let Some((_, end)) = read {
                // What is kept ends with a whole line.
                let kept = &log[..end as usize];
                assert!(kept.is_empty() || kept.ends_with(b"\n"));
            }
        }
    }
}
