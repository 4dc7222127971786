//! The first bytes of a ZMTP connection, which the splice exchanges itself.
//!
//! So a DEALER is made only for a peer that speaks ZMTP, offers the right security and is not too
//! old, and it is known before whether the peer answers PINGs.
//!
//! Source: ZMTP 3.1, section "Greeting", and ZMTP 2.0 for its predecessor.

use super::event::Stranger;

/// What the splice says first: signature and major version, byte for byte what libzmq sends. The
/// rest depends on the peer: it is [`rest`], or comes from the DEALER, whose own first bytes are dropped.
pub(super) const OPENING: [u8; 11] = [0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F, 3];

/// What a direct connection says next: version 3.1, NULL, no server, filler.
pub(super) fn rest() -> [u8; BYTES_V3 - OPENING.len()] {
    let mut rest = [0; BYTES_V3 - OPENING.len()];
    rest[0] = 1;
    rest[1..5].copy_from_slice(b"NULL");
    rest
}

const SIGNATURE_END: usize = 9;
const MAJOR: usize = 10;
const MINOR: usize = 11;
/// In a greeting of version 2, which has no minor one.
const SOCKET_TYPE_V2: usize = 11;
/// REP, DEALER and ROUTER.
const PEER_TYPES_V2: [u8; 3] = [4, 5, 6];
const MECHANISM: std::ops::Range<usize> = 12..32;
/// A greeting of version 2: signature, version, socket type.
const BYTES_V2: usize = 12;
/// A greeting of version 3: signature, version, mechanism, as-server, filler.
const BYTES_V3: usize = 64;

/// The peer's greeting as far as it has come.
#[derive(Debug, Clone)]
pub(super) struct Greeting {
    bytes: [u8; BYTES_V3],
    len: usize,
}

/// The protocol that a whole greeting announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dialect {
    /// ZMTP 2 has no handshake commands: each side sends its identity instead.
    pub has_commands: bool,
    /// From 3.1 on a PING is answered.
    pub answers_pings: bool,
    /// Commands are encrypted once the handshake is over.
    pub is_encrypted: bool,
    /// Bytes of either side's greeting.
    pub greeting_bytes: usize,
}

impl Dialect {
    /// Whether the loop can speak it without libzmq.
    pub fn is_direct(self) -> bool {
        self.has_commands && !self.is_encrypted
    }
}

impl Greeting {
    /// Nothing has come.
    pub fn new() -> Self {
        Greeting {
            bytes: [0; BYTES_V3],
            len: 0,
        }
    }

    /// Where to read the next bytes into; never beyond the greeting's end.
    pub fn room(&mut self) -> &mut [u8] {
        let end = if self.len > MAJOR && is_v2(self.bytes[MAJOR]) {
            BYTES_V2
        } else {
            BYTES_V3
        };
        // Up to the version the length is not known; bytes behind the end stay in the socket.
        let end = if self.len <= MAJOR { MAJOR + 1 } else { end };
        &mut self.bytes[self.len..end]
    }

    /// Takes note of `count` bytes read into [`room`](Self::room). `Some`: the greeting is whole.
    pub fn grow(&mut self, count: usize, curve: bool) -> Result<Option<Dialect>, Stranger> {
        self.len += count;
        let bytes = &self.bytes[..self.len];
        if bytes.first().is_some_and(|&byte| byte != 0xFF)
            || bytes.get(SIGNATURE_END).is_some_and(|&byte| byte != 0x7F)
        {
            return Err(Stranger::NotZmtp);
        }
        let Some(&major) = bytes.get(MAJOR) else {
            return Ok(None);
        };
        if major == 0 {
            return Err(Stranger::TooOld);
        }
        if is_v2(major) {
            // It knows no security.
            if curve {
                return Err(Stranger::Mechanism);
            }
            if let Some(socket_type) = bytes.get(SOCKET_TYPE_V2)
                && !PEER_TYPES_V2.contains(socket_type)
            {
                return Err(Stranger::SocketType);
            }
            return Ok((self.len == BYTES_V2).then_some(Dialect {
                has_commands: false,
                answers_pings: false,
                is_encrypted: false,
                greeting_bytes: BYTES_V2,
            }));
        }
        if self.len < BYTES_V3 {
            return Ok(None);
        }
        let expected: &[u8] = if curve { b"CURVE" } else { b"NULL" };
        let (name, padding) = bytes[MECHANISM].split_at(expected.len());
        if name != expected || padding.iter().any(|&byte| byte != 0) {
            return Err(Stranger::Mechanism);
        }
        Ok(Some(Dialect {
            has_commands: true,
            answers_pings: major > 3 || bytes[MINOR] >= 1,
            is_encrypted: curve,
            greeting_bytes: BYTES_V3,
        }))
    }

    /// The bytes that have come, to be passed on.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// libzmq 3 and its relatives; 2 was never released and reads the same.
fn is_v2(major: u8) -> bool {
    matches!(major, 1 | 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(major: u8, minor: u8, mechanism: &[u8]) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[0] = 0xFF;
        bytes[9] = 0x7F;
        bytes[10] = major;
        bytes[11] = minor;
        bytes[12..12 + mechanism.len()].copy_from_slice(mechanism);
        bytes
    }

    /// Feeds bytes in pieces of `step`, as a socket would.
    fn read(bytes: &[u8], step: usize, curve: bool) -> Result<Option<Dialect>, Stranger> {
        let mut greeting = Greeting::new();
        let mut at = 0;
        while at < bytes.len() {
            let room = greeting.room();
            let count = room.len().min(step).min(bytes.len() - at);
            room[..count].copy_from_slice(&bytes[at..at + count]);
            at += count;
            if let Some(dialect) = greeting.grow(count, curve)? {
                assert_eq!(greeting.bytes(), &bytes[..dialect.greeting_bytes]);
                return Ok(Some(dialect));
            }
        }
        Ok(None)
    }

    #[test]
    fn versions_are_told_apart_however_the_bytes_arrive() {
        for step in [1, 7, 64] {
            let v31 = read(&greeting(3, 1, b"NULL"), step, false)
                .unwrap()
                .unwrap();
            assert!(v31.answers_pings && v31.has_commands && !v31.is_encrypted);
            let v30 = read(&greeting(3, 0, b"NULL"), step, false)
                .unwrap()
                .unwrap();
            assert!(!v30.answers_pings && v30.has_commands);
            let curve = read(&greeting(3, 1, b"CURVE"), step, true)
                .unwrap()
                .unwrap();
            assert!(curve.is_encrypted);
            let v2 = read(&greeting(1, 4, b"")[..12], step, false)
                .unwrap()
                .unwrap();
            assert!(!v2.answers_pings && !v2.has_commands);
        }
    }

    #[test]
    fn a_greeting_that_is_not_whole_waits() {
        let bytes = greeting(3, 1, b"NULL");
        for len in 0..64 {
            assert_eq!(read(&bytes[..len], 64, false), Ok(None), "{len}");
        }
    }

    #[test]
    fn other_protocols_are_strangers_at_the_first_wrong_byte() {
        assert_eq!(
            read(b"GET / HTTP/1.1\r\n\r\n", 64, false),
            Err(Stranger::NotZmtp)
        );
        assert_eq!(read(b"\x01", 64, false), Err(Stranger::NotZmtp));
        assert_eq!(read(&[0xFF; 10], 64, false), Err(Stranger::NotZmtp));
        assert_eq!(read(&greeting(0, 0, b""), 64, false), Err(Stranger::TooOld));
    }

    #[test]
    fn the_wrong_socket_type_of_version_2_is_a_stranger() {
        for (socket_type, is_welcome) in [(3, false), (4, true), (5, true), (6, true), (7, false)] {
            let mut bytes = greeting(1, 0, b"");
            bytes[SOCKET_TYPE_V2] = socket_type;
            let read = read(&bytes[..12], 5, false);
            assert_eq!(read.is_ok(), is_welcome, "{socket_type}");
        }
    }

    #[test]
    fn the_wrong_security_is_a_stranger() {
        assert_eq!(
            read(&greeting(3, 1, b"NULL"), 64, true),
            Err(Stranger::Mechanism)
        );
        assert_eq!(
            read(&greeting(3, 1, b"CURVE"), 64, false),
            Err(Stranger::Mechanism)
        );
        assert_eq!(
            read(&greeting(3, 1, b"NULLX"), 64, false),
            Err(Stranger::Mechanism)
        );
        assert_eq!(
            read(&greeting(1, 4, b"")[..12], 64, true),
            Err(Stranger::Mechanism)
        );
    }
}
