"""The worker protocol's messages: frame 0 and the packed records.

docs/protocol.md, "Worker protocol", is what they have to be, byte for byte.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

VERSION = 1

RAW, OWN_FRAME, STREAM, FRAMES, ERROR, WHOLE, SHARED = 1, 2, 4, 8, 16, 32, 64


#: Kinds of stream items.
PROGRESS, OUTPUT, ITEM = 1, 2, 3


class Command(IntEnum):
    """What a message is, in the second byte of frame 0."""

    REGISTER = 0x01
    CHANGED = 0x02
    HEARTBEAT = 0x03
    DRAINING = 0x04
    GOODBYE = 0x05
    RECALLED = 0x06
    LOST = 0x07
    READY = 0x08
    NOT_OPENED = 0x0A
    JOIN = 0x10
    REPLIES = 0x11
    STREAM = 0x12
    WHO = 0x81
    WELCOME = 0x82
    REFUSED = 0x83
    CANCEL = 0x84
    RECALL = 0x85
    DRAIN = 0x86
    RESIZE = 0x87
    RELOAD = 0x88
    LOGS = 0x89
    BEAT = 0x8A
    OPEN = 0x8E
    CLOSE = 0x8F
    CALLS = 0x90
    JOINED = 0x91

    @property
    def frame(self) -> bytes:
        """Frame 0 of a message with this command."""
        return bytes((VERSION, self))


def read_command(frame: bytes) -> Command | None:
    """The command in frame 0; None when this version has no such command."""
    if len(frame) != 2 or frame[0] != VERSION:
        return None
    try:
        return Command(frame[1])
    except ValueError:
        return None


#: epoch, call, attempt: the fence, returned as it came.
DISPATCH_BYTES = 20

_CALL = struct.Struct("<20sIIIBBIIHH")
_REPLY = struct.Struct("<20sIIBBII")
SLOT_CALL = struct.Struct("<II20s")
_STREAM = struct.Struct("<IB")
_RECALLED = struct.Struct("<II20sB")


@dataclass(slots=True)
class Call:
    """One call to a slot. `remaining_ms` is its time left, of a chunk each item's; 0: no limit."""

    dispatch: bytes
    seq: int
    remaining_ms: int
    items: int
    flags: int
    id: bytes
    method: str
    params: memoryview | bytes
    frames: list[object]


def unpack_calls(packed: bytes, frames: list[object]) -> Iterator[Call]:
    """The calls of a message. `frames` are those behind the records. Raises `struct.error`."""
    at = 0
    taken = 0
    whole = memoryview(packed)
    while at < len(packed):
        dispatch, seq, remaining_ms, items, flags, attachments, start, length, id_bytes, method_bytes = (
            _CALL.unpack_from(packed, at)
        )
        at += _CALL.size
        id = packed[at : at + id_bytes]
        at += id_bytes
        method = packed[at : at + method_bytes].decode()
        at += method_bytes
        if flags & OWN_FRAME:
            frame = frames[taken]
            params: memoryview | bytes = memoryview(frame)[start : start + length]  # type: ignore[arg-type]
            taken += 1
        else:
            params = whole[at : at + length]
            at += length
        yield Call(
            dispatch, seq, remaining_ms, items, flags, id, method, params, frames[taken : taken + attachments]
        )
        taken += attachments


def pack_reply(
    dispatch: bytes, service_us: int, items: int, flags: int, attachments: int, body: bytes
) -> bytes:
    """A reply's record. With `OWN_FRAME` the body is not in it but in a frame of its own."""
    head = _REPLY.pack(dispatch, min(service_us, 0xFFFFFFFF), items, flags, attachments, 0, len(body))
    return head if flags & OWN_FRAME else head + body


def pack_stream_item(dispatch: bytes, seq: int, kind: int, value: bytes) -> bytes:
    """A stream item; `seq` counts those of its kind."""
    return dispatch + _STREAM.pack(seq, kind) + value


def unpack_slot_calls(packed: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Slot, number in the slot, and dispatch of cancelled or recalled calls."""
    return SLOT_CALL.iter_unpack(packed)


def pack_recalled(slot: int, seq: int, dispatch: bytes, is_given_back: bool) -> bytes:
    """The answer to the recall of one call."""
    return _RECALLED.pack(slot, seq, dispatch, is_given_back)
