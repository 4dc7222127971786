"""The calls of a link, from their submission to their answer."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator

from .entry import Entry


class Ledger:
    """Calls that wait to be sent, and calls that wait for an answer. Any thread may `add`; all else is for the
    link's own."""

    def __init__(self) -> None:
        self._outbox: deque[Entry] = deque()
        self._withdrawn: set[int] = set()
        self._open: dict[int, Entry] = {}
        self._guards: list[tuple[float, int]] = []

    def add(self, entry: Entry) -> None:
        """A call that is to be sent."""
        self._outbox.append(entry)

    def has_unsent(self) -> bool:
        return bool(self._outbox)

    def next_unsent(self) -> Entry | None:
        """The next call to be sent."""
        while self._outbox:
            entry = self._outbox.popleft()
            if entry.id not in self._withdrawn:
                return entry
            self._withdrawn.discard(entry.id)
            entry.drop()
        return None

    def forget_withdrawn(self) -> None:
        """Nothing waits to be sent: what is withdrawn and was not met has its answer."""
        self._withdrawn.clear()

    def put_first(self, entries: list[Entry]) -> None:
        """Calls that are to be sent before all others."""
        self._outbox.extendleft(reversed(entries))

    def open(self, entry: Entry) -> None:
        """A call is sent; those without an id have no answer."""
        entry.is_sent = True
        if entry.id:
            self._open[entry.id] = entry

    def find(self, id: int) -> Entry | None:
        """A call that waits for its answer."""
        return self._open.get(id)

    def close(self, id: int | None) -> Entry | None:
        """Takes out a call that waits for its answer."""
        return self._open.pop(id, None) if id is not None else None

    def withdraw(self, ids: Iterable[int]) -> list[Entry]:
        """Takes calls out; those that the broker has."""
        sent = []
        for id in ids:
            entry = self._open.pop(id, None)
            if entry is not None:
                entry.drop()
                sent.append(entry)
            else:
                # The outbox is not looked through: other threads add to it meanwhile.
                self._withdrawn.add(id)
        return sent

    def waiting(self) -> Iterator[Entry]:
        """Calls that wait for their answer."""
        return iter(self._open.values())

    def is_waiting(self) -> bool:
        """Whether an answer is waited for, be it to a question of the link's own."""
        return bool(self._open)

    def has_calls(self) -> bool:
        """Whether a call is without an answer."""
        return bool(self._outbox) or any(entry.method for entry in self._open.values())

    def drop_questions(self) -> None:
        """Forgets what the link itself has asked."""
        for id in [id for id, entry in self._open.items() if not entry.method]:
            del self._open[id]

    def take_open(self) -> list[Entry]:
        """Takes out all that wait for their answer."""
        entries = list(self._open.values())
        self._open.clear()
        return entries

    def take_unsent(self) -> list[Entry]:
        """Takes out all that are to be sent."""
        entries = []
        while entry := self.next_unsent():
            entries.append(entry)
        return entries

    def take_all(self) -> list[Entry]:
        """Takes out all calls."""
        return self.take_open() + self.take_unsent()

    def guard(self, due: float, id: int) -> None:
        """A call is given up then, if the broker has not done so."""
        heapq.heappush(self._guards, (due, id))

    def guard_due(self) -> float | None:
        """When the next call is to be given up."""
        return self._guards[0][0] if self._guards else None

    def take_overdue(self, now: float) -> Iterator[Entry]:
        """Takes out the calls that are to be given up."""
        while self._guards and self._guards[0][0] <= now:
            entry = self.close(heapq.heappop(self._guards)[1])
            if entry is not None:
                yield entry
