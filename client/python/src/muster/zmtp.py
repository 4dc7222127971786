"""ZMTP 3.0 as a DEALER without keys speaks it: bytes to messages and back. Nothing here does I/O.

ZMTP 3.0 (rfc.zeromq.org/spec/23): a greeting of 64 bytes, a command READY from both sides, then frames. A frame
is flags, its size in one byte or eight, and its content.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from typing import Any

#: Larger frames end the connection, in bytes.
FRAME_BYTES_MAX = 512 << 20
#: From this size on a frame's content is read to where it stays, and written from where it is.
LARGE_BYTES = 64 << 10

MORE, LONG, COMMAND = 1, 2, 4
GREETING_BYTES = 64
_LONG = struct.Struct(">BQ")


class Broken(Exception):
    """What came is not what a ROUTER without keys sends."""


class Refused(Broken):
    """The other side does not want this connection."""


def _command(name: bytes, content: bytes) -> bytes:
    body = bytes((len(name),)) + name + content
    return bytes((COMMAND, len(body))) + body


def _property(name: bytes, value: bytes) -> bytes:
    return bytes((len(name),)) + name + struct.pack(">I", len(value)) + value


#: What is said first: version 3.0, mechanism NULL, and READY. The other side does not have to be waited for.
OPENING = (
    (b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0")).ljust(GREETING_BYTES, b"\0")
    + _command(b"READY", _property(b"Socket-Type", b"DEALER") + _property(b"Identity", b""))
)


def pack(body: bytes, frames: Sequence[Any]) -> list[Any]:
    """A message with an empty delimiter, as parts to be written in order; large ones are not copied."""
    last = len(frames)
    size = len(body)
    if size < 256 and not last:
        return [b"\x01\x00\x00%c%b" % (size, body)]
    parts: list[Any] = [b"\x01\x00", _LONG.pack(LONG | (MORE if last else 0), size), body]
    for at, frame in enumerate(frames, 1):
        content = memoryview(frame)
        content = content.cast("B") if content.c_contiguous else memoryview(content.tobytes())
        parts += (_LONG.pack(LONG | (MORE if at < last else 0), content.nbytes), content)
    return parts


class Decoder:
    """Takes bytes as they come and gives messages as they are whole."""

    def __init__(self) -> None:
        #: Whether the other side is ready for messages.
        self.is_ready = False
        #: Commands that are to be sent back, such as the answer to a PING.
        self.replies: list[bytes] = []
        self._is_greeted = False
        self._unread = b""
        self._messages: deque[list[Any]] = deque()
        # Of the message that is on its way.
        self._frames: list[Any] = []
        # A large frame that is on its way, whether others follow it, and how much of it is there.
        self._large: bytearray | None = None
        self._large_has_more = False
        self._large_end = 0

    def next(self) -> list[Any] | None:
        """The next message that is whole, as its frames."""
        return self._messages.popleft() if self._messages else None

    def room(self) -> memoryview | None:
        """Where the next bytes are to be read to, which `filled` is told of; None: anywhere, and `feed` is."""
        return None if self._large is None else memoryview(self._large)[self._large_end :]

    def filled(self, count: int) -> None:
        """So many bytes came to where there was room. Raises `Broken`."""
        content = self._large
        assert content is not None, "there was room"
        self._large_end += count
        if self._large_end == len(content):
            self._large = None
            self._add(content, self._large_has_more)

    def feed(self, content: bytes) -> None:
        """Takes bytes that came. Raises `Broken`."""
        unread = self._unread + content if self._unread else content
        at = 0
        if not self._is_greeted:
            if not _is_greeting(unread):
                self._unread = unread
                return
            self._is_greeted, at = True, GREETING_BYTES
        end = len(unread)
        while end - at >= 2:
            flags, size, start = unread[at], unread[at + 1], at + 2
            if flags & LONG:
                if end - at < _LONG.size:
                    break
                size, start = _LONG.unpack_from(unread, at)[1], at + _LONG.size
            if flags > MORE | LONG | COMMAND or size > FRAME_BYTES_MAX:
                raise Broken(f"a frame with flags {flags:#x} and {size} bytes")
            if end - start < size:
                if size >= LARGE_BYTES and not flags & COMMAND:
                    self._large, self._large_has_more = bytearray(size), bool(flags & MORE)
                    self._large_end = end - start
                    self._large[: end - start] = unread[start:]
                    at = end
                break
            at = start + size
            if flags & COMMAND:
                self._heed(unread[start:at])
            else:
                self._add(unread[start:at], bool(flags & MORE))
        self._unread = unread[at:]

    def _add(self, frame: Any, has_more: bool) -> None:
        if not self.is_ready:
            raise Broken("a message before READY")
        self._frames.append(frame)
        if not has_more:
            self._messages.append(self._frames)
            self._frames = []

    def _heed(self, command: bytes) -> None:
        name_end = 1 + command[0] if command else 0
        name, content = command[1:name_end], command[name_end:]
        if name == b"READY":
            self.is_ready = True
        elif name == b"PING":
            # Two bytes are a time to live, what follows is to come back.
            self.replies.append(_command(b"PONG", content[2:18]))
        elif name == b"ERROR":
            raise Refused(content[1:].decode(errors="replace"))


def _is_greeting(unread: bytes) -> bool:
    """Whether a greeting is there whole. Raises `Broken` if it will be none that we can talk to."""
    if not unread.startswith(b"\xff"[: len(unread)]) or unread[9:10] not in (b"", b"\x7f"):
        raise Broken("no greeting of ZMTP")
    if len(unread) > 10 and unread[10] < 3:
        raise Broken(f"ZMTP {unread[10]}")
    if len(unread) < GREETING_BYTES:
        return False
    mechanism = unread[12:32].rstrip(b"\0")
    if mechanism != b"NULL":
        raise Broken(f"the mechanism {mechanism!r}")
    return True
