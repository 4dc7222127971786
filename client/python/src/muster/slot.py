"""One slot of a Python worker: a process with a data link of its own.

The main thread runs the calls. A second one listens to the supervisor, so a recall is answered while a
function computes. What the supervisor must know at any time (which call runs, until when) stands in
memory that both share.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import struct
import threading
import time
from collections.abc import Sequence
from typing import Any

import zmq

from . import records
from .connection import Address
from .door import open_dealer
from .hosting import Answer, Functions, Tell
from .records import Call, Command

#: Answers wait for each other at most this long, in seconds, and up to this size.
FLUSH_SECONDS = 0.001
FLUSH_BYTES = 32 << 10
#: From this size on an answer travels in a frame of its own.
OWN_FRAME_BYTES = 4 << 10
#: How long a draining slot listens for calls that are still on their way, in milliseconds.
DRAIN_MS = 200

#: To the slot: kind, slot, seq, dispatch. From it: kind, slot, seq, dispatch, with the answer as kind.
ORDER = struct.Struct("<cII20s")
#: `JOIN`: unless it has joined; `REJOIN`: the broker is another one.
RECALL, CANCEL, JOIN, REJOIN, DRAIN, GIVEN_BACK, TOO_LATE = b"R", b"C", b"j", b"J", b"D", b"G", b"L"

#: How the process ends when it was replaced on purpose.
EXIT_RECYCLED = 64


class Board:
    """Shared memory: the last call started, the last one ended, the last one that looked for its
    cancellation, and when the item has to be done."""

    _FORM = struct.Struct("<IIIxxxxd")

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self._FORM.size)

    def start(self, seq: int) -> None:
        struct.pack_into("<I", self._memory, 0, seq)

    def end(self, seq: int) -> None:
        struct.pack_into("<I", self._memory, 4, seq)

    def heed(self, seq: int) -> None:
        struct.pack_into("<I", self._memory, 8, seq)

    def expect(self, deadline: float) -> None:
        struct.pack_into("<d", self._memory, 16, deadline)

    def clear(self) -> None:
        self._FORM.pack_into(self._memory, 0, 0, 0, 0, 0.0)

    def read(self) -> tuple[int, int, int, float]:
        """Started, ended, heeding, deadline."""
        return self._FORM.unpack_from(self._memory, 0)


class Slot:
    """The process's side of a slot. `number` counts from 1."""

    def __init__(
        self,
        number: int,
        token: str,
        address: Address,
        functions: Functions,
        board: Board,
        orders: socket.socket,
        recycle: int | None,
        nest: dict[str, Any] | None = None,
    ) -> None:
        self._number = number
        self._token = token
        self._address = address
        self._functions = functions
        self._board = board
        self._orders = orders
        self._nest = nest
        self._calls_left = recycle or 0
        self._is_recycled = recycle is not None
        self._lock = threading.Lock()
        self._started = 0
        self._skipped: dict[int, str] = {}
        self._cancelled = 0
        self._is_draining = False
        self._records: list[bytes] = []
        self._frames: list[Any] = []
        self._held_bytes = 0
        self._held_since = 0.0
        self._estimates: dict[str, float] = {}
        functions.expect = board.expect
        self._context = zmq.Context()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        self._data: zmq.Socket[bytes] = open_dealer(self._context, address)
        # What is said while the broker is away waits in the socket; a slot never blocks on it.
        self._data.immediate = 0
        self._monitor = self._data.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._links = 0
        self._is_joined = False
        self._data.connect(address.workers or "")
        self._poller = zmq.Poller()
        self._poller.register(self._data, zmq.POLLIN)
        self._poller.register(self._wake_read, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)

    def run(self) -> int:
        """Serves until the supervisor drains it or is gone; the process's exit code."""
        threading.Thread(target=self._listen, name="muster-orders", daemon=True).start()
        self._join()
        while True:
            wait = DRAIN_MS if self._is_draining else None
            if self._poller.poll(wait) == [] and self._is_draining:
                return self._leave(0)
            self._clear_wake()
            self._watch_link()
            while self._receive():
                if self._is_recycled and self._calls_left <= 0:
                    lost = {"slot": self._number, "pid": os.getpid(), "on_purpose": True, "exit_code": 0}
                    self._data.send_multipart([Command.LOST.frame, json.dumps(lost).encode()])
                    return self._leave(EXIT_RECYCLED)

    def _watch_link(self) -> None:
        """A link that came back is a new one to the broker."""
        while self._monitor.poll(0):
            self._monitor.recv_multipart()
            self._links += 1
            if self._links > 1:
                self._join()

    def _leave(self, code: int) -> int:
        self._data.disable_monitor()
        self._monitor.close(linger=0)
        self._data.close(linger=2000)
        self._context.term()
        return code

    def _join(self) -> None:
        with self._lock:
            self._started, self._cancelled = 0, 0
            self._skipped.clear()
            self._board.clear()
        self._is_joined = True
        join: dict[str, Any] = {"token": self._token, "slot": self._number, "pid": os.getpid()}
        if self._nest is not None:
            join["nest"] = self._nest
        self._data.send_multipart([Command.JOIN.frame, json.dumps(join).encode()])

    def _clear_wake(self) -> None:
        try:
            orders = os.read(self._wake_read, 256)
        except BlockingIOError:
            return
        if REJOIN in orders or (JOIN in orders and not self._is_joined):
            self._join()
        if DRAIN in orders:
            self._is_draining = True

    def _receive(self) -> bool:
        try:
            head = self._data.recv(zmq.NOBLOCK)
        except zmq.Again:
            self._flush()
            return False
        packed = self._data.recv() if self._data.rcvmore else b""
        frames: list[Any] = []
        while self._data.rcvmore:
            frames.append(self._data.recv(copy=False).buffer)
        command = records.read_command(head)
        if command is Command.WHO:
            # Join again when the supervisor has registered.
            self._is_joined = False
        elif command is Command.CALLS:
            for call in records.unpack_calls(packed, frames):
                if self._is_recycled and self._calls_left <= 0:
                    break  # The broker queues again what was not answered.
                self._run(call)
        return True

    def _run(self, call: Call) -> None:
        estimate = self._estimates.get(call.method)
        self._flush_before(estimate, call.items)
        with self._lock:
            why = self._skipped.pop(call.seq, None)
            if why is None:
                self._started = call.seq
        if why == "recalled":
            return
        if why == "cancelled":
            error = {"code": -32004, "message": "Cancelled", "data": {"by": "the caller, before it started"}}
            self._hold(call, Answer(json.dumps(error).encode(), [], True, 1, 0))
            return
        self._board.start(call.seq)
        tell = self._teller(call) if call.flags & records.STREAM else None
        answer = self._functions.run(call, lambda: self._is_cancelled(call.seq), tell)
        self._board.end(call.seq)
        seconds = answer.service_us / 1e6 / max(1, answer.items)
        self._estimates[call.method] = seconds if estimate is None else 0.7 * estimate + 0.3 * seconds
        # Asking for a function is no call of one.
        self._calls_left -= not answer.body.startswith(b'{"missing":')
        self._hold(call, answer)

    def _is_cancelled(self, seq: int) -> bool:
        # From now on a cancellation gives it time.
        self._board.heed(seq)
        return self._cancelled == seq

    def _teller(self, call: Call) -> Tell:
        """Sends what the call streams; waits while the link has no room for it."""
        counts = [0, 0, 0]

        def tell(kind: int, value: bytes, frames: Sequence[Any]) -> None:
            counts[kind - 1] += 1
            item = records.pack_stream_item(call.dispatch, counts[kind - 1], kind, value)
            self._data.send_multipart([Command.STREAM.frame, item, *frames], copy=False)

        return tell

    def _hold(self, call: Call, answer: Answer) -> None:
        flags = records.ERROR if answer.is_error else 0
        body = answer.body
        if len(body) >= OWN_FRAME_BYTES:
            # The whole JSON-RPC answer, which the broker passes on as it is.
            flags |= records.OWN_FRAME | records.WHOLE
            member = b"error" if answer.is_error else b"result"
            body = b'{"jsonrpc":"2.0","%b":%b,"id":%b}' % (member, body, call.id)
            self._frames.append(body)
        if not self._records:
            self._held_since = time.monotonic()
        record = records.pack_reply(
            call.dispatch, answer.service_us, answer.items, flags, len(answer.frames), body
        )
        self._records.append(record)
        self._frames += answer.frames
        self._held_bytes += len(record)
        # 50: a message holds 64 frames.
        if self._held_bytes > FLUSH_BYTES or len(self._frames) > 0:
            self._flush()

    def _flush_before(self, estimate: float | None, items: int) -> None:
        """Answers never wait for a call that takes long."""
        if not self._records:
            return
        is_long = estimate is None or estimate * max(1, items) > FLUSH_SECONDS
        if is_long or time.monotonic() - self._held_since > FLUSH_SECONDS:
            self._flush()

    def _flush(self) -> None:
        if not self._records:
            return
        message = [Command.REPLIES.frame, b"".join(self._records), *self._frames]
        self._records, self._frames, self._held_bytes = [], [], 0
        self._data.send_multipart(message, copy=False)

    def _listen(self) -> None:
        """The second thread: what the supervisor says."""
        unread = b""
        while True:
            part = self._orders.recv(64 << 10)
            if not part:
                # No orphans: a slot ends with its supervisor, whatever it is doing.
                os._exit(1)
            unread += part
            whole = len(unread) - len(unread) % ORDER.size
            answers = [self._obey(*order) for order in ORDER.iter_unpack(unread[:whole])]
            unread = unread[whole:]
            # The supervisor always reads, so this cannot block both.
            self._orders.sendall(b"".join(answers))

    def _obey(self, kind: bytes, slot: int, seq: int, dispatch: bytes) -> bytes:
        """Obeys an order; what it answers, or nothing."""
        if kind in (JOIN, REJOIN, DRAIN):
            os.write(self._wake_write, kind)
            return b""
        with self._lock:
            is_early = seq > self._started
            if kind == CANCEL:
                if is_early:
                    self._skipped[seq] = "cancelled"
                else:
                    self._cancelled = seq
                return b""
            if is_early:
                self._skipped[seq] = "recalled"
        return ORDER.pack(GIVEN_BACK if is_early else TOO_LATE, slot, seq, dispatch)
