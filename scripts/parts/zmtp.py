"""A REQ client, a DEALER client and a REP server in Python's standard library alone.

ZeroMQ's wire protocol (ZMTP 3.0, no security) is small enough to speak it directly. The scripts use
this where pyzmq is not installed, and the checks use it to show that Muster talks to any ZMTP stack,
not only to its own libzmq. It knows one connection at a time and does not reconnect.
"""

import socket

GREETING = b"\xff" + b"\x00" * 8 + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\x00") + b"\x00" * 32

MORE, LONG, COMMAND = 1, 2, 4


class Connection:
    """One ZMTP connection: messages are lists of byte strings."""

    def __init__(self, stream, socket_type):
        self.stream = stream
        self.rest = b""
        stream.sendall(GREETING)
        greeting = self._take(64)
        if greeting[0] != 0xFF or greeting[10] < 3 or not greeting[12:].startswith(b"NULL\x00"):
            raise ConnectionError("the other side does not speak ZMTP 3 without keys")
        ready = b"\x05READY" + _property(b"Socket-Type", socket_type) + _property(b"Identity", b"")
        self._send_frame(ready, COMMAND)
        flags, body = self._receive_frame()
        if not flags & COMMAND or not body.startswith(b"\x05READY"):
            raise ConnectionError(f"refused by the other side: {body!r}")

    def send(self, frames):
        for frame in frames[:-1]:
            self._send_frame(frame, MORE)
        self._send_frame(frames[-1], 0)

    def receive(self):
        frames = []
        while True:
            flags, body = self._receive_frame()
            if flags & COMMAND:
                if body.startswith(b"\x04PING"):
                    # The context that follows the time-to-live comes back.
                    self._send_frame(b"\x04PONG" + body[7:], COMMAND)
                continue
            frames.append(body)
            if not flags & MORE:
                return frames

    def close(self):
        self.stream.close()

    def _send_frame(self, body, flags):
        if len(body) > 255:
            head = bytes([flags | LONG]) + len(body).to_bytes(8, "big")
        else:
            head = bytes([flags, len(body)])
        self.stream.sendall(head + body)

    def _receive_frame(self):
        flags = self._take(1)[0]
        size = int.from_bytes(self._take(8 if flags & LONG else 1), "big")
        return flags, self._take(size)

    def _take(self, count):
        while len(self.rest) < count:
            chunk = self.stream.recv(1 << 16)
            if not chunk:
                raise ConnectionError("the other side closed the connection")
            self.rest += chunk
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken


def _property(name, value):
    return bytes([len(name)]) + name + len(value).to_bytes(4, "big") + value


def dial(endpoint, socket_type, timeout=10.0):
    """A connection to a socket that listens."""
    return Connection(_dial(endpoint, timeout), socket_type)


def _dial(endpoint, timeout):
    if endpoint.startswith("ipc://"):
        stream = socket.socket(socket.AF_UNIX)
        stream.settimeout(timeout)
        stream.connect(endpoint.removeprefix("ipc://"))
        return stream
    host, port = endpoint.removeprefix("tcp://").rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout)


class Req:
    """A REQ socket: one request, then one reply."""

    def __init__(self, endpoint, timeout=10.0):
        self.connection = dial(endpoint, b"REQ", timeout)

    def ask(self, body):
        """Sends one frame and gives the frames of the reply."""
        self.connection.send([b"", body])
        empty, *frames = self.connection.receive()
        assert empty == b"", "a reply to REQ starts with an empty frame"
        return frames

    def close(self):
        self.connection.close()


class Dealer:
    """A DEALER socket: whole messages, in any order."""

    def __init__(self, endpoint, timeout=10.0):
        self.connection = dial(endpoint, b"DEALER", timeout)

    def send(self, frames):
        self.connection.send(frames)

    def receive(self):
        return self.connection.receive()

    def close(self):
        self.connection.close()


def serve_rep(listener, answer):
    """A bound REP socket for one peer after the other: `answer` makes a reply of a request's body."""
    while True:
        stream, _ = listener.accept()
        try:
            _serve(Connection(stream, b"REP"), answer)
        except (ConnectionError, ValueError):
            stream.close()


def serve_rep_at(endpoint, answer):
    """A REP socket that dials in, until the other side closes the connection."""
    try:
        # It waits for requests as long as there are none.
        _serve(dial(endpoint, b"REP", timeout=None), answer)
    except ConnectionError:
        return


def _serve(connection, answer):
    while True:
        frames = connection.receive()
        empty = frames.index(b"")
        envelope, body = frames[: empty + 1], frames[empty + 1 :]
        connection.send(envelope + [answer(body[0])])
