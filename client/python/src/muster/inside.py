"""What a function can ask for while a worker runs it.

A worker's host calls `enter` before a function and `leave` after it. Outside a call, `progress`
does nothing and `cancelled` is False, so a function that uses them runs anywhere.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class _Current(threading.local):
    call: str | None = None
    progress: Callable[[float, float | None], None] | None = None
    cancelled: Callable[[], bool] | None = None


_current = _Current()


def enter(
    call: str | None,
    progress: Callable[[float, float | None], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> None:
    """This thread now runs the call with this id (`c123`)."""
    _current.call, _current.progress, _current.cancelled = call, progress, cancelled


def leave() -> None:
    """This thread runs no call."""
    enter(None)


def call_id() -> str | None:
    """The id of the call that this thread runs, or None."""
    return _current.call


def progress(done: float, total: float | None = None) -> None:
    """Tells a caller that listens how far the function is."""
    if _current.progress is not None:
        _current.progress(done, total)


def cancelled() -> bool:
    """Whether nobody waits for this call any more."""
    return _current.cancelled is not None and _current.cancelled()


def once(function: F) -> F:
    """Decorator for functions that a worker offers: a call that may have run never runs again."""
    function.__muster_once__ = True  # type: ignore[attr-defined]
    return function
