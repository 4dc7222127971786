"""The processes of a Python worker's slots: started, told, ended and followed by others."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

import zmq

from . import slot
from .process import Process, open_fds

#: How long past its deadline an item may run before its process is ended, in seconds.
ITEM_GRACE = 1.0


class Crew:
    """A process for each slot. `become` serves in a new process and gives its exit code; `tell_lost` is told,
    as a record of the protocol, of each that ended."""

    def __init__(
        self,
        slots: int,
        poller: zmq.Poller,
        become: Callable[[Process, socket.socket], int],
        tell_lost: Callable[[dict[str, Any]], None],
    ) -> None:
        self.processes = [Process(number) for number in range(1, slots + 1)]
        #: Those that end are not followed by others.
        self.is_leaving = False
        self._poller = poller
        self._become_slot = become
        self._tell_lost = tell_lost
        self._own_fds = open_fds()

    def find(self, number: int) -> Process | None:
        """The process of the slot with this number."""
        return next((process for process in self.processes if process.number == number), None)

    def find_by_fd(self, fd: int) -> Process | None:
        """The process that speaks by this descriptor."""
        return next((p for p in self.processes if p.orders and p.orders.fileno() == fd), None)

    def order(self, number: int, kind: bytes, seq: int = 0, dispatch: bytes = bytes(20)) -> None:
        """Tells a slot's process something, if there is one."""
        process = self.find(number)
        if process is not None and process.orders is not None:
            process.unsent += slot.ORDER.pack(kind, number, seq, dispatch)
            self.write(process)

    def write(self, process: Process) -> None:
        """Sends it what it has room for."""
        orders = process.write()
        self._poller.register(orders.fileno(), zmq.POLLIN | zmq.POLLOUT if process.unsent else zmq.POLLIN)

    def keep(self, now: float, may_start: bool) -> None:
        """Ends what overran, and starts what is due."""
        for process in list(self.processes):
            started, ended, _, deadline = process.board.read()
            if process.pid and deadline and now > deadline + ITEM_GRACE:
                self.kill(process)
            for seq in [seq for seq, due in process.cancelled.items() if due <= now]:
                del process.cancelled[seq]
                if process.pid and started == seq != ended:
                    self.kill(process, is_on_purpose=True)
            # Processes that would join a broker which does not know their worker yet only wait.
            is_due = process.restart_at is not None and now >= process.restart_at
            if not process.pid and is_due and not process.is_unwanted and may_start:
                self._start(process)

    def _start(self, process: Process) -> None:
        ours, theirs = socket.socketpair()
        process.board.clear()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._become(process, theirs)
        theirs.close()
        ours.setblocking(False)
        process.pid, process.orders = pid, ours
        process.cancelled.clear()
        process.unsent, process.unread = bytearray(), b""
        process.restart_at = None
        self._poller.register(ours.fileno(), zmq.POLLIN)

    def _become(self, process: Process, orders: socket.socket) -> NoReturn:
        """In the new process: let go of everything that is the supervisor's, and serve."""
        code = 1
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
            kept = {*self._own_fds, orders.fileno()}
            for fd in open_fds() - kept:
                try:
                    os.close(fd)
                except OSError:
                    pass
            code = self._become_slot(process, orders)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            # Not `sys.exit`: the supervisor's clean-up is not ours.
            os._exit(code)

    def heard(self, process: Process) -> list[tuple[Any, ...]]:
        """What the slot answered; it may have ended instead."""
        if process.unsent:
            self.write(process)
        answers = process.read()
        if answers is None:
            self._ended(process)
        return answers or []

    def kill(self, process: Process, is_on_purpose: bool = False) -> None:
        """Ends a slot's process at once."""
        if process.pid:
            process.is_killed_on_purpose = is_on_purpose
            os.kill(process.pid, signal.SIGKILL)
            self._ended(process)

    def _ended(self, process: Process) -> None:
        _, status = os.waitpid(process.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if process.orders is not None:
            self._poller.unregister(process.orders.fileno())
            process.orders.close()
            process.orders = None
        pid, process.pid = process.pid, 0
        on_purpose = process.is_killed_on_purpose or code in (0, slot.EXIT_RECYCLED)
        process.is_killed_on_purpose = False
        pause = 0.0 if on_purpose else process.count_crash()
        process.board.clear()
        if process.is_unwanted:
            self.processes.remove(process)
        elif not self.is_leaving:
            process.restart_at = time.monotonic() + pause
        if code != slot.EXIT_RECYCLED:
            lost = {
                "slot": process.number,
                "pid": pid,
                "on_purpose": on_purpose,
                "backoff_ms": int(pause * 1000),
            }
            lost["signal" if code < 0 else "exit_code"] = abs(code)
            self._tell_lost(lost)
