"""A call as the link keeps it, and what the link reads of its answer."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from .loan import Loan
from .streaming import Listener
from .wire import Buffer

#: Receives an answer (body and attachments), or an exception when there will be none. It is called
#: on the link's thread and must not block.
Sink = Callable[[bytes, Sequence[Buffer], "BaseException | None"], None]

_LAST_ID = re.compile(rb'"id":\s*(\d+)\s*\}\s*\Z')


class Entry:
    """A call from its submission to its answer."""

    __slots__ = ("body", "frames", "id", "is_again", "is_once", "is_sent", "listener", "loan", "method", "sink")

    def __init__(
        self,
        id: int,
        method: str,
        body: bytes,
        frames: Sequence[Buffer],
        sink: Sink,
        is_once: bool = False,
        listener: Listener | None = None,
        loan: Loan | None = None,
        is_again: bool = False,
    ) -> None:
        self.id = id
        self.method = method
        self.body = body
        self.frames = frames
        self.sink = sink
        self.is_once = is_once
        self.is_sent = False
        self.listener = listener
        self.loan = loan
        #: The same call was made before, and answered by something that had not run it.
        self.is_again = is_again

    def drop(self) -> None:
        """Nobody waits for its answer any more."""
        if self.loan is not None:
            self.loan.end()

    def deliver(self, body: bytes, frames: Sequence[Buffer], error: BaseException | None) -> None:
        """Gives the answer to the sink. A user's callback that fails does not end everybody's link."""
        self.drop()
        try:
            lost = self.listener.lost if self.listener is not None else None
            self.sink(body, frames, error or lost)
        except Exception:
            _report()

    def tell(self, kind: str, params: dict[str, Any], frames: Sequence[Buffer], size: int) -> None:
        """Gives a notification to the listener, whose callbacks may fail likewise."""
        try:
            if self.listener is not None:
                self.listener.heed(kind, params, frames, size)
        except Exception:
            _report()


def _report() -> None:
    threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))


def nobody(body: bytes, frames: Sequence[Buffer], error: BaseException | None) -> None:
    """The sink of what interests nobody."""


def find_id(body: bytes) -> int | None:
    """The id of an answer, without parsing a large one: brokers and our workers put it last."""
    found = _LAST_ID.search(body, max(0, len(body) - 40))
    if found:
        return int(found[1])
    try:
        id = json.loads(body)["id"]
    except (ValueError, KeyError, TypeError):
        return None
    return id if isinstance(id, int) else None


def read_result(body: bytes) -> Any:
    """The result in an answer of the broker itself; None when there is none."""
    try:
        answer = json.loads(body)
    except ValueError:
        return None
    return answer.get("result") if isinstance(answer, dict) else None
