"""The supervisor of a Python worker: the control link, and a process for each slot.

It runs no user code, so it answers the broker whatever the functions do. A slot's process that dies is
replaced under the same name; one that is told to stop a call it cannot leave is killed.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import signal
import socket
import sys
import time
from typing import Any

import zmq

from . import __version__, output, records, slot
from .connection import Target
from .crew import ITEM_GRACE, Crew
from .door import open_dealer
from .errors import CallError, MusterError
from .hosting import Functions
from .process import Process
from .records import Command
from .shelf import beside

#: Heartbeats without an answer before the broker is taken for gone.
MISSED_MAX = 3
#: How long a function that looks for its cancellation may go on once it is told, in seconds.
CANCEL_GRACE = 1.0
#: Slots for calls inside others: so many for each slot, with numbers above those of slots.
NESTED_MAX, NESTED_FIRST = 4, 4097
#: How long slots may take to finish when the worker drains, in seconds.
GRACE = 30.0


class Refused(MusterError):
    """The broker does not take this worker."""


class Supervisor:
    """Serves `functions` on `slots` processes until it is told to stop."""

    def __init__(
        self,
        functions: Functions,
        target: Target,
        *,
        slots: int,
        name: str | None = None,
        allow_apply: bool = False,
        recycle: int | None = None,
    ) -> None:
        self._functions = functions
        self._target = target
        self._recycle = recycle
        self._allow_apply = allow_apply
        self._name = name or f"{socket.gethostname()}-{os.getpid()}"
        self._token = secrets.token_hex(16)
        self._poller = zmq.Poller()
        self._crew = Crew(slots, self._poller, self._serve, self._tell_lost)
        self._address = target.resolve()
        if self._address.workers is None:
            self._address = _ask_doors(self._target, self._address.frontend)
        functions.shelf = beside(self._address.workers or "")
        self._signals = 0
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._context = zmq.Context()
        self._control: zmq.Socket[bytes] = open_dealer(self._context, self._address)
        # Answers to recalls may be many; only a broker that is away makes sending fail.
        self._control.sndhwm = 0
        self._epoch = ""
        self._heartbeat = 1.0
        self._beat_at = 0.0
        self._missed = 0
        self._drain_until: float | None = None

    def run(self) -> None:
        """Serves until a signal or the broker ends it. Raises `Refused`."""
        handlers = {
            number: signal.signal(number, self._signalled) for number in (signal.SIGTERM, signal.SIGINT)
        }
        self._control.connect(self._address.workers or "")
        self._poller.register(self._control, zmq.POLLIN)
        self._poller.register(self._wake_read, zmq.POLLIN)
        try:
            self._register(Command.REGISTER)
            while self._turn():
                pass
            self._tell(Command.GOODBYE)
        finally:
            for process in self._crew.processes:
                self._crew.kill(process)
            self._control.close(linger=500)
            self._context.term()
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _signalled(self, number: int, _: Any) -> None:
        self._signals += 1
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:
            pass

    def _turn(self) -> bool:
        now = time.monotonic()
        if self._signals and self._drain_until is None:
            self._drain(GRACE)
        if self._signals > 1:
            return False
        self._crew.keep(now, may_start=bool(self._epoch))
        if self._drain_until is not None:
            is_done = not any(process.pid for process in self._crew.processes)
            if is_done or now > self._drain_until:
                return False
        if now >= self._beat_at:
            self._beat(now)
        for found, _ in self._poller.poll(int(self._wait(now) * 1000) + 1):
            if found is self._control:
                self._receive()
            elif found == self._wake_read:
                os.read(self._wake_read, 64)
            else:
                # None: it was ended in this very turn.
                process = self._crew.find_by_fd(found)
                if process is not None:
                    self._heard(process)
        return True

    def _wait(self, now: float) -> float:
        times = [self._beat_at]
        for process in self._crew.processes:
            if not process.pid and process.restart_at is not None:
                times.append(process.restart_at)
            deadline = process.board.read()[3]
            if deadline:
                times.append(deadline + ITEM_GRACE)
            times += process.cancelled.values()
        return max(0.0, min(times) - now)

    def _beat(self, now: float) -> None:
        self._beat_at = now + self._heartbeat
        self._missed += 1
        if self._missed == MISSED_MAX + 1:
            print(f"muster: worker {self._name}: no broker; waiting for one", file=sys.stderr)
            self._find_again()
        self._tell(Command.HEARTBEAT)

    def _find_again(self) -> None:
        """A broker that was started anew may be elsewhere."""
        try:
            address = self._target.resolve()
        except MusterError:
            return
        if address.workers and address != self._address:
            self._control.disconnect(self._address.workers or "")
            self._address = address
            self._control.connect(address.workers)
            for process in self._crew.processes:
                self._crew.kill(process)

    def _register(self, command: Command) -> None:
        registration = {
            "protocol": [records.VERSION, records.VERSION],
            "token": self._token,
            "name": self._name,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "slots": sum(not process.is_unwanted and process.nest is None for process in self._crew.processes),
            "version": __version__,
            "methods": self._functions.describe(),
            "allow_apply": self._allow_apply,
        }
        self._tell(command, json.dumps(registration).encode())

    def _tell(self, command: Command, *content: bytes) -> None:
        """Sends to the broker; without one it is not said, for the next one registers us anew."""
        try:
            self._control.send_multipart([command.frame, *content], zmq.NOBLOCK)
        except zmq.Again:
            pass

    def _receive(self) -> None:
        while True:
            try:
                frames = self._control.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._obey(records.read_command(frames[0]), frames[1] if len(frames) > 1 else b"")

    def _obey(self, command: Command | None, content: bytes) -> None:
        self._missed = 0
        if command is Command.WHO:
            self._register(Command.REGISTER)
        elif command is Command.WELCOME:
            self._welcome(json.loads(content))
        elif command is Command.REFUSED:
            raise Refused(json.loads(content).get("message", "the broker refuses this worker"))
        elif command is Command.CANCEL:
            for number, seq, dispatch in records.unpack_slot_calls(content):
                self._cancel(number, seq, dispatch)
        elif command is Command.RECALL:
            self._recall(content)
        elif command is Command.DRAIN:
            self._drain(int(content or b"0") / 1000 or GRACE)
        elif command is Command.RESIZE:
            self._resize(int(content))
        elif command is Command.RELOAD:
            for process in self._crew.processes:
                self._crew.order(process.number, slot.DRAIN)
        elif command is Command.OPEN:
            self._open(json.loads(content))
        elif command is Command.CLOSE:
            self._close(int(content))

    def _open(self, nest: dict[str, Any]) -> None:
        """A slot for the calls inside another, or word that there are enough."""
        nested = [process.number for process in self._crew.processes if process.nest is not None]
        largest = NESTED_MAX * (len(self._crew.processes) - len(nested))
        if len(nested) >= largest:
            refused = {"nest": nest, "max": largest}
            self._tell(Command.NOT_OPENED, json.dumps(refused).encode())
        elif self._drain_until is None:
            number = next(n for n in itertools.count(NESTED_FIRST) if n not in nested)
            self._crew.processes.append(Process(number, nest))

    def _close(self, number: int) -> None:
        process = self._crew.find(number)
        if process is not None and process.nest is not None:
            process.is_unwanted = True
            if process.pid:
                self._crew.kill(process, is_on_purpose=True)
            else:
                self._crew.processes.remove(process)

    def _welcome(self, welcome: dict[str, Any]) -> None:
        self._name = self._functions.worker = welcome["name"]
        self._heartbeat = max(0.05, welcome["heartbeat_ms"] / 1000)
        self._beat_at = min(self._beat_at, time.monotonic() + self._heartbeat)
        is_other = welcome["epoch"] != self._epoch
        self._epoch = welcome["epoch"]
        for process in list(self._crew.processes):
            if is_other and process.nest is not None:
                # Another broker knows nothing of it.
                self._close(process.number)
            else:
                self._crew.order(process.number, slot.REJOIN if is_other else slot.JOIN)

    def _cancel(self, number: int, seq: int, dispatch: bytes) -> None:
        process = self._crew.find(number)
        if process is None:
            return
        started, ended, heeding, _ = process.board.read()
        if started == seq and ended != seq:
            if heeding != seq:
                self._crew.kill(process, is_on_purpose=True)
                return
        # It may start at this very moment, and is then ended like one that heeds its cancellation.
        process.cancelled[seq] = time.monotonic() + CANCEL_GRACE
        self._crew.order(number, slot.CANCEL, seq, dispatch)

    def _recall(self, content: bytes) -> None:
        late = []
        for number, seq, dispatch in records.unpack_slot_calls(content):
            process = self._crew.find(number)
            if process is None or not process.pid or process.board.read()[0] >= seq:
                late.append(records.pack_recalled(number, seq, dispatch, False))
            else:
                self._crew.order(number, slot.RECALL, seq, dispatch)
        if late:
            self._tell(Command.RECALLED, b"".join(late))

    def _drain(self, grace: float) -> None:
        if self._drain_until is not None:
            return
        self._drain_until = time.monotonic() + grace
        self._crew.is_leaving = True
        self._tell(Command.DRAINING)
        for process in self._crew.processes:
            process.restart_at = None
            process.is_unwanted = True
            self._crew.order(process.number, slot.DRAIN)

    def _resize(self, slots: int) -> None:
        wanted = [process for process in self._crew.processes if not process.is_unwanted and process.nest is None]
        for process in wanted[slots:]:
            process.is_unwanted = True
            self._crew.order(process.number, slot.DRAIN)
        free = (number for number in range(1, 1 << 20) if self._crew.find(number) is None)
        self._crew.processes += [Process(next(free)) for _ in range(slots - len(wanted))]
        self._register(Command.CHANGED)

    # --- slots ------------------------------------------------------------------------------

    def _serve(self, process: Process, orders: socket.socket) -> int:
        """Serves as a slot, in its process."""
        served = slot.Slot(
            process.number,
            self._token,
            self._address,
            self._functions,
            process.board,
            orders,
            self._recycle,
            process.nest,
        )
        self._target.lead()
        output.stand_before()
        return served.run()

    def _heard(self, process: Process) -> None:
        recalled = [
            records.pack_recalled(number, seq, dispatch, kind == slot.GIVEN_BACK)
            for kind, number, seq, dispatch in self._crew.heard(process)
        ]
        if recalled:
            self._tell(Command.RECALLED, b"".join(recalled))

    def _tell_lost(self, lost: dict[str, Any]) -> None:
        self._tell(Command.LOST, json.dumps(lost).encode())


def _ask_doors(target: Target, frontend: str) -> Any:
    """The broker's other doors, asked for at its frontend."""
    from dataclasses import replace

    from .pool import ClusterPool

    with ClusterPool(target) as pool:
        try:
            doors = pool.request("broker.endpoints").result(5)
        except CallError as error:
            raise Refused(f"{frontend} does not tell where workers connect: {error}") from error
    return replace(target.resolve(), workers=doors["workers"])
