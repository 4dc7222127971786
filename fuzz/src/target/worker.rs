//! The worker protocol, from both sides.

use super::frames;
use muster_proto::worker::{
    Call, Command, Join, Recalled, Refused, Registration, Reply, SlotCall, SlotLost, SlotReady,
    StreamItem, Welcome, WireError,
};
use serde_json::from_slice;

/// A message as the broker reads it.
pub fn worker_to_broker(data: &[u8]) {
    let frames = frames(data);
    let [head, body, ..] = frames[..] else {
        let _ = frames.first().map(|head| Command::read(head));
        return;
    };
    if let Ok(command) = Command::read(head) {
        assert_eq!(command.frame(), head);
    }
    // Each reader whatever the command: a peer may put anything behind any of them.
    let _ = from_slice::<Registration>(body);
    let _ = from_slice::<Join>(body);
    let _ = from_slice::<SlotLost>(body);
    let _ = from_slice::<SlotReady>(body);
    round_trip(Reply::unpack(body), body, Reply::pack);
    round_trip(Recalled::unpack(body), body, Recalled::pack);
    if let Ok(item) = StreamItem::unpack(body) {
        let mut again = Vec::new();
        item.pack(&mut again);
        assert_eq!(StreamItem::unpack(&again), Ok(item));
    }
}

/// A message as a worker reads it.
pub fn broker_to_worker(data: &[u8]) {
    let frames = frames(data);
    let [head, body, ..] = frames[..] else {
        let _ = frames.first().map(|head| Command::read(head));
        return;
    };
    let _ = Command::read(head);
    let _ = from_slice::<Welcome>(body);
    let _ = from_slice::<Refused>(body);
    round_trip(Call::unpack(body), body, Call::pack);
    round_trip(SlotCall::unpack(body), body, SlotCall::pack);
}

/// Records that could be read are as long as the frame when they are packed again; after one that
/// could not, nothing more is read.
fn round_trip<T>(
    records: impl Iterator<Item = Result<T, WireError>>,
    frame: &[u8],
    pack: impl Fn(&T, &mut Vec<u8>),
) {
    let mut again = Vec::new();
    let mut is_broken = false;
    for record in records {
        assert!(!is_broken, "a record behind a malformed one");
        match record {
            Ok(record) => pack(&record, &mut again),
            Err(_) => is_broken = true,
        }
    }
    assert!(again.len() <= frame.len());
    assert!(is_broken || again.len() == frame.len());
}
