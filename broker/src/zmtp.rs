//! ZMTP 3 as bytes: frames into messages and commands, and back. No I/O.
//!
//! What a lane's connection carries once both sides have greeted each other, without encryption.
//! libzmq speaks for everything else: CURVE, and peers of ZMTP 2.
//!
//! Source: ZMTP 3.1, sections "Framing Layer", "Connection Heartbeating" and "The NULL Security
//! Mechanism".

pub(crate) mod command;
pub(crate) mod decode;
pub(crate) mod outbox;

/// Another frame of the message follows.
const MORE: u8 = 1;
/// The length takes eight bytes instead of one.
const LONG: u8 = 2;
/// A command, no part of a message.
const COMMAND: u8 = 4;

/// Flags and a long length.
const HEADER_BYTES_MAX: usize = 9;
