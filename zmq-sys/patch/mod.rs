//! Muster's changes to the released sources of libzmq 4.3.5, a file for each reason.
//!
//! Each change replaces text that must be there exactly once: against another release the build
//! fails here, in words, and does not leave a change out.

mod bounds;
mod curve;
mod listeners;
mod monitor;
mod timers;
mod turns;

use std::fs;
use std::path::Path;

/// Files of ours beside the changed ones.
pub const ADDED: &[(&str, &str)] = &[
    ("newcomers.h", include_str!("added/newcomers.h")),
    ("newcomers.hpp", include_str!("added/newcomers.hpp")),
    ("newcomers.cpp", include_str!("added/newcomers.cpp")),
    ("message_box.hpp", include_str!("added/message_box.hpp")),
    ("message_box.cpp", include_str!("added/message_box.cpp")),
    (
        "spare_descriptor.hpp",
        include_str!("added/spare_descriptor.hpp"),
    ),
];

/// What is compiled in addition.
pub const COMPILED: &[&str] = &["message_box", "newcomers"];

/// What is compiled anew. Every other file sees `session_base.hpp` and `stream_engine_base.hpp` as
/// they were released, which lay out a session and an engine in the same way.
pub const RECOMPILED: &[&str] = &[
    "curve_client",
    "curve_mechanism_base",
    "curve_server",
    "ipc_listener",
    "mechanism",
    "poller_base",
    "raw_engine",
    "session_base",
    "socket_base",
    "stream_engine_base",
    "tcp_listener",
    "ws_engine",
    "zmtp_engine",
];

/// One replacement in one file.
pub struct Change {
    pub file: &'static str,
    pub released: &'static str,
    pub ours: &'static str,
}

pub fn changes() -> impl Iterator<Item = &'static Change> {
    [
        bounds::CHANGES,
        listeners::CHANGES,
        turns::CHANGES,
        timers::CHANGES,
        monitor::CHANGES,
        curve::CHANGES,
    ]
    .into_iter()
    .flatten()
}

/// Makes the changes in a folder of released sources.
///
/// # Errors
/// The file that is not as it was released, in words.
pub fn apply(folder: &Path) -> Result<(), String> {
    for change in changes() {
        let path = folder.join(change.file);
        let said = |reason: &dyn std::fmt::Display| format!("{}: {reason}", path.display());
        let text = fs::read_to_string(&path).map_err(|error| said(&error))?;
        match text.matches(change.released).count() {
            1 => {
                let text = text.replacen(change.released, change.ours, 1);
                fs::write(&path, text).map_err(|error| said(&error))?;
            }
            count => {
                return Err(said(&format!(
                    "this is not the source that Muster's change was made for ({count} places \
                     where one is expected); look at zmq-sys/patch again for this release:\n{}",
                    change.released
                )));
            }
        }
    }
    for (name, text) in ADDED {
        fs::write(folder.join(name), text).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}
