"""The way to the broker, shared by any number of threads.

Any thread leaves calls here; the transport's thread sends them and hands each answer to its call's
sink. Every call carries a random key, so that a broker knows it again on another connection.
"""

from __future__ import annotations

import functools
import json
import queue
import secrets
import time
from collections.abc import Iterable

from .connection import Target
from .entry import Entry, nobody
from .errors import Closed
from .shelf import Shelf
from .transport import Transport

#: How long calls wait for a broker that went away, in seconds.
PATIENCE = 15.0
#: How long after its deadline a call that the broker did not answer is given up, in seconds.
GUARD = 2.0


class Link:
    """A connection to one broker."""

    def __init__(self, target: Target, patience: float = PATIENCE) -> None:
        self.target = target
        self.prefix = secrets.token_hex(12)
        self._transport = Transport(target, patience)
        self._ledger = self._transport.ledger
        #: The process that it is of: a forked one needs a link of its own.
        self.pid = self._transport.pid
        #: Ids for calls, no two alike.
        self.ids = self._transport.ids

    @property
    def shelf(self) -> Shelf | None:
        """Where large attachments may be, if the broker is on this machine and has one."""
        return self._transport.shelf

    def wait_ready(self, timeout: float) -> None:
        """Waits for the broker's first word. Raises `NoBroker` after `timeout` seconds."""
        self._transport.wait_ready(timeout)

    def key(self, id: int, is_again: bool = False) -> str:
        """The key of the call with this id. When it is made again it has another: under the first one the broker
        would give the first answer."""
        return f"{self.prefix}-{id}-again" if is_again else f"{self.prefix}-{id}"

    def submit(self, entry: Entry, timeout: float | None = None) -> None:
        """Sends a call. `timeout` in seconds is that of the call. Raises `Closed`."""
        transport = self._transport
        if transport.is_closed:
            raise Closed("the pool is closed")
        if timeout:
            due = time.monotonic() + timeout + GUARD
            transport.commands.append(lambda: self._ledger.guard(due, entry.id))
        self._ledger.add(entry)
        if transport.is_asleep:
            transport.wake()

    def cancel(self, ids: Iterable[int]) -> None:
        """Asks the broker to end these calls, and forgets them. Never waits."""
        gone = list(ids)
        if not gone or self._transport.is_closed:
            return
        self._transport.commands.append(lambda: self._forget(gone))
        self._transport.wake()

    def learn(self, once: dict[str, bool]) -> None:
        """Takes in which methods must not run twice."""
        self._transport.commands.append(lambda: self._transport.repeats.learn(once))

    def wait_idle(self) -> None:
        """Waits until no call is unanswered."""
        while not self._transport.is_closed:
            answer: queue.SimpleQueue[bool] = queue.SimpleQueue()
            self._transport.commands.append(functools.partial(self._tell_idle, answer))
            self._transport.wake()
            try:
                if answer.get(timeout=1):
                    return
            except queue.Empty:
                continue
            time.sleep(0.005)

    def close(self) -> None:
        """Ends the thread; calls without an answer end with `Closed`. May be called twice."""
        self._transport.close()

    def is_own_thread(self) -> bool:
        """Whether this is the link's thread, which must not wait for an answer."""
        return self._transport.is_own_thread()

    # --- done by the transport's thread -----------------------------------------------------

    def _tell_idle(self, answer: queue.SimpleQueue[bool]) -> None:
        answer.put(self._transport.is_idle())

    def _forget(self, ids: list[int]) -> None:
        """Has the broker end those that it has, and sends none of the others."""
        sent = self._ledger.withdraw(ids)
        for at in range(0, len(sent), 1000):
            # Notifications: their outcome interests nobody.
            calls = [
                {
                    "jsonrpc": "2.0",
                    "method": "broker.cancel",
                    "params": {"key": self.key(entry.id, entry.is_again)},
                }
                for entry in sent[at : at + 1000]
            ]
            self._ledger.add(Entry(0, "", json.dumps(calls).encode(), [], nobody))
