"""What a pool does with many items or futures at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import as_completed as _as_completed
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload

from .chunks import NamedCalls, NamedChunks
from .future import Future
from .mapping import MapIterator, Work

if TYPE_CHECKING:
    from .pool import ClusterPool

S = TypeVar("S")
T = TypeVar("T")


class Maps:
    """The maps of a `ClusterPool`."""

    @overload
    def map(
        self,
        function: Callable[[S], T],
        items: Iterable[S],
        chunksize: int | None = None,
        *,
        progress: bool = False,
        return_exceptions: Literal[False] = False,
    ) -> list[T]: ...

    @overload
    def map(
        self,
        function: str | Callable[..., Any],
        items: Iterable[Any],
        chunksize: int | None = None,
        *,
        progress: bool = False,
        return_exceptions: bool = False,
    ) -> list[Any]: ...

    def map(
        self,
        function: str | Callable[..., Any],
        items: Iterable[Any],
        chunksize: int | None = None,
        *,
        progress: bool = False,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Applies a function to every item and returns the results in order.

        Items travel in chunks, as long as is good for this function, or of `chunksize`. If an item
        fails, the exception is raised when all have ended: its `index` is the item's, its
        `results` holds everybody's results, with exceptions in the places of those that failed.
        """
        run = self._run(function, items, chunksize, progress=progress)
        return run.collect(return_exceptions)

    @overload
    def starmap(
        self,
        function: Callable[..., T],
        items: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        progress: bool = False,
        return_exceptions: Literal[False] = False,
    ) -> list[T]: ...

    @overload
    def starmap(
        self,
        function: str | Callable[..., Any],
        items: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        progress: bool = False,
        return_exceptions: bool = False,
    ) -> list[Any]: ...

    def starmap(
        self,
        function: str | Callable[..., Any],
        items: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        progress: bool = False,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Like `map`; each item is the list of the function's arguments."""
        run = self._run(function, items, chunksize, is_star=True, progress=progress)
        return run.collect(return_exceptions)

    def imap(
        self,
        function: str | Callable[..., Any],
        items: Iterable[Any],
        chunksize: int | None = None,
        *,
        progress: bool = False,
    ) -> MapIterator:
        """Like `map`, one result after the other as it is there; takes items as results are taken.

        A failed item raises in its turn, and the iterator goes on.
        """
        return MapIterator(self._run(function, items, chunksize, progress=progress), is_ordered=True)

    def imap_unordered(
        self,
        function: str | Callable[..., Any],
        items: Iterable[Any],
        chunksize: int | None = None,
        *,
        progress: bool = False,
    ) -> MapIterator:
        """Like `imap`, in the order in which results come."""
        return MapIterator(self._run(function, items, chunksize, progress=progress), is_ordered=False)

    def as_completed(self, futures: Iterable[Future[T]], timeout: float | None = None) -> Iterator[Future[T]]:
        """Yields futures as they end; raises `TimeoutError` after `timeout` seconds."""
        return _as_completed(futures, timeout)  # type: ignore[return-value]

    def _run(
        self,
        function: str | Callable[..., Any],
        items: Iterable[Any],
        chunksize: int | None,
        *,
        is_star: bool = False,
        progress: bool = False,
    ) -> Work:
        pool = cast("ClusterPool", self)
        if not isinstance(function, str):
            return Work(pool, pool.shipment(function).chunks(is_star), items, chunksize, progress)
        method = pool.method(function)
        runs_once = pool._options.attempts == 1 or (method is not None and method.once)
        if method is not None and method.chunks and not is_star and not runs_once:
            return Work(pool, NamedChunks(pool, function), items, chunksize, progress)
        return Work(pool, NamedCalls(pool, function, is_star), items, 1, progress)
