"""Which calls may be sent to another broker when theirs was restarted."""

from __future__ import annotations

from collections.abc import Iterable

from .entry import Entry


class Repeats:
    """What is known of methods that must not run twice."""

    def __init__(self) -> None:
        self._once: dict[str, bool] = {}

    def learn(self, once: dict[str, bool]) -> None:
        """Takes in what the broker tells of its methods."""
        self._once.update(once)

    def knows(self, entries: Iterable[Entry]) -> bool:
        """Whether all of these calls' methods are known."""
        return all(self._look_up(entry) is not None for entry in entries)

    def is_once(self, entry: Entry) -> bool:
        """Whether a call is known not to bear a second run."""
        return self._look_up(entry) is True

    def sort(self, entries: Iterable[Entry], is_same: bool) -> tuple[list[Entry], list[Entry], list[Entry]]:
        """The calls to send again, those of unknown methods, and those that must not be.

        The same broker knows the calls by their keys, so all may be sent to it.
        """
        fit: list[Entry] = []
        unsure: list[Entry] = []
        unfit: list[Entry] = []
        for entry in entries:
            is_once = False if is_same else self._look_up(entry)
            (unsure if is_once is None else unfit if is_once else fit).append(entry)
        return fit, unsure, unfit

    def _look_up(self, entry: Entry) -> bool | None:
        if entry.is_once:
            return True
        if not entry.method or entry.method.startswith(("broker.", "system.", "rpc.")):
            return False
        return self._once.get(entry.method)
