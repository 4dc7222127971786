//! The worker protocol: what travels between a worker and the broker's `workers` ROUTER.
//!
//! Frame 0 of every message is two bytes, the protocol's version and a [`Command`]. Control
//! messages carry JSON in frame 1, the data path ([`Call`], [`Reply`]) packed little-endian
//! records, several to a frame, so that small calls share the cost of a message.
//!
//! Source: docs/protocol.md, "Worker protocol".

use crate::id::{CallId, DispatchId, Epoch};
use serde::{Deserialize, Serialize};

/// The version this code speaks; a registration carries the range a worker speaks.
pub const VERSION: u8 = 1;

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

/// One parameter of a method.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Param {
    /// Its name.
    pub name: String,
    /// Whether a call may leave it out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// A method on offer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Method {
    /// The name callers use.
    pub name: String,
    /// Its parameters in order; `None` when they are unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Vec<Param>>,
    /// Its documentation, or "".
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doc: String,
    /// Whether a call that may have run already must not run again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
    /// Whether it takes map chunks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub chunks: bool,
}

/// What a worker says of itself, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Lowest and highest protocol version it speaks.
    pub protocol: (u8, u8),
    /// Random, 32 hex digits: what its slots' data links join with.
    pub token: String,
    /// The worker's name, unique in the cluster.
    pub name: String,
    /// Its host.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// How many slots it has.
    pub slots: u32,
    /// The program's version.
    #[serde(default)]
    pub version: String,
    /// What it offers.
    pub methods: Vec<Method>,
    /// Whether it takes raw bodies.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub raw: bool,
    /// Whether it runs commands of clients (`--allow-run`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_run: bool,
    /// Whether it runs functions shipped by clients (`--allow-apply`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_apply: bool,
}

/// The broker's answer to a registration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The name it goes by; another one if the wished name was taken.
    pub name: String,
    /// The broker's run, 16 hex digits.
    pub epoch: String,
    /// How often a heartbeat is due.
    pub heartbeat_ms: u64,
}

/// Why the broker does not take a worker or a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// A number of the code table.
    pub code: i64,
    /// In words.
    pub message: String,
}

/// A data link's first message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The worker's token.
    pub token: String,
    /// Which slot, from 1.
    pub slot: u32,
    /// The process that runs the slot's calls, as far as known.
    #[serde(default)]
    pub pid: u32,
    /// What it was opened for, if it serves only the calls inside another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nest: Option<Nest>,
}

/// One run of a call that others are made inside of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nest {
    /// The call, as `c123`.
    pub call: String,
    /// Which of its attempts.
    pub attempt: u32,
}

/// A worker has as many slots open for calls inside others as it allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotOpened {
    /// What a slot was asked for.
    pub nest: Nest,
    /// How many it opens at most.
    pub max: u32,
}

/// The child that ran a slot died, or was killed for a deadline or a cancel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotLost {
    /// Which slot, from 1.
    pub slot: u32,
    /// Its process.
    pub pid: u32,
    /// The exit code, when it exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal, when one ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Whether it was the kernel's memory killer or the worker's own limit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub out_of_memory: bool,
    /// The last lines of its standard error.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stderr_tail: String,
    /// The supervisor ended it on purpose (deadline, cancel, recycle): no crash.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_purpose: bool,
    /// How long until its successor is started, in ms.
    #[serde(default)]
    pub backoff_ms: u64,
}

/// The slot serves again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotReady {
    /// Which slot, from 1.
    pub slot: u32,
    /// Its new process.
    pub pid: u32,
}

/// Takes little-endian numbers off the front of a packed frame.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn bytes(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], WireError> {
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

    fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    fn u16(&mut self, what: &'static str) -> Result<u16, WireError> {
        self.array(what).map(u16::from_le_bytes)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, WireError> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn dispatch(&mut self, what: &'static str) -> Result<DispatchId, WireError> {
        Ok(DispatchId {
            epoch: Epoch(self.u64(what)?),
            call: CallId(self.u64(what)?),
            attempt: self.u32(what)?,
        })
    }

    fn text(&mut self, count: usize, what: &'static str) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.bytes(count, what)?).map_err(|_| WireError::Malformed { what })
    }
}

fn put_dispatch(out: &mut Vec<u8>, id: DispatchId) {
    out.extend_from_slice(&id.epoch.0.to_le_bytes());
    out.extend_from_slice(&id.call.0.to_le_bytes());
    out.extend_from_slice(&id.attempt.to_le_bytes());
}

/// What a call's or reply's bytes are and where they stand.
pub mod flag {
    /// The body is opaque, not parameters or a result as JSON.
    pub const RAW: u8 = 1;
    /// The body is not in the record but the next attachment frame, a span of it.
    pub const OWN_FRAME: u8 = 2;
    /// Calls: the caller wants stream items.
    pub const STREAM: u8 = 4;
    /// Calls: the reply may carry attachments.
    pub const FRAMES: u8 = 8;
    /// Replies: the body is an error object.
    pub const ERROR: u8 = 16;
    /// Replies: the body is a whole JSON-RPC reply, made by the worker with the call's id, that
    /// goes to the client as it is (a large result is not copied in the broker).
    pub const WHOLE: u8 = 32;
}

/// Where the bytes of a record are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes<'a> {
    /// In the record itself.
    Inline(&'a [u8]),
    /// `start..start + len` of the record's first attachment frame. For a JSON body the frame is
    /// the client's whole body and the span its parameters; an empty span means none.
    OwnFrame {
        /// Offset in the frame.
        start: u32,
        /// Length in the frame.
        len: u32,
    },
}

/// One call to a slot. Its frames (an own body frame first, then the attachments) follow the
/// packed frame, in the order of the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// The fence, to be returned with the reply.
    pub dispatch: DispatchId,
    /// Counts the calls given to this slot since it joined, from 1: what a recall names.
    pub seq: u32,
    /// Time left, in ms; 0: no deadline. For a chunk the timeout of each item.
    pub remaining_ms: u32,
    /// Items of a map chunk; 0: a plain call.
    pub items: u32,
    /// [`flag`] bits `RAW`, `STREAM`, `FRAMES`.
    pub flags: u8,
    /// Attachments, an own body frame not counted.
    pub attachments: u8,
    /// The caller's id as JSON (for [`flag::WHOLE`] replies); empty for raw bodies.
    pub id: &'a str,
    /// The method; empty for raw bodies.
    pub method: &'a str,
    /// Parameters as JSON (empty: none), or the raw body.
    pub body: Bytes<'a>,
}

impl<'a> Call<'a> {
    /// Appends the record to a packed frame.
    pub fn pack(&self, out: &mut Vec<u8>) {
        put_dispatch(out, self.dispatch);
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.extend_from_slice(&self.remaining_ms.to_le_bytes());
        out.extend_from_slice(&self.items.to_le_bytes());
        pack_head(out, self.flags, self.attachments, self.body);
        out.extend_from_slice(&(self.id.len() as u16).to_le_bytes());
        out.extend_from_slice(&(self.method.len() as u16).to_le_bytes());
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(self.method.as_bytes());
        if let Bytes::Inline(bytes) = self.body {
            out.extend_from_slice(bytes);
        }
    }

    /// The records of a packed frame; ends after the first malformed one.
    pub fn unpack(frame: &'a [u8]) -> impl Iterator<Item = Result<Call<'a>, WireError>> {
        Records {
            cursor: Cursor { rest: frame },
            take: Call::take,
        }
    }

    fn take(cursor: &mut Cursor<'a>) -> Result<Self, WireError> {
        const WHAT: &str = "call";
        let dispatch = cursor.dispatch(WHAT)?;
        let seq = cursor.u32(WHAT)?;
        let remaining_ms = cursor.u32(WHAT)?;
        let items = cursor.u32(WHAT)?;
        let head = Head::take(cursor, WHAT)?;
        let id_len = cursor.u16(WHAT)?;
        let method_len = cursor.u16(WHAT)?;
        let id = cursor.text(id_len.into(), WHAT)?;
        let method = cursor.text(method_len.into(), WHAT)?;
        Ok(Call {
            dispatch,
            seq,
            remaining_ms,
            items,
            flags: head.flags,
            attachments: head.attachments,
            id,
            method,
            body: head.body(cursor, WHAT)?,
        })
    }
}

/// One answer of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The fence of the call.
    pub dispatch: DispatchId,
    /// How long the function ran, by the worker's clock.
    pub service_us: u32,
    /// Items done, for a chunk; else 1.
    pub items: u32,
    /// [`flag`] bits `RAW`, `ERROR`, `WHOLE`.
    pub flags: u8,
    /// Attachments, an own body frame not counted.
    pub attachments: u8,
    /// The result or error object as JSON, a whole reply, or raw bytes.
    pub body: Bytes<'a>,
}

impl<'a> Reply<'a> {
    /// Appends the record to a packed frame.
    pub fn pack(&self, out: &mut Vec<u8>) {
        put_dispatch(out, self.dispatch);
        out.extend_from_slice(&self.service_us.to_le_bytes());
        out.extend_from_slice(&self.items.to_le_bytes());
        pack_head(out, self.flags, self.attachments, self.body);
        if let Bytes::Inline(bytes) = self.body {
            out.extend_from_slice(bytes);
        }
    }

    /// The records of a packed frame; ends after the first malformed one.
    pub fn unpack(frame: &'a [u8]) -> impl Iterator<Item = Result<Reply<'a>, WireError>> {
        Records {
            cursor: Cursor { rest: frame },
            take: Reply::take,
        }
    }

    fn take(cursor: &mut Cursor<'a>) -> Result<Self, WireError> {
        const WHAT: &str = "reply";
        let dispatch = cursor.dispatch(WHAT)?;
        let service_us = cursor.u32(WHAT)?;
        let items = cursor.u32(WHAT)?;
        let head = Head::take(cursor, WHAT)?;
        Ok(Reply {
            dispatch,
            service_us,
            items,
            flags: head.flags,
            attachments: head.attachments,
            body: head.body(cursor, WHAT)?,
        })
    }
}

/// flags (1), attachments (1), start (4), length (4): shared by calls and replies.
struct Head {
    flags: u8,
    attachments: u8,
    start: u32,
    len: u32,
}

fn pack_head(out: &mut Vec<u8>, flags: u8, attachments: u8, body: Bytes<'_>) {
    let (own, start, len) = match body {
        Bytes::Inline(bytes) => (0, 0, bytes.len() as u32),
        Bytes::OwnFrame { start, len } => (flag::OWN_FRAME, start, len),
    };
    out.push(flags & !flag::OWN_FRAME | own);
    out.push(attachments);
    out.extend_from_slice(&start.to_le_bytes());
    out.extend_from_slice(&len.to_le_bytes());
}

impl Head {
    fn take(cursor: &mut Cursor<'_>, what: &'static str) -> Result<Self, WireError> {
        Ok(Head {
            flags: cursor.u8(what)?,
            attachments: cursor.u8(what)?,
            start: cursor.u32(what)?,
            len: cursor.u32(what)?,
        })
    }

    fn body<'a>(
        &self,
        cursor: &mut Cursor<'a>,
        what: &'static str,
    ) -> Result<Bytes<'a>, WireError> {
        if self.flags & flag::OWN_FRAME != 0 {
            return Ok(Bytes::OwnFrame {
                start: self.start,
                len: self.len,
            });
        }
        cursor.bytes(self.len as usize, what).map(Bytes::Inline)
    }
}

struct Records<'a, T> {
    cursor: Cursor<'a>,
    take: fn(&mut Cursor<'a>) -> Result<T, WireError>,
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

/// What a stream item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum StreamKind {
    /// `rpc.progress`: `{"done":…,"total":…}`.
    Progress = 1,
    /// `rpc.output`: `{"stream":"stdout","text":…}`.
    Output = 2,
    /// `rpc.item`: a value that a generator yielded.
    Item = 3,
}

impl StreamKind {
    /// Every kind, by its number.
    pub const ALL: [StreamKind; 3] = [StreamKind::Progress, StreamKind::Output, StreamKind::Item];

    /// The method of the notification that the caller gets.
    pub fn method(self) -> &'static str {
        match self {
            StreamKind::Progress => "rpc.progress",
            StreamKind::Output => "rpc.output",
            StreamKind::Item => "rpc.item",
        }
    }
}

/// One stream item of a running call; its value is JSON and its attachments follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamItem<'a> {
    /// The dispatch it belongs to.
    pub dispatch: DispatchId,
    /// Counts the items of the dispatch that are of this kind, from 1.
    pub seq: u32,
    /// What it is.
    pub kind: StreamKind,
    /// Its value as JSON.
    pub value: &'a [u8],
}

impl<'a> StreamItem<'a> {
    /// The packed frame.
    pub fn pack(&self, out: &mut Vec<u8>) {
        put_dispatch(out, self.dispatch);
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.push(self.kind as u8);
        out.extend_from_slice(self.value);
    }

    /// Reads a packed frame.
    ///
    /// # Errors
    /// [`WireError::Malformed`] when it is too short or of no known kind.
    pub fn unpack(frame: &'a [u8]) -> Result<Self, WireError> {
        const WHAT: &str = "stream item";
        let mut cursor = Cursor { rest: frame };
        let dispatch = cursor.dispatch(WHAT)?;
        let seq = cursor.u32(WHAT)?;
        let kind = match cursor.u8(WHAT)? {
            1 => StreamKind::Progress,
            2 => StreamKind::Output,
            3 => StreamKind::Item,
            _ => return Err(WireError::Malformed { what: WHAT }),
        };
        Ok(StreamItem {
            dispatch,
            seq,
            kind,
            value: cursor.rest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dispatch(call: u64) -> DispatchId {
        DispatchId {
            epoch: Epoch(77),
            call: CallId(call),
            attempt: 2,
        }
    }

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

    #[test]
    fn calls_share_a_frame() {
        let first = Call {
            dispatch: dispatch(1),
            seq: 1,
            remaining_ms: 500,
            items: 0,
            flags: flag::FRAMES,
            attachments: 1,
            id: "\"x\"",
            method: "multiply",
            body: Bytes::Inline(b"[5,3]"),
        };
        let second = Call {
            seq: 2,
            flags: flag::OWN_FRAME,
            body: Bytes::OwnFrame {
                start: 9,
                len: 1 << 20,
            },
            ..first
        };
        let mut frame = Vec::new();
        first.pack(&mut frame);
        second.pack(&mut frame);
        let read: Vec<_> = Call::unpack(&frame).collect();
        assert_eq!(read, [Ok(first), Ok(second)]);
    }

    #[test]
    fn a_cut_record_is_malformed_at_every_length() {
        let mut frame = Vec::new();
        let reply = Reply {
            dispatch: dispatch(9),
            service_us: 12,
            items: 1,
            flags: 0,
            attachments: 0,
            body: Bytes::Inline(b"15"),
        };
        reply.pack(&mut frame);
        assert_eq!(Reply::unpack(&frame).collect::<Vec<_>>(), [Ok(reply)]);
        for len in 1..frame.len() {
            let read: Vec<_> = Reply::unpack(&frame[..len]).collect();
            assert_eq!(read, [Err(WireError::Malformed { what: "reply" })], "{len}");
        }
    }

    #[test]
    fn recalls_and_stream_items_survive_the_wire() {
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
        let item = StreamItem {
            dispatch: dispatch(4),
            seq: 1,
            kind: StreamKind::Item,
            value: b"[1]",
        };
        frame.clear();
        item.pack(&mut frame);
        assert_eq!(StreamItem::unpack(&frame), Ok(item));
    }
}
