//! A ZMTP peer made of bytes: as old, as slow and as hostile as a test needs it.

use std::io::{Read, Write};
use std::net::TcpStream;

use muster_test_support::zmtp::{self, COMMAND, LONG, MORE, SIGNATURE, frame, greeting, ready};

use crate::rig::PATIENCE;

pub struct RawPeer {
    pub stream: TcpStream,
}

impl RawPeer {
    /// A connection on which nothing was said.
    pub fn connect(address: &str) -> Self {
        let stream = zmtp::connect(address, PATIENCE);
        stream.set_nodelay(true).unwrap();
        RawPeer { stream }
    }

    /// A peer of ZMTP 3.MINOR that has done its part of the handshake.
    pub fn rep(address: &str, minor: u8) -> Self {
        let mut peer = Self::connect(address);
        peer.write(&greeting(minor, b"NULL"));
        peer.write(&ready("REP", &[]));
        peer
    }

    /// A peer of ZMTP 2.0 that has done its part of the handshake.
    pub fn old_rep(address: &str) -> Self {
        let mut peer = Self::connect(address);
        peer.write(&SIGNATURE);
        // Version 2.0, and REP.
        peer.write(&[1, 4]);
        peer.write_frame(0, b"");
        peer
    }

    /// Reads the other side's part of it.
    pub fn finish_old_handshake(&mut self) {
        let greeting = self.read(12);
        assert_eq!(greeting[..10], SIGNATURE);
        assert_eq!(greeting[11], 5, "a DEALER");
        assert_eq!(self.read_frame(), (0, Vec::new()));
    }

    /// Reads the other side's part of the handshake.
    pub fn finish_handshake(&mut self) {
        let greeting = self.read(64);
        assert_eq!(greeting[..10], SIGNATURE);
        let (flags, body) = self.read_frame();
        assert_eq!(flags, COMMAND);
        assert!(body.starts_with(b"\x05READY"));
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn write_frame(&mut self, flags: u8, body: &[u8]) {
        self.write(&frame(flags, body));
    }

    pub fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    pub fn read_frame(&mut self) -> (u8, Vec<u8>) {
        let flags = self.read(1)[0];
        let len = if flags & LONG == 0 {
            usize::from(self.read(1)[0])
        } else {
            u64::from_be_bytes(self.read(8).try_into().unwrap()) as usize
        };
        (flags & !LONG, self.read(len))
    }

    /// The next message, PINGs in front of it answered.
    pub fn read_message(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        loop {
            let (flags, body) = self.read_frame();
            if flags & COMMAND != 0 {
                assert!(body.starts_with(b"\x04PING"), "{body:?}");
                self.write_frame(COMMAND, b"\x04PONG");
                continue;
            }
            frames.push(body);
            if flags & MORE == 0 {
                return frames;
            }
        }
    }

    pub fn write_message(&mut self, frames: &[Vec<u8>]) {
        let (last, front) = frames.split_last().unwrap();
        for frame in front {
            self.write_frame(MORE, frame);
        }
        self.write_frame(0, last);
    }

    /// Whether the other side hangs up; what it says before is dropped.
    pub fn is_hung_up(&mut self) -> bool {
        zmtp::is_hung_up(&mut self.stream)
    }
}
