"""The thread that owns a link's socket.

It sends the calls that are left in its ledger and hands each answer to its call's sink. When the
connection breaks it looks for the broker again, and sends again what has no answer: the broker that
knows the calls goes on with them, and another one (it was restarted) is only given those that may
run twice.
"""

from __future__ import annotations

import atexit
import itertools
import json
import os
import select
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from . import shelf
from .bell import Bell
from .connection import Address, Target
from .door import Door
from .entry import Entry, find_id, read_result
from .errors import BrokerLost, Closed, MusterError, NoBroker, UnknownOutcome, from_object
from .ledger import Ledger
from .local_door import LocalDoor, is_local
from .repeats import Repeats
from .streaming import PREFIX, read_note
from .wire import Buffer

#: Messages received or sent before the thread looks at its other work.
BURST = 1024
#: How long an opened connection may take until the broker has told who it is.
OPENING = 2.0
#: The pause before the broker is looked for again.
RETRY = 0.05
#: While calls are unanswered the broker is asked this often whether it is there.
PING = 1.0
#: A broker silent for this long is taken for a dead connection, whatever TCP says.
SILENT_MAX = 15.0
#: How long a broker keeps the calls of a connection that ended.
KEYS_KEPT = 10.0
#: How often, and for how long, a new broker is asked for methods not registered yet.
ASK, ASK_MAX = 0.2, 10.0
#: How long a connection that is closed takes at most to send what is left, in seconds.
PARTING = 0.5


class Transport:
    """The socket's thread. What has no underscore is for any thread, the rest is the thread's own."""

    def __init__(self, target: Target, patience: float) -> None:
        self.pid = os.getpid()
        #: Ids of calls, and of the thread's own questions.
        self.ids = itertools.count(1)
        #: Where calls are left; `wake` the thread if it `is_asleep`.
        self.ledger = Ledger()
        #: What the thread does before anything else.
        self.commands: deque[Callable[[], None]] = deque()
        self.repeats = Repeats()
        self.is_asleep = False
        self.is_closed = False
        self._target = target
        self._patience = patience
        self._epoch: str | None = None
        self._ready = threading.Event()
        self._reason: BaseException | None = None
        self._bell = Bell()
        self._context = zmq.Context()
        self._door: Door | LocalDoor | None = None
        self._is_ready = False
        now = time.monotonic()
        self._due = now
        self._lost: float | None = now
        self._heard = self._ping = now
        self._asking: tuple[float, float] | None = None
        self._unsure: list[Entry] = []
        self._address: Address = target.resolve()
        #: Where large attachments may be, if the broker is on this machine and has one.
        self.shelf = shelf.beside(self._address.frontend)
        self._thread = threading.Thread(target=self._run, name="muster-link", daemon=True)
        self._thread.start()
        _transports.add(self)

    def wait_ready(self, timeout: float) -> None:
        """Waits for the broker's first word. Raises `NoBroker` after `timeout` seconds."""
        if not self._ready.wait(timeout):
            reason = self._reason
            if isinstance(reason, MusterError):
                raise reason
            why = f": {reason}" if reason is not None else ""
            raise NoBroker(f"no broker answers at {self._address.frontend}{why}")

    def wake(self) -> None:
        """Has the thread look at what was left for it."""
        self.is_asleep = False
        self._bell.ring()

    def close(self) -> None:
        """Ends the thread; calls without an answer end with `Closed`. May be called twice."""
        if self.is_closed:
            return
        self.is_closed = True
        if self.pid != os.getpid():
            # A forked process has all but the thread.
            return
        self.wake()
        if not self.is_own_thread():
            self._thread.join(5)

    def is_own_thread(self) -> bool:
        """Whether this is the socket's thread, which must not wait for an answer."""
        return threading.current_thread() is self._thread

    def is_idle(self) -> bool:
        """Whether no call is unanswered. Only the thread itself can tell: between its turns no call is halfway."""
        return not (self._unsure or self.ledger.has_calls())

    def _run(self) -> None:
        try:
            while not self.is_closed:
                self._turn()
        except BaseException as error:
            self._reason = error
            raise
        finally:
            self.is_closed = True
            if self._door:
                self._door.close(PARTING if self._part(self._door) else 0.0)
            self._context.term()
            for entry in self.ledger.take_all():
                entry.sink(b"", [], Closed("the pool was closed before the answer came"))
            self._bell.close()

    def _part(self, door: Door | LocalDoor) -> bool:
        """Sends what was cancelled or notified last; whether there was any."""
        while self.commands:
            self.commands.popleft()()
        unsent = self.ledger.take_unsent()
        self.ledger.put_first([entry for entry in unsent if entry.id])
        notes = [entry for entry in unsent if not entry.id]
        return bool([note for note in notes if door.send(note.body, note.frames)])

    def _turn(self) -> None:
        while self.commands:
            self.commands.popleft()()
        door = self._door
        is_full = False
        received = 0
        if door is not None:
            for event in door.events():
                self._linked(event)
            if self._door is door:
                received = self._receive(door)
                is_full = self._send(door) if self._is_ready else False
        self._keep_time()
        if self._door is not None:
            self._door.flush()
        if received < BURST:
            self._sleep(is_full)

    def _sleep(self, is_full: bool) -> None:
        self.is_asleep = True
        can_send = self._is_ready and self.ledger.has_unsent() and not is_full
        if can_send or self.commands or self.is_closed:
            self.is_asleep = False
            return
        wait = max(0.0, self._next_time() - time.monotonic())
        if self._door is not None:
            is_woken = self._door.wait(self._bell.fd, wait)
        else:
            is_woken = bool(select.select([self._bell.fd], [], [], min(wait, RETRY))[0])
        self.is_asleep = False
        if is_woken:
            self._bell.hush()

    def _next_time(self) -> float:
        times = [time.monotonic() + 60]
        if not self._is_ready:
            times.append(self._due)
        elif self.ledger.is_waiting():
            times.append(self._ping)
        if self._lost is not None and (self.ledger.is_waiting() or self.ledger.has_unsent()):
            times.append(self._lost + self._patience)
        guard_due = self.ledger.guard_due()
        if guard_due is not None:
            times.append(guard_due)
        if self._asking:
            times.append(self._asking[1])
        return min(times)

    def _receive(self, door: Door | LocalDoor) -> int:
        close = self.ledger.close
        for received in range(BURST):
            message = door.receive()
            if message is None:
                if received:
                    self._heard = time.monotonic()
                return received
            body, frames = message
            if b'"$shared"' in body:
                body, frames = self._unshelve(body, frames)
            if body.startswith(PREFIX):
                self._hear(body, frames)
                continue
            entry = close(find_id(body))
            if entry is not None:
                entry.deliver(body, frames, None)
        self._heard = time.monotonic()
        return BURST

    def _unshelve(self, body: bytes, frames: list[Buffer]) -> tuple[bytes, list[Buffer]]:
        """The message with what it has on the shelf as frames."""
        try:
            text, frames = shelf.receive(self.shelf, str(body, "utf-8"), frames, is_last=True)
            return text.encode(), frames
        except (shelf.NotThere, UnicodeDecodeError) as error:
            id = find_id(body)
            lost = {"code": -32008, "message": f"unreadable answer: {error}"}
            return json.dumps({"jsonrpc": "2.0", "error": lost, "id": id}).encode(), []

    def _hear(self, body: bytes, frames: Sequence[Buffer]) -> None:
        """A notification about a call that runs."""
        kind, params = read_note(body)
        entry = self.ledger.find(params["id"])
        if entry is not None:
            entry.tell(kind, params, frames, len(body) + sum(map(len, frames)))

    def _send(self, door: Door | LocalDoor) -> bool:
        """Sends what there is; True: the socket has no more room."""
        ledger = self.ledger
        for _ in range(BURST):
            entry = ledger.next_unsent()
            if entry is None:
                if not self._unsure:
                    ledger.forget_withdrawn()
                return False
            if not door.send(entry.body, entry.frames):
                ledger.put_first([entry])
                return True
            ledger.open(entry)
        return False

    def _linked(self, event: str) -> None:
        if event == "up":
            self._ask("broker.status", self._found)
        elif event == "down" and self._door:
            # What the broker said last is still here to be read.
            while self._receive(self._door):
                pass
            self._lose()
        elif event == "refused":
            self._reason = NoBroker(f"the broker at {self._address.frontend} refuses this key")

    def _ask(self, method: str, use: Callable[[Any], None]) -> None:
        def sink(body: bytes, frames: Sequence[Buffer], error: BaseException | None) -> None:
            if error is None:
                use(read_result(body))

        id = next(self.ids)
        body = f'{{"jsonrpc":"2.0","method":"{method}","id":{id}}}'.encode()
        entry = Entry(id, "", body, [], sink)
        if self._door and self._door.send(entry.body, []):
            self.ledger.open(entry)
        self._ping = time.monotonic() + PING

    def _lose(self) -> None:
        """Drops the connection; the calls stay."""
        now = time.monotonic()
        if self._is_ready:
            self._lost = now
        self._is_ready = False
        if self._door:
            self._door.close()
            self._door = None
        self._asking = None
        self.ledger.drop_questions()
        self._due = now + RETRY

    def _found(self, status: Any) -> None:
        """The broker has told who it is."""
        now = time.monotonic()
        self._heard = now
        if self._is_ready:
            return
        # What answers with something else is no Muster broker, but may serve calls.
        epoch = str(status.get("epoch", "")) if isinstance(status, dict) else ""
        away = now - self._lost if self._lost is not None else 0.0
        is_same = bool(epoch) and epoch == self._epoch and away < KEYS_KEPT
        is_first = self._epoch is None
        self._epoch, self._lost, self._is_ready = epoch, None, True
        self.ledger.drop_questions()
        self._resend(self.ledger.take_open(), is_same or is_first)
        self._ready.set()

    def _resend(self, entries: list[Entry], is_same: bool) -> None:
        fit, unsure, unfit = self.repeats.sort(entries, is_same)
        for entry in unfit:
            lost = f"the broker was restarted while {entry.method} was under way; it must not run twice"
            entry.deliver(b"", [], UnknownOutcome(lost))
        self.ledger.put_first(fit)
        self._unsure = unsure
        now = time.monotonic()
        self._asking = (now, now) if unsure else None

    def _learned(self, methods: Any) -> None:
        if isinstance(methods, list):
            self.repeats.learn({method["name"]: bool(method.get("once")) for method in methods})
        if self._unsure and self._asking:
            asking, unsure = self._asking, self._unsure
            self._resend(unsure, False)
            self._asking = asking if self._unsure else None

    def _keep_time(self) -> None:
        now = time.monotonic()
        for entry in self.ledger.take_overdue(now):
            overdue = {"code": -32001, "message": "DeadlineExceeded: the broker is silent"}
            entry.deliver(b"", [], from_object(overdue, entry.method))
        if self._lost is not None and now - self._lost >= self._patience:
            self._give_up()
        if not self._is_ready:
            if self._due <= now:
                self._lose() if self._door else self._reopen(now)
            return
        if self._asking and self._asking[1] <= now:
            since = self._asking[0]
            if now - since >= ASK_MAX:
                self.repeats.learn({entry.method: True for entry in self._unsure})
                self._resend(self._unsure, False)
            else:
                self._asking = (since, now + ASK)
                self._ask("broker.methods", self._learned)
        if now >= self._ping:
            self._check(now)

    def _check(self, now: float) -> None:
        self._ping = now + PING
        if not self.ledger.is_waiting():
            # Nobody waits, so nobody cares; and silence counts from the next question.
            self._heard = now
        elif now - self._heard >= SILENT_MAX:
            self._lose()
        else:
            if not self.repeats.knows(itertools.islice(self.ledger.waiting(), 8)):
                # Known in advance, calls go on at once when the broker is restarted.
                self._ask("broker.methods", self._learned)
            self._ask("broker.status", self._found)

    def _reopen(self, now: float) -> None:
        try:
            self._address = self._target.resolve()
            self.shelf = shelf.beside(self._address.frontend)
            is_near = is_local(self._address)
            self._door = LocalDoor(self._address) if is_near else Door(self._context, self._address)
            self._due = now + OPENING
        except (MusterError, zmq.ZMQError, OSError) as error:
            self._reason = error
            self._due = now + RETRY

    def _give_up(self) -> None:
        waited = f"the broker went away and did not come back within {self._patience:g} s"
        entries = [*self.ledger.take_all(), *self._unsure]
        self._unsure = []
        for entry in entries:
            is_once = entry.is_sent and self.repeats.is_once(entry)
            entry.deliver(b"", [], UnknownOutcome(waited) if is_once else BrokerLost(waited))


_transports: weakref.WeakSet[Transport] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for transport in list(_transports):
        transport.close()
