"""A slot's process as its supervisor sees it."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from . import slot

#: Crashes within so many seconds before a slot waits, and how long at most.
CRASHES_FREE, CRASHES_SECONDS, BACKOFF_MAX = 3, 5.0, 30.0


class Process:
    """One slot: its process, if it has one, and the link to it."""

    def __init__(self, number: int, nest: dict[str, Any] | None = None) -> None:
        self.number = number
        #: What it was opened for, if it serves only the calls inside another.
        self.nest = nest
        self.pid = 0
        self.board = slot.Board()
        self.orders: socket.socket | None = None
        self.unsent = bytearray()
        self.unread = b""
        self.restart_at: float | None = 0.0
        self.is_unwanted = False
        self.is_killed_on_purpose = False
        self.crashes: list[float] = []
        #: Calls that were cancelled and know, and when one of them that still runs is ended.
        self.cancelled: dict[int, float] = {}

    def write(self) -> socket.socket:
        """Sends what there is, and never waits for the slot: it may be waiting for us."""
        assert self.orders is not None, "only living slots are written to"
        try:
            while self.unsent:
                del self.unsent[: self.orders.send(self.unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self.unsent.clear()  # It has just died; its end will be seen.
        return self.orders

    def read(self) -> list[tuple[Any, ...]] | None:
        """What the slot answered; None: its process has ended."""
        assert self.orders is not None, "only living slots are polled"
        try:
            part = self.orders.recv(64 << 10)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not part:
            return None
        self.unread += part
        whole = len(self.unread) - len(self.unread) % slot.ORDER.size
        answers = list(slot.ORDER.iter_unpack(self.unread[:whole]))
        self.unread = self.unread[whole:]
        return answers

    def count_crash(self) -> float:
        """Notes a crash; how long the slot now waits, in seconds."""
        now = time.monotonic()
        if self.board.read()[1]:
            # It has answered a call since it started: no loop, however often it goes on so.
            self.crashes.clear()
        self.crashes = [crash for crash in self.crashes if now - crash < CRASHES_SECONDS] + [now]
        extra = len(self.crashes) - CRASHES_FREE
        return 0.0 if extra < 0 else min(0.1 * 2.0**extra, BACKOFF_MAX)


def open_fds() -> set[int]:
    """The file descriptors of this process."""
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    return {int(name) for name in os.listdir(folder)}
