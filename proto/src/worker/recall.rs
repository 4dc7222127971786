//! Calls named on the control link: what is to be stopped or given back, and what became of it.

use super::WireError;
use super::cursor::{Cursor, Records, put_dispatch};
use crate::id::DispatchId;

/// Names a dispatched call on the control link, where it may overtake the call itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotCall {
    /// Which slot, from 1.
    pub slot: u32,
    /// The call's number in that slot ([`Call::seq`]).
    pub seq: u32,
    /// The dispatch.
    pub dispatch: DispatchId,
}

impl SlotCall {
    /// Appends the record to a packed frame.
    pub fn pack(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.slot.to_le_bytes());
        out.extend_from_slice(&self.seq.to_le_bytes());
        put_dispatch(out, self.dispatch);
    }

    /// The records of a packed frame; ends after the first malformed one.
    pub fn unpack(frame: &[u8]) -> impl Iterator<Item = Result<SlotCall, WireError>> + '_ {
        Records {
            cursor: Cursor { rest: frame },
            take: SlotCall::take,
        }
    }

    fn take(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        const WHAT: &str = "slot call";
        Ok(SlotCall {
            slot: cursor.u32(WHAT)?,
            seq: cursor.u32(WHAT)?,
            dispatch: cursor.dispatch(WHAT)?,
        })
    }
}

/// What became of one recalled call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recalled {
    /// The call as the broker named it.
    pub call: SlotCall,
    /// `true`: it will not run there; `false`: too late, it has started or ended.
    pub given_back: bool,
}

impl Recalled {
    /// Appends the record to a packed frame.
    pub fn pack(&self, out: &mut Vec<u8>) {
        self.call.pack(out);
        out.push(self.given_back.into());
    }

    /// The records of a packed frame; ends after the first malformed one.
    pub fn unpack(frame: &[u8]) -> impl Iterator<Item = Result<Recalled, WireError>> + '_ {
        Records {
            cursor: Cursor { rest: frame },
            take: Recalled::take,
        }
    }

    fn take(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        let call = SlotCall::take(cursor)?;
        Ok(Recalled {
            call,
            given_back: cursor.u8("recalled")? != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{CallId, Epoch};

    fn dispatch(call: u64) -> DispatchId {
        DispatchId {
            epoch: Epoch(77),
            call: CallId(call),
            attempt: 2,
        }
    }

    #[test]
    fn a_recall_survives_the_wire() {
        let call = SlotCall {
            slot: 3,
            seq: 8,
            dispatch: dispatch(4),
        };
        let recalled = Recalled {
            call,
            given_back: true,
        };
        let mut frame = Vec::new();
        recalled.pack(&mut frame);
        assert_eq!(Recalled::unpack(&frame).collect::<Vec<_>>(), [Ok(recalled)]);
    }
}
