//! The commands that a lane's connection needs.

/// What the broker's side of a lane is.
const SOCKET_TYPE: &str = "DEALER";
/// Whom a DEALER may talk to.
const PEER_TYPES: [&[u8]; 3] = [b"REP", b"DEALER", b"ROUTER"];

/// Asks for a sign of life. The peer may not draw conclusions from our silence: TTL 0.
pub(crate) const PING: &[u8] = b"\x04PING\0\0";

/// A PING's context comes back in its PONG; libzmq cuts it here as well.
const CONTEXT_BYTES_MAX: usize = 16;

/// Our last word in the handshake. A DEALER names its identity; ours has none.
pub(crate) fn ready() -> Vec<u8> {
    let mut body = b"\x05READY".to_vec();
    for (name, value) in [("Socket-Type", SOCKET_TYPE), ("Identity", "")] {
        body.push(name.len() as u8);
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(&(value.len() as u32).to_be_bytes());
        body.extend_from_slice(value.as_bytes());
    }
    body
}

/// Whether a command is a READY of somebody whom a DEALER can talk to.
pub(crate) fn is_welcome(command: &[u8]) -> bool {
    command
        .strip_prefix(b"\x05READY")
        .and_then(socket_type)
        .is_some_and(|name| PEER_TYPES.contains(&name))
}

/// The socket type among the properties of a READY; `None` also when they can't be read.
fn socket_type(mut properties: &[u8]) -> Option<&[u8]> {
    let mut found = None;
    while let Some((&len, rest)) = properties.split_first() {
        let (name, rest) = rest.split_at_checked(len.into())?;
        let (len, rest) = rest.split_first_chunk()?;
        let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
        let (value, rest) = rest.split_at_checked(len)?;
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            found = Some(value);
        }
        properties = rest;
    }
    found
}

/// The answer to a PING; `None`: the command is none.
pub(crate) fn pong(command: &[u8]) -> Option<Vec<u8>> {
    // Behind the name is the TTL, of two bytes.
    let context = command.strip_prefix(b"\x04PING")?.get(2..)?;
    let context = &context[..context.len().min(CONTEXT_BYTES_MAX)];
    Some([b"\x04PONG", context].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready_of(properties: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut body = b"\x05READY".to_vec();
        for (name, value) in properties {
            body.push(name.len() as u8);
            body.extend_from_slice(name);
            body.extend_from_slice(&(value.len() as u32).to_be_bytes());
            body.extend_from_slice(value);
        }
        body
    }

    #[test]
    fn whoever_fits_a_dealer_is_welcome() {
        for name in [&b"REP"[..], b"DEALER", b"ROUTER"] {
            assert!(is_welcome(&ready_of(&[(b"Socket-Type", name)])));
            let ready = ready_of(&[
                (b"X-Other", b"1"),
                (b"socket-type", name),
                (b"Identity", b""),
            ]);
            assert!(is_welcome(&ready));
        }
        // Our own word is one that libzmq's DEALER would say.
        assert!(is_welcome(&ready()));
    }

    #[test]
    fn others_and_the_unreadable_are_not() {
        for name in [&b"REQ"[..], b"PUSH", b"SUB", b"", b"rep", b"REPX"] {
            assert!(!is_welcome(&ready_of(&[(b"Socket-Type", name)])));
        }
        assert!(!is_welcome(&ready_of(&[])));
        assert!(!is_welcome(b"\x05ERROR\x00"));
        let whole = ready_of(&[(b"Socket-Type", b"REP")]);
        for len in 0..whole.len() {
            assert!(!is_welcome(&whole[..len]), "{len}");
        }
        let endless = [
            &ready_of(&[(b"Socket-Type", b"REP")])[..],
            b"\x01x\xff\xff\xff\xff",
        ]
        .concat();
        assert!(!is_welcome(&endless));
    }

    #[test]
    fn a_ping_is_answered_with_its_context() {
        assert_eq!(pong(PING).unwrap(), b"\x04PONG");
        assert_eq!(pong(b"\x04PING\0\x0aabc").unwrap(), b"\x04PONGabc");
        let long = [b"\x04PING\0\0", &[b'x'; 100][..]].concat();
        assert_eq!(pong(&long).unwrap().len(), 5 + CONTEXT_BYTES_MAX);
        assert_eq!(pong(b"\x04PING\0"), None);
        assert_eq!(pong(b"\x04PONG"), None);
    }
}
