"""The two pipes between a child and its slot.

Every message, in both directions, is HEADER, the lengths of its attachments (four bytes each),
a name, a body of JSON, and the attachments. All numbers are little-endian. The other end is
worker/src/python/pipe.rs.
"""

from __future__ import annotations

import io
import os
import select
import struct
import sys
import threading
import time
from collections import deque
from typing import Any, NamedTuple

# length of the rest, kind, flags, attachments, serial, first, second, name length, body length, call
HEADER = struct.Struct("<IBBHIIIIIQ")

# Kinds of messages to the host. Of a call, `first` counts the items of a map chunk (0: a plain
# call), `second` is the timeout of an item in ms.
CONFIGURE = 0x01
CALL = 0x02
CANCEL = 0x03

# Kinds of messages to the worker. Of a result, `first` is the service time in microseconds and
# `second` the number of items. Of a stream item, the flags are its kind.
HELLO = 0x81
LOAD_FAILED = 0x82
RESULT = 0x83
STREAM = 0x84
TICK = 0x85
HEEDS_CANCEL = 0x86

# Flags of a call.
TAKES_FRAMES = 1
WANTS_STREAM = 2
TAKES_SHARED = 4
# Flags of a result.
IS_ERROR = 1
# Flags of a stream item.
PROGRESS, OUTPUT, ITEM = 1, 2, 3

# Replies wait for each other at most this long, and up to this size.
FLUSH_NS = 1_000_000
FLUSH_BYTES = 32 << 10

BUFFER_BYTES = 64 << 10
# From this size on a message is worth a wider pipe: fewer turns of reader and writer.
LARGE_BYTES = 1 << 20


class Call(NamedTuple):
    """A call as it came from the worker."""

    serial: int
    flags: int
    items: int
    timeout_ms: int
    # Its number in the broker: 123 of `c123`.
    number: int
    method: str
    params: str
    attachments: list[Any]


class Forked(BaseException):
    """This process is a copy that a function made by forking; it must not touch the pipes."""


class Channel:
    """The two pipes to the worker."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._reader = io.FileIO(read_fd, "rb")
        self._write_fd = write_fd
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0
        # Messages that came while a function looked for its cancellation.
        self._early: deque[tuple[int, Call]] = deque()
        self._pending: list[Any] = []
        self._pending_bytes = 0
        self._pending_since = 0
        self._lock = threading.Lock()
        self._owner = os.getpid()
        # The pipe to the worker holds more than pipes usually do.
        self._is_wide = False

    def receive(self) -> tuple[int, Call]:
        """Waits for the next message. Replies that are still held go out before it waits.

        Raises EOFError when the worker is gone.
        """
        return self._early.popleft() if self._early else self._read()

    def is_cancelled(self, serial: int) -> bool:
        """Whether the worker has cancelled this call, which runs."""
        while select.select([self._reader], [], [], 0)[0] or self._end > self._start:
            try:
                self._early.append(self._read())
            except EOFError:
                os._exit(0)
        return any(kind == CANCEL and call.serial == serial for kind, call in self._early)

    def _read(self) -> tuple[int, Call]:
        self._fill(HEADER.size)
        header = HEADER.unpack_from(self._buffer, self._start)
        _, kind, flags, attachments, serial, first, second, name_bytes, body_bytes, call = header
        self._fill(HEADER.size + 4 * attachments + name_bytes + body_bytes)
        view = self._view
        at = self._start + HEADER.size
        sizes = struct.unpack_from(f"<{attachments}I", self._buffer, at) if attachments else ()
        at += 4 * attachments
        name = str(view[at : at + name_bytes], "utf-8")
        at += name_bytes
        body = str(view[at : at + body_bytes], "utf-8")
        self._start = at + body_bytes
        frames = [self._take(size) for size in sizes]
        if len(self._buffer) > BUFFER_BYTES and self._start == self._end:
            self._resize(BUFFER_BYTES)
        return kind, Call(serial, flags, first, second, call, name, body, frames)

    def _take(self, size: int) -> Any:
        """The next bytes: large ones are read to where they stay, and can be written to."""
        if size < BUFFER_BYTES:
            self._fill(size)
            frame: Any = bytes(self._view[self._start : self._start + size])
            self._start += size
            return frame
        self.flush()
        frame = bytearray(size)
        rest = memoryview(frame)
        there = min(self._end - self._start, size)
        rest[:there] = self._view[self._start : self._start + there]
        self._start += there
        rest = rest[there:]
        while rest:
            count = self._reader.readinto(rest)
            if not count:
                raise EOFError
            rest = rest[count:]
        return frame

    def send(
        self,
        kind: int,
        flags: int,
        serial: int,
        first: int,
        second: int,
        body: list[bytes],
        attachments: list[Any],
    ) -> None:
        """Holds a message back until `flush`, or until enough of them wait."""
        count = len(attachments)
        sizes = struct.pack(f"<{count}I", *map(len, attachments)) if attachments else b""
        body_bytes = sum(map(len, body))
        size = len(sizes) + body_bytes + sum(map(len, attachments))
        length = HEADER.size - 4 + size
        header = HEADER.pack(length, kind, flags, count, serial, first, second, 0, body_bytes, 0)
        with self._lock:
            now = time.perf_counter_ns()
            if not self._pending:
                self._pending_since = now
            self._pending += [header, sizes, *body, *attachments]
            self._pending_bytes += HEADER.size + size
            if self._pending_bytes >= FLUSH_BYTES or now - self._pending_since >= FLUSH_NS:
                self._write_pending()

    def flush(self) -> None:
        """Writes what is held back."""
        with self._lock:
            if self._pending:
                self._write_pending()

    def _write_pending(self) -> None:
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        if os.getpid() != self._owner:
            raise Forked
        small: list[Any] = []
        for part in pending:
            # Large parts are written as they are, the rest in one go.
            if len(part) < BUFFER_BYTES:
                small.append(part)
                continue
            self._write(b"".join(small))
            small.clear()
            self._write(part)
        self._write(b"".join(small))

    def _write(self, content: Any) -> None:
        rest = memoryview(content).cast("B")
        if len(rest) >= LARGE_BYTES and not self._is_wide:
            self._is_wide = True
            widen(self._write_fd)
        while rest:
            rest = rest[os.write(self._write_fd, rest) :]

    def _fill(self, needed: int) -> None:
        """Reads until `needed` bytes are there, from `_start` on."""
        if self._end - self._start >= needed:
            return
        self.flush()
        if self._start + needed > len(self._buffer) or self._start == self._end:
            self._resize(max(needed, BUFFER_BYTES))
        while self._end - self._start < needed:
            count = self._reader.readinto(self._view[self._end :])
            if not count:
                raise EOFError
            self._end += count

    def _resize(self, size: int) -> None:
        """Moves what is unread to the front of a buffer of this size."""
        unread = self._end - self._start
        if size == len(self._buffer):
            self._view[:unread] = bytes(self._view[self._start : self._end])
        else:
            buffer = bytearray(size)
            buffer[:unread] = self._view[self._start : self._end]
            self._buffer, self._view = buffer, memoryview(buffer)
        self._start, self._end = 0, unread

    def abandon(self) -> None:
        """Lets go of the pipes, in a process made by forking."""
        self._pending.clear()
        # Another thread may have held it when the process was copied.
        self._lock = threading.Lock()
        os.close(self._write_fd)
        self._reader.close()


def widen(fd: int) -> None:
    """Lets a pipe hold as much as the system allows anybody, where it can be told."""
    try:
        import fcntl

        fcntl.fcntl(fd, getattr(fcntl, "F_SETPIPE_SZ", 1031), LARGE_BYTES)
    except (ImportError, OSError):
        pass


def open_channel() -> Channel:
    """Takes the pipes off descriptors 0 and 1 and gives those to the functions: nothing to read,
    and the worker's log to write to. Children of functions inherit neither pipe."""
    channel = Channel(os.dup(0), os.dup(1))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(line_buffering=True)
    os.register_at_fork(after_in_child=channel.abandon)
    return channel
