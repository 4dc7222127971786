//! Ids that cross the wire, as newtypes.

use std::fmt;
use std::str::FromStr;

/// One run of a broker: random at start, so that replies to its predecessor are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// A call, numbered by the broker from 1 in the order of admission. Printed as `c123`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u64);

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

impl FromStr for CallId {
    type Err = BadCallId;

    fn from_str(text: &str) -> Result<Self, BadCallId> {
        let digits = text.strip_prefix('c').unwrap_or(text);
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        match digits.parse() {
            Ok(number) if plain => Ok(CallId(number)),
            _ => Err(BadCallId(text.chars().take(40).collect())),
        }
    }
}

/// The text is not a call id such as `c123`.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a call id such as c123")]
pub struct BadCallId(String);

/// The fence: which dispatch a reply answers.
///
/// On the wire 20 bytes, big-endian: epoch (8), call (8), attempt (4). A REP worker returns it
/// untouched because it stands above the empty delimiter.
///
/// Source: docs/protocol.md, "Dispatch id".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DispatchId {
    /// The broker's run.
    pub epoch: Epoch,
    /// The call.
    pub call: CallId,
    /// Which try, from 1.
    pub attempt: u32,
}

impl DispatchId {
    /// Length on the wire.
    pub const BYTES: usize = 20;

    /// The wire form.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.epoch.0.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.call.0.to_be_bytes());
        bytes[16..].copy_from_slice(&self.attempt.to_be_bytes());
        bytes
    }

    /// Reads the wire form; `None` when the length is not [`Self::BYTES`].
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let (epoch, rest) = bytes.split_at(8);
        let (call, attempt) = rest.split_at(8);
        Some(DispatchId {
            epoch: Epoch(u64::from_be_bytes(epoch.try_into().ok()?)),
            call: CallId(u64::from_be_bytes(call.try_into().ok()?)),
            attempt: u32::from_be_bytes(attempt.try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dispatch_id_survives_the_wire() {
        let id = DispatchId {
            epoch: Epoch(u64::MAX - 1),
            call: CallId(0x0102),
            attempt: 7,
        };
        assert_eq!(DispatchId::from_bytes(&id.to_bytes()), Some(id));
        assert_eq!(DispatchId::from_bytes(&id.to_bytes()[1..]), None);
    }

    #[test]
    fn a_call_id_is_read_with_or_without_its_letter() {
        assert_eq!("c42".parse::<CallId>().unwrap(), CallId(42));
        assert_eq!("42".parse::<CallId>().unwrap(), CallId(42));
        for wrong in ["", "c", "x1", "c-1", "c+1", "c99999999999999999999"] {
            assert!(wrong.parse::<CallId>().is_err(), "{wrong}");
        }
    }
}
