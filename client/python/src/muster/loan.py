"""What a call has on the shelf until it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .shelf import Shelf


class Loan:
    """Attachments of one call that are on the shelf. `is_taken` tells whether all who may run the call can
    take them there; it is asked when there is one worth it."""

    def __init__(self, shelf: Shelf, is_taken: Callable[[], bool]) -> None:
        self._shelf = shelf
        self._is_taken = is_taken
        self.names: list[str] = []

    def share(self, content: Any) -> str | None:
        """Puts bytes on the shelf; their name, or None when they are to travel as a frame."""
        if not self.names and not self._is_taken():
            return None
        name = self._shelf.put(content)
        if name is not None:
            self.names.append(name)
        return name

    def end(self, _: Any = None) -> None:
        """The call has ended, or does not need them."""
        names, self.names = self.names, []
        if names:
            self._shelf.drop(names)
