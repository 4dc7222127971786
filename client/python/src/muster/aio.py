"""The pool for asyncio: `await pool.call("multiply", 5, 3)`.

Cancelling a task cancels its call on the cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from .facade import connect
from .mapping import MapIterator
from .options import Method
from .pool import ClusterPool


class AsyncPool:
    """A `ClusterPool` whose waits are awaits. Used in the event loop it was made in, or any other."""

    def __init__(self, pool: ClusterPool) -> None:
        self.pool = pool

    @classmethod
    async def connect(cls, cluster: str | None = None, **options: Any) -> AsyncPool:
        """Connects to a running cluster; see `muster.connect`."""
        return cls(await asyncio.to_thread(connect, cluster, **options))

    async def call(
        self, function: str | Callable[..., Any], /, *args: Any, timeout: float | None = None, **kwargs: Any
    ) -> Any:
        """Calls a function; `timeout` in seconds is its deadline on the cluster."""
        pool = self.pool if timeout is None else self.pool.options(timeout=timeout)
        return await self.submit_to(pool, function, args, kwargs)

    def submit(self, function: str | Callable[..., Any], /, *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        """Makes a call and returns an awaitable future at once."""
        return self.submit_to(self.pool, function, args, kwargs)

    @staticmethod
    def submit_to(
        pool: ClusterPool, function: str | Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> asyncio.Future[Any]:
        return asyncio.wrap_future(pool.submit(function, *args, **kwargs))

    async def map(
        self, function: str | Callable[..., Any], items: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """Applies a function to every item; results in order."""
        return [result async for result in self.imap(function, items, chunksize)]

    async def imap(
        self, function: str | Callable[..., Any], items: Iterable[Any], chunksize: int | None = None
    ) -> AsyncIterator[Any]:
        """Like `map`, one result after the other, in order."""
        results: MapIterator = await asyncio.to_thread(self.pool.imap, function, items, chunksize)
        async for result in _iterate(results):
            yield result

    async def imap_unordered(
        self, function: str | Callable[..., Any], items: Iterable[Any], chunksize: int | None = None
    ) -> AsyncIterator[Any]:
        """Like `imap`, in the order in which results come."""
        results = await asyncio.to_thread(self.pool.imap_unordered, function, items, chunksize)
        async for result in _iterate(results):
            yield result

    async def stream(
        self, function: str | Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """Calls a generator function and gives what it yields as it comes."""
        loop = asyncio.get_running_loop()
        there = asyncio.Event()
        stream = self.pool.stream(function, *args, **kwargs)
        stream.notice = lambda: _set(loop, there)
        try:
            while True:
                try:
                    yield stream.take(0)
                except StopIteration:
                    return
                except TimeoutError:
                    there.clear()
                    # It may have come since it was looked for.
                    if stream.is_empty():
                        await there.wait()
        finally:
            stream.cancel()

    async def call_to(self, worker: str, function: str, /, *args: Any, **kwargs: Any) -> Any:
        """Calls a method of the worker with this name."""
        return await self.submit_to(self.pool.options(to=worker), function, args, kwargs)

    async def broadcast(self, function: str, /, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Calls a method of every worker; results by the workers' names."""
        return await asyncio.to_thread(self.pool.broadcast, function, *args, **kwargs)

    async def methods(self) -> list[Method]:
        """Every method on offer."""
        return await asyncio.to_thread(self.pool.methods)

    async def status(self) -> dict[str, Any]:
        """The broker in numbers."""
        return await asyncio.wrap_future(self.pool.request("broker.status"))

    async def close(self) -> None:
        """Closes the connection."""
        await asyncio.to_thread(self.pool.close)

    async def __aenter__(self) -> AsyncPool:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.pool.__exit__)


def _set(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    try:
        loop.call_soon_threadsafe(event.set)
    except RuntimeError:
        pass  # The loop is closed: nobody waits.


_END = object()


async def _iterate(results: MapIterator) -> AsyncIterator[Any]:
    def take() -> Any:
        # A StopIteration cannot pass through a future.
        try:
            return results.next()
        except StopIteration:
            return _END

    try:
        while True:
            # What is there already needs no thread.
            result = results.next_ready(_END)
            if result is _END:
                result = await asyncio.to_thread(take)
            if result is _END:
                return
            yield result
    finally:
        results.close()
