//! How a slot's child ended, as its worker says.

use muster_core::{EndReason, Ending};
use muster_proto::limits;
use muster_proto::worker::SlotLost;

/// What the core makes of it.
pub(super) fn ending_of(lost: SlotLost) -> Ending {
    let reason = if lost.on_purpose {
        EndReason::OnPurpose
    } else {
        EndReason::ChildEnded
    };
    Ending {
        reason,
        exit_code: lost.exit_code,
        signal: lost.signal,
        out_of_memory: lost.out_of_memory,
        stderr_tail: cut(lost.stderr_tail, limits::STDERR_TAIL_BYTES_MAX),
    }
}

/// The last `bytes_max` bytes, from a character's start.
fn cut(text: String, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text;
    }
    let from = (text.len() - bytes_max..).find(|&at| text.is_char_boundary(at));
    text[from.unwrap_or(text.len())..].to_owned()
}
