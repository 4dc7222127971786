"""Results that are still to be computed: coroutines and generators.

muster-worker has this very file in its Python children, which may run Python 3.8.
"""

from __future__ import annotations

import asyncio
import inspect
import types
from typing import Any, Callable, Iterator  # noqa: UP035

_PENDING = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)
_loop: asyncio.AbstractEventLoop | None = None


def is_pending(function: Callable[..., Any]) -> bool:
    """Whether the function makes coroutines or generators, as far as can be told from outside."""
    return any(
        check(function)
        for check in (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    )


def settle(result: Any) -> Any:
    """What a coroutine comes to; anything else as it is."""
    return wait(result) if type(result) is types.CoroutineType else result


def wait(awaitable: Any) -> Any:
    """Runs a coroutine to its end. All of them share one loop, so that what one call has opened
    (a connection, say) serves the next."""
    global _loop
    if _loop is None or _loop.is_closed():
        _loop = asyncio.new_event_loop()
        asyncio.set_event_loop(_loop)
    return _loop.run_until_complete(awaitable)


def values(result: Any) -> Iterator[Any] | None:
    """The values of a generator, of either kind; None when it is none. Ends with what a generator
    returns."""
    if type(result) is types.GeneratorType:
        return result
    if type(result) is types.AsyncGeneratorType:
        return _drive(result)
    return None


def _drive(generator: Any) -> Iterator[Any]:
    try:
        while True:
            try:
                value = wait(generator.__anext__())
            except StopAsyncIteration:
                return
            yield value
    finally:
        wait(generator.aclose())


def collect(result: Any) -> Any:
    """The result of a call whose caller takes no stream: a generator's values as a list."""
    if type(result) not in _PENDING:
        return result
    result = settle(result)
    found = values(result)
    return result if found is None else list(found)
