"""The link's end at the frontend of a broker on this machine, without libzmq between.

Each call of libzmq lets go of the interpreter's lock, and a thread that calculates gives it back 5 ms later. Here many
messages are one system call, whatever the other threads do.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator, Sequence

from .connection import Address
from .wire import Buffer
from .zmtp import OPENING, Broken, Decoder, Refused, pack

#: What is read at once, in bytes.
READ_BYTES = 256 << 10
#: With so much unsent there is no room for more, in bytes.
UNSENT_BYTES_MAX = 1 << 20
#: What the system takes at once (IOV_MAX).
PARTS_MAX = 1024

_SCHEME = "ipc://"


def is_local(address: Address) -> bool:
    """Whether the frontend is a socket in this machine's file system, and asks for no keys."""
    return address.frontend.startswith(f"{_SCHEME}/") and address.curve is None


class LocalDoor:
    """A connection to a local frontend, with the methods of `Door`. Only the link's thread touches it."""

    def __init__(self, address: Address) -> None:
        self._decoder = Decoder()
        self._unsent: list[Buffer] = [OPENING]
        self._unsent_bytes = len(OPENING)
        self._is_up = False
        # What ended the connection, still to be told.
        self._ends: list[str] = []
        self._poller = select.poll()
        self._watched = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        try:
            self._socket.connect(address.frontend.removeprefix(_SCHEME))
        except OSError:
            self._socket.close()
            raise
        self.flush()

    def close(self, linger: float = 0.0) -> None:
        """Closes the connection; what was sent last has so many seconds to go."""
        if linger:
            self._socket.settimeout(linger)
            self.flush()
        self._socket.close()

    def events(self) -> Iterator[str]:
        """What happened to the connection: `up`, `down` or `refused`."""
        if not self._is_up:
            self._read()
            if self._decoder.is_ready:
                self._is_up = True
                yield "up"
        while self._ends:
            yield self._ends.pop(0)

    def send(self, body: bytes, frames: Sequence[Buffer]) -> bool:
        """Takes one message, which `flush` sends; False: there is no room now."""
        if self._unsent_bytes > UNSENT_BYTES_MAX:
            return False
        parts = pack(body, frames)
        self._unsent += parts
        self._unsent_bytes += sum(map(len, parts))
        return True

    def flush(self) -> None:
        """Sends what was taken, as far as there is room."""
        unsent = self._unsent
        try:
            while unsent:
                sent = self._socket.sendmsg(unsent[:PARTS_MAX])
                self._unsent_bytes -= sent
                whole = 0
                while whole < len(unsent) and sent >= len(unsent[whole]):
                    sent -= len(unsent[whole])
                    whole += 1
                del unsent[:whole]
                if sent:
                    unsent[0] = memoryview(unsent[0])[sent:]
        except (BlockingIOError, TimeoutError):
            pass
        except OSError:
            # Reading tells its end, after what is still to be read.
            unsent.clear()
            self._unsent_bytes = 0

    def receive(self) -> tuple[bytes, list[Buffer]] | None:
        """Receives one message, if one is there: body and attachments."""
        decoder = self._decoder
        message = decoder.next()
        while message is None:
            if not self._read():
                return None
            message = decoder.next()
        if len(message) < 2 or message[0]:
            # Not in our envelope; nobody waits for it.
            return b"", []
        return bytes(message[1]), message[2:]

    def _read(self) -> bool:
        """Reads what is there; False: nothing."""
        if self._ends:
            return False
        decoder = self._decoder
        try:
            room = decoder.room()
            if room is not None:
                count = self._socket.recv_into(room)
                decoder.filled(count)
            else:
                content = self._socket.recv(READ_BYTES)
                count = len(content)
                decoder.feed(content)
        except BlockingIOError:
            return False
        except Refused:
            self._ends += ["refused", "down"]
            return False
        except (Broken, OSError):
            self._ends.append("down")
            return False
        if not count:
            self._ends.append("down")
            return False
        if decoder.replies:
            self._unsent += decoder.replies
            self._unsent_bytes += sum(map(len, decoder.replies))
            decoder.replies.clear()
        return True

    def wait(self, wake: int, seconds: float) -> bool:
        """Waits for a message, an event, a wake or room for what is unsent; whether it was woken."""
        if self._ends or self._decoder.is_ready != self._is_up:
            # There is something to tell already.
            return False
        if not self._watched:
            self._poller.register(wake, select.POLLIN)
        watched = select.POLLIN | (select.POLLOUT if self._unsent else 0)
        if watched != self._watched:
            self._poller.register(self._socket, watched)
            self._watched = watched
        # Rounded up, so that a timer is never polled for in vain.
        ready = self._poller.poll(int(seconds * 1000) + 1)
        return any(fd == wake for fd, _ in ready)
