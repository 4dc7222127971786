"""Wakes a thread that waits for its sockets."""

from __future__ import annotations

import os


class Bell:
    """A pipe with a byte in it while it rings. `fd` is to be polled for reading."""

    def __init__(self) -> None:
        self.fd, self._write = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write, False)

    def ring(self) -> None:
        """Any thread may ring, also when the other one is gone."""
        try:
            os.write(self._write, b"\0")
        except OSError:
            pass  # It rings already, or is closed.

    def hush(self) -> None:
        """Takes the bytes out."""
        try:
            os.read(self.fd, 4096)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Closes both ends."""
        write, self._write = self._write, -1
        os.close(write)
        os.close(self.fd)
