//! Packed little-endian records, read one after the other.

use super::WireError;
use crate::id::{CallId, DispatchId, Epoch};

/// Takes little-endian numbers off the front of a packed frame.
pub(super) struct Cursor<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn bytes(
        &mut self,
        count: usize,
        what: &'static str,
    ) -> Result<&'a [u8], WireError> {
        let (head, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(WireError::Malformed { what })?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WireError> {
        let (head, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(WireError::Malformed { what })?;
        self.rest = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self, what: &'static str) -> Result<u16, WireError> {
        self.array(what).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, WireError> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub(super) fn dispatch(&mut self, what: &'static str) -> Result<DispatchId, WireError> {
        Ok(DispatchId {
            epoch: Epoch(self.u64(what)?),
            call: CallId(self.u64(what)?),
            attempt: self.u32(what)?,
        })
    }

    pub(super) fn text(&mut self, count: usize, what: &'static str) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.bytes(count, what)?).map_err(|_| WireError::Malformed { what })
    }
}

pub(super) fn put_dispatch(out: &mut Vec<u8>, id: DispatchId) {
    let mut bytes = Fixed::<20>::default();
    bytes.dispatch(id);
    out.extend_from_slice(&bytes.whole());
}

/// The front of a record, `N` bytes whatever it says, filled one number after the other.
pub(super) struct Fixed<const N: usize> {
    bytes: [u8; N],
    filled: usize,
}

impl<const N: usize> Default for Fixed<N> {
    fn default() -> Self {
        Fixed {
            bytes: [0; N],
            filled: 0,
        }
    }
}

impl<const N: usize> Fixed<N> {
    pub(super) fn put<const M: usize>(&mut self, number: [u8; M]) {
        self.bytes[self.filled..self.filled + M].copy_from_slice(&number);
        self.filled += M;
    }

    pub(super) fn dispatch(&mut self, id: DispatchId) {
        self.put(id.epoch.0.to_le_bytes());
        self.put(id.call.0.to_le_bytes());
        self.put(id.attempt.to_le_bytes());
    }

    /// The bytes, when all of them are there.
    pub(super) fn whole(self) -> [u8; N] {
        assert_eq!(self.filled, N, "a record's front has one length");
        self.bytes
    }
}

/// The records of a packed frame; ends after the first malformed one.
pub(super) struct Records<'a, T> {
    pub(super) cursor: Cursor<'a>,
    pub(super) take: fn(&mut Cursor<'a>) -> Result<T, WireError>,
}

impl<T> Iterator for Records<'_, T> {
    type Item = Result<T, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.cursor.rest.is_empty() {
            return None;
        }
        let record = (self.take)(&mut self.cursor);
        if record.is_err() {
            self.cursor.rest = &[];
        }
        Some(record)
    }
}
