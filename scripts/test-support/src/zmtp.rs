//! ZMTP as bytes (RFC 23), for peers that are as old, as slow and as hostile as a test needs them.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::Duration;

/// A frame's flag: more frames of the message follow.
pub const MORE: u8 = 1;
/// A frame's flag: its length takes eight bytes.
pub const LONG: u8 = 2;
/// A frame's flag: it is a command.
pub const COMMAND: u8 = 4;

/// The first ten bytes of every greeting since ZMTP 2.
pub const SIGNATURE: [u8; 10] = [0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F];
/// The length of a greeting of version 3.
pub const GREETING_BYTES: usize = 64;

/// The greeting of ZMTP 3.`minor`, of a peer that is no server.
pub fn greeting(minor: u8, mechanism: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend_from_slice(&[3, minor]);
    bytes.extend_from_slice(mechanism);
    bytes.resize(GREETING_BYTES, 0);
    bytes
}

/// A frame with its head.
pub fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = match u8::try_from(body.len()) {
        Ok(len) => vec![flags, len],
        Err(_) => {
            let mut head = vec![flags | LONG];
            head.extend_from_slice(&(body.len() as u64).to_be_bytes());
            head
        }
    };
    bytes.extend_from_slice(body);
    bytes
}

/// One property of a READY.
pub fn property(name: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![name.len() as u8];
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(&(value.len() as u32).to_be_bytes());
    bytes.extend_from_slice(value);
    bytes
}

/// The frame of READY, with a socket type and properties beyond it.
pub fn ready(socket_type: &str, properties: &[u8]) -> Vec<u8> {
    let mut body = b"\x05READY".to_vec();
    body.extend_from_slice(&property("Socket-Type", socket_type.as_bytes()));
    body.extend_from_slice(properties);
    frame(COMMAND, &body)
}

/// A connection to `HOST:PORT` (`tcp://` may stand before it) that waits for nothing longer than
/// `patience`.
///
/// # Panics
/// If nobody listens there.
pub fn connect(address: &str, patience: Duration) -> TcpStream {
    let stream = TcpStream::connect(address.trim_start_matches("tcp://")).expect("a listener");
    let timeout = Some(patience);
    stream.set_read_timeout(timeout).expect("a timeout");
    stream.set_write_timeout(timeout).expect("a timeout");
    stream
}

/// Whether the other side hangs up instead of taking what was said. What it says is skipped.
pub fn is_hung_up(stream: &mut impl Read) -> bool {
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::ConnectionReset,
        }
    }
}
