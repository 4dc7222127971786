"""What a call has on the shelf until it ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from .shelf import Shelf

#: Takes the answer of a call: body, attachments, exception.
Sink = Callable[[bytes, Sequence[Any], "BaseException | None"], None]


class Loan:
    """Attachments of one call that are on the shelf. `is_taken` tells whether all who may run the call can
    take them there; it is asked when there is one worth it."""

    def __init__(self, shelf: Shelf, is_taken: Callable[[], bool]) -> None:
        self._shelf = shelf
        self._is_taken = is_taken
        self.names: list[str] = []
        #: How large they are together.
        self.bytes = 0

    def share(self, content: Any) -> str | None:
        """Puts bytes on the shelf; their name, or None when they are to travel as a frame."""
        if not self.names and not self._is_taken():
            return None
        name = self._shelf.put(content)
        if name is not None:
            self.names.append(name)
            self.bytes += memoryview(content).nbytes
        return name

    def sink(self, sink: Sink, post_as_frames: Callable[[Sink], object]) -> Sink:
        """The sink of a call with these attachments: if its answer says that somebody could not take them from the
        shelf, the call is made again."""

        def take(body: bytes, frames: Sequence[Any], error: BaseException | None) -> None:
            if error is not None or not _is_out_of_reach(body):
                sink(body, frames, error)
                return
            try:
                post_as_frames(sink)
            except Exception as failure:
                # A message carries fewer frames than a shelf.
                sink(b"", (), failure)

        return take

    def end(self, _: Any = None) -> None:
        """The call has ended, or does not need them."""
        names, self.names = self.names, []
        if names:
            self._shelf.drop(names)


def _is_out_of_reach(body: bytes) -> bool:
    if not body.startswith(b'{"jsonrpc":"2.0","error":') or b'"shelf"' not in body:
        return False
    try:
        error = json.loads(body)["error"]
        return error["code"] == -32602 and "shelf" in error["data"]
    except (ValueError, KeyError, TypeError):
        return False
