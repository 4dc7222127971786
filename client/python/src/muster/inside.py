"""What a function can ask for while a worker runs it.

A worker's host calls `enter` before a function and `leave` after it. Outside a call, `progress`
does nothing and `cancelled` is False, so a function that uses them runs anywhere.

muster-worker has this very file in its Python children, where `import muster` finds it whether the
package is installed or not: the standard library alone, Python 3.8 or newer.
"""

from __future__ import annotations

from typing import Any, Callable, TypeVar  # noqa: UP035

F = TypeVar("F")

# A process that hosts functions runs one call at a time, in whatever threads the function makes.
_call: str | None = None
_progress: Callable[[float, float | None], None] | None = None
_cancelled: Callable[[], bool] | None = None


def enter(
    call: str | None,
    progress: Callable[[float, float | None], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> None:
    """This process now runs the call with this id (`c123`)."""
    global _call, _progress, _cancelled
    _call, _progress, _cancelled = call, progress, cancelled


def leave() -> None:
    """This process runs no call."""
    enter(None)


def call_id() -> str | None:
    """The id of the call that this process runs, or None."""
    return _call


def progress(done: float, total: float | None = None) -> None:
    """Tells a caller that listens how far the function is."""
    if _progress is not None:
        _progress(done, total)


def cancelled() -> bool:
    """Whether nobody waits for this call any more. A function that asks has a second to come to an end
    by itself when its call is cancelled; any other is ended with its process at once."""
    return _cancelled is not None and _cancelled()


def once(function: F) -> F:
    """Decorator for functions that a worker offers: a call that may have run never runs again."""
    mark: Any = function
    mark.__muster_once__ = True
    return function
