"""Large attachments between processes of one machine: memory that both map, kept by the broker meanwhile.

A sender puts its bytes there and writes `{"$shared": NAME}` where it would have written `{"$frame": n}`; the
receiver takes them from there. Wherever that cannot be (no shelf, no room, another machine) they travel as
frames. muster-worker has this very file in its Python children, which may run Python 3.8.

See "Shelf" in docs/protocol.md.
"""

from __future__ import annotations

import array
import mmap
import os
import re
import secrets
import socket
import threading
from typing import Any, Iterable  # noqa: UP035

try:
    import fcntl
except ImportError:  # Not a system with shared memory of this kind.
    fcntl = None  # type: ignore[assignment]

SHARED = "$shared"
#: Smaller attachments are as quick as frames.
BYTES_MIN = 1 << 20
#: Larger ones are refused by the broker, as frames are.
BYTES_MAX = 128 << 20

#: A broker that does not answer within so many seconds has no shelf.
PATIENCE = 5.0
NAME_BYTES = 16
_PUT, _LEAVE, _TAKE, _DROP, _DONE = b"P", b"L", b"T", b"D", b"k"
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
# What an encoder writes; not a literal object of that shape.
_NAMED = re.compile(r'(?<!"\$literal":)\{"\$shared":"([0-9a-f]{32})"\}')


class NotThere(Exception):
    """What a message names is not on the shelf, or the shelf is not there."""


class Shelf:
    """The shelf at `path`. Any thread may use it; a forked child has a connection of its own."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._owner = 0

    def put(self, content: Any, is_left: bool = False) -> str | None:
        """Keeps a copy of the bytes until `drop`, or the end of this process, or if `is_left` for a minute
        whatever becomes of this process. Its name; None when it cannot be kept."""
        view = memoryview(content)
        if not BYTES_MIN <= view.nbytes <= BYTES_MAX:
            return None
        view = view.cast("B") if view.c_contiguous else memoryview(view.tobytes())
        name = secrets.token_bytes(NAME_BYTES)
        try:
            memory = _seal(view)
        except (AttributeError, OSError):
            return None
        try:
            answer, _ = self._ask((_LEAVE if is_left else _PUT) + name, memory)
        finally:
            os.close(memory)
        return name.hex() if answer == _DONE else None

    def take(self, name: str) -> memoryview:
        """The bytes of that name. They can be written to, which nobody else sees. Raises `NotThere`."""
        answer, memory = self._ask(_TAKE + bytes.fromhex(name), None)
        if answer != _DONE or memory is None:
            raise NotThere(f"attachment {name} is not on the shelf")
        try:
            size = os.fstat(memory).st_size
            mapped = mmap.mmap(memory, size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
        except OSError as error:
            raise NotThere(f"attachment {name} cannot be mapped: {error}") from None
        finally:
            os.close(memory)
        return memoryview(mapped)

    def drop(self, names: Iterable[str]) -> None:
        """Nobody needs these any more. Never waits."""
        wanted = b"".join(map(bytes.fromhex, names))
        with self._lock:
            if self._socket is None or self._owner != os.getpid():
                return
            try:
                self._socket.send(_DROP + wanted, socket.MSG_DONTWAIT)
            except OSError:
                self._close()

    def is_there(self) -> bool:
        """Whether there is a shelf, as far as can be told without asking."""
        return fcntl is not None and os.path.exists(self.path)

    def _ask(self, request: bytes, memory: int | None) -> tuple[bytes, int | None]:
        with self._lock:
            try:
                connection = self._connect()
                rights = [] if memory is None else [_rights(memory)]
                connection.sendmsg([request], rights)
                answer, control, _, _ = connection.recvmsg(1, socket.CMSG_LEN(4), _CLOEXEC)
            except OSError:
                self._close()
                return b"", None
        if not answer:
            self._close()
        for level, kind, content in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                return answer, array.array("i", content[:4])[0]
        return answer, None

    def _connect(self) -> socket.socket:
        if self._socket is None or self._owner != os.getpid():
            self._close()
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            connection.settimeout(PATIENCE)
            try:
                connection.connect(self.path)
            except OSError:
                connection.close()
                raise
            self._socket, self._owner = connection, os.getpid()
        return self._socket

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def beside(endpoint: str) -> Shelf | None:
    """The shelf of the broker whose door this is; None when it has none on this machine."""
    shelf = Shelf(os.path.join(os.path.dirname(endpoint.partition("://")[2]), "shelf"))
    return shelf if endpoint.startswith("ipc://") and shelf.is_there() else None


def receive(
    shelf: Shelf | None, text: str, frames: list[Any], is_last: bool = False
) -> tuple[str, list[Any]]:
    """The message with all attachments as frames: those on the shelf follow the others. `is_last`: nobody
    else will read it. Raises `NotThere`."""
    frames = list(frames)
    taken = []

    def name_frame(found: re.Match[str]) -> str:
        if shelf is None:
            raise NotThere("an attachment is on a shelf, which is out of reach")
        frames.append(shelf.take(found[1]))
        taken.append(found[1])
        return f'{{"$frame":{len(frames) - 1}}}'

    text = _NAMED.sub(name_frame, text)
    if is_last and taken and shelf is not None:
        shelf.drop(taken)
    return text, frames


def _rights(memory: int) -> tuple[int, int, bytes]:
    return socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [memory]).tobytes()


def _seal(view: memoryview) -> int:
    """A memory with these bytes that nobody can change or resize any more."""
    memory = os.memfd_create("muster", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        while view:
            view = view[os.write(memory, view) :]
        # F_ADD_SEALS with F_SEAL_SEAL, SHRINK, GROW and WRITE.
        fcntl.fcntl(memory, 1033, 0x1 | 0x2 | 0x4 | 0x8)
    except BaseException:
        os.close(memory)
        raise
    return memory
