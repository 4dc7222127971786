"""The client's socket: a DEALER of libzmq with its monitor, connected to one frontend.

A lost link is dropped and opened anew, so that no half-sent message and no old address survives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import zmq
from zmq.utils.monitor import parse_monitor_message

from .connection import Address
from .wire import Buffer

#: Where libzmq itself cuts a link: one frame, in bytes.
LINK_BYTES_MAX = 512 << 20
#: From this size on a frame is sent without copying it.
COPY_BYTES_MAX = 16 << 10

# Plain numbers: arithmetic with pyzmq's enums costs more than a call to libzmq.
_NOW, _MORE, _NOW_AND_MORE = int(zmq.NOBLOCK), int(zmq.SNDMORE), int(zmq.NOBLOCK) | int(zmq.SNDMORE)
_HAS_MORE = int(zmq.RCVMORE)

_WATCHED = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_AUTH
_NAMES: dict[int, str] = {
    zmq.EVENT_HANDSHAKE_SUCCEEDED: "up",
    zmq.EVENT_DISCONNECTED: "down",
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "refused",
}


def open_dealer(context: zmq.Context[zmq.Socket[bytes]], address: Address) -> zmq.Socket[bytes]:
    """A DEALER with the options and keys of a Muster link, not connected yet."""
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.immediate = 1
    socket.maxmsgsize = LINK_BYTES_MAX
    socket.reconnect_ivl = 100
    socket.reconnect_ivl_max = 3000
    socket.tcp_keepalive = 1
    socket.tcp_keepalive_idle = 5
    socket.tcp_keepalive_intvl = 2
    socket.tcp_keepalive_cnt = 3
    if address.curve is not None:
        socket.curve_serverkey = address.curve.server_key.encode()
        socket.curve_publickey = address.curve.public_key.encode()
        socket.curve_secretkey = address.curve.secret_key.encode()
    return socket


class Door:
    """The link's end at the frontend. Only the link's thread touches it."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], address: Address) -> None:
        self._socket = open_dealer(context, address)
        self._socket.sndhwm = 10_000
        self._socket.rcvhwm = 0
        self._socket.copy_threshold = COPY_BYTES_MAX
        # A link that ended is replaced as a whole.
        self._socket.reconnect_ivl = -1
        self._monitor = self._socket.get_monitor_socket(_WATCHED)
        self._poller = zmq.Poller()
        self._wake: int | None = None
        self._is_full = False
        try:
            self._socket.connect(address.frontend)
        except zmq.ZMQError:
            self.close()
            raise

    def close(self, linger: float = 0.0) -> None:
        """Closes the link; what was sent last has so many seconds to go."""
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=int(linger * 1000))

    def events(self) -> Iterator[str]:
        """What happened to the link: `up`, `down` or `refused`."""
        while not self._monitor.closed:
            try:
                message = self._monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            name = _NAMES.get(parse_monitor_message(message)["event"])
            if name is not None:
                yield name

    def send(self, body: bytes, frames: Sequence[Buffer]) -> bool:
        """Sends one message; False: there is no room now."""
        socket = self._socket
        try:
            socket.send(b"", _NOW_AND_MORE)
        except zmq.Again:
            self._is_full = True
            return False
        self._is_full = False
        if not frames:
            socket.send(body, 0, len(body) < COPY_BYTES_MAX)
            return True
        socket.send(body, _MORE, len(body) < COPY_BYTES_MAX)
        last = len(frames) - 1
        for at, frame in enumerate(frames):
            socket.send(frame, 0 if at == last else _MORE, copy=False)
        return True

    def receive(self) -> tuple[bytes, list[Buffer]] | None:
        """Receives one message, if one is there: body and attachments."""
        socket = self._socket
        try:
            delimiter = socket.recv(_NOW)
        except zmq.Again:
            return None
        if delimiter or not socket.get(_HAS_MORE):
            # Not in our envelope; nobody waits for it.
            while socket.get(_HAS_MORE):
                socket.recv()
            return b"", []
        body = socket.recv()
        frames: list[Buffer] = []
        while socket.get(_HAS_MORE):
            frames.append(socket.recv(copy=False))
        return body, frames

    def flush(self) -> None:
        """libzmq sends by itself."""

    def wait(self, wake: int, seconds: float) -> bool:
        """Waits for a message, an event, a wake or, when there was none, room to send; whether it was woken."""
        poller = self._poller
        if self._wake is None:
            self._wake = wake
            poller.register(wake, zmq.POLLIN)
            poller.register(self._monitor, zmq.POLLIN)
        poller.register(self._socket, zmq.POLLIN | zmq.POLLOUT if self._is_full else zmq.POLLIN)
        # Rounded up, so that a timer is never polled for in vain.
        ready = poller.poll(int(seconds * 1000) + 1)
        return any(source == wake for source, _ in ready)
