//! Frame 0 of a message: which version speaks, and what the message is.

use super::VERSION;

/// What a message is, in the second byte of frame 0. Below 0x80 it goes to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Command {
    /// Control: a worker introduces itself ([`Registration`]).
    Register = 0x01,
    /// Control: the methods or slots changed ([`Registration`], whole).
    Changed = 0x02,
    /// Control: the process lives. No further frame.
    Heartbeat = 0x03,
    /// Control: no new calls, please; what runs is finished.
    Draining = 0x04,
    /// Control: the worker leaves now and holds nothing.
    Goodbye = 0x05,
    /// Control: what became of recalled calls ([`Recalled`], packed).
    Recalled = 0x06,
    /// Control or data: the child that ran a slot died ([`SlotLost`]).
    Lost = 0x07,
    /// Control or data: the slot has a living child again ([`SlotReady`]).
    Ready = 0x08,
    /// Control: no slot is opened for calls inside another ([`NotOpened`]).
    NotOpened = 0x0a,
    /// Data: this link is a slot of the worker with this token ([`Join`]).
    Join = 0x10,
    /// Data: answers ([`Reply`], packed, then attachments).
    Replies = 0x11,
    /// Data: a stream item of a running call ([`StreamItem`], then attachments).
    Stream = 0x12,
    /// To a peer the broker does not know: introduce yourself.
    Who = 0x81,
    /// Control: the registration is accepted ([`Welcome`]).
    Welcome = 0x82,
    /// Control or data: it is not, in words ([`Refused`]).
    Refused = 0x83,
    /// Control: stop running these calls ([`SlotCall`], packed).
    Cancel = 0x84,
    /// Control: give back these calls unless they have started ([`SlotCall`], packed).
    Recall = 0x85,
    /// Control: finish what runs, take no more, leave. Frame 1: grace in ms, decimal.
    Drain = 0x86,
    /// Control: have this many slots. Frame 1: decimal.
    Resize = 0x87,
    /// Control: replace the children one by one, reading their files again.
    Reload = 0x88,
    /// Control: the last lines of the worker's log, please. Frame 1: request number and lines.
    Logs = 0x89,
    /// Control: the broker heard the heartbeat.
    Beat = 0x8a,
    /// Control: open a slot for the calls inside another ([`Nest`]).
    Open = 0x8e,
    /// Control: close such a slot. Frame 1: its number, decimal.
    Close = 0x8f,
    /// Data: calls to run ([`Call`], packed, then attachments).
    Calls = 0x90,
    /// Data: the slot is known and will be given calls.
    Joined = 0x91,
}

impl Command {
    /// Every command, those to the broker first.
    pub const ALL: [Command; 26] = [
        Command::Register,
        Command::Changed,
        Command::Heartbeat,
        Command::Draining,
        Command::Goodbye,
        Command::Recalled,
        Command::Lost,
        Command::Ready,
        Command::NotOpened,
        Command::Join,
        Command::Replies,
        Command::Stream,
        Command::Who,
        Command::Welcome,
        Command::Refused,
        Command::Cancel,
        Command::Recall,
        Command::Drain,
        Command::Resize,
        Command::Reload,
        Command::Logs,
        Command::Beat,
        Command::Open,
        Command::Close,
        Command::Calls,
        Command::Joined,
    ];

    /// Frame 0 of a message with this command.
    pub const fn frame(self) -> [u8; 2] {
        [VERSION, self as u8]
    }

    /// Reads frame 0.
    ///
    /// # Errors
    /// [`WireError`] when it is no frame 0 of this version.
    pub fn read(frame: &[u8]) -> Result<Command, WireError> {
        match *frame {
            [VERSION, byte] => Command::ALL
                .into_iter()
                .find(|command| *command as u8 == byte)
                .ok_or(WireError::UnknownCommand { byte }),
            [version, _] => Err(WireError::Version { version }),
            _ => Err(WireError::Malformed { what: "frame 0" }),
        }
    }
}

/// Why a message of the worker protocol can't be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Frame 0 names another version.
    #[error("protocol version {version}, this side speaks {VERSION}")]
    Version {
        /// What it names.
        version: u8,
    },
    /// Frame 0 names a command nobody defined.
    #[error("unknown command 0x{byte:02x}")]
    UnknownCommand {
        /// The byte.
        byte: u8,
    },
    /// A frame is missing, too short or not what it should be.
    #[error("malformed {what}")]
    Malformed {
        /// Which part.
        what: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_read_back() {
        for byte in 0..=255 {
            if let Ok(command) = Command::read(&[VERSION, byte]) {
                assert_eq!(command.frame(), [VERSION, byte]);
            }
        }
        assert_eq!(
            Command::read(&[2, 1]),
            Err(WireError::Version { version: 2 })
        );
        assert_eq!(
            Command::read(&[1, 0x7f]),
            Err(WireError::UnknownCommand { byte: 0x7f })
        );
        assert!(Command::read(b"abc").is_err());
    }
}
