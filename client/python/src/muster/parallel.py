"""Decorators: `@pool.remote` runs a function elsewhere, `@pool.parallel` in many places at once."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import wait
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from . import shipped
from .future import Future
from .mapping import mark

if TYPE_CHECKING:
    from .pool import ClusterPool


class RemoteFunction:
    """A function, or a method by its name, that runs on the cluster when it is called."""

    def __init__(self, pool: ClusterPool, function: str | Callable[..., Any], block: bool) -> None:
        self._pool = pool
        self._block = block
        self.function = function
        if callable(function):
            functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        future = self.submit(*args, **kwargs)
        return future.result() if self._block else future

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        """Calls it and returns the future."""
        return self._pool.submit(self.function, *args, **kwargs)

    def map(self, items: Iterable[Any], **options: Any) -> list[Any]:
        """Applies it to every item; see `ClusterPool.map`."""
        return self._pool.map(self.function, items, **options)


class ParallelFunction:
    """A function whose lists and arrays are split over the workers and whose results are joined."""

    def __init__(self, pool: ClusterPool, function: str | Callable[..., Any], parts: int | None) -> None:
        self._pool = pool
        self._parts = parts
        self.function = function
        if callable(function):
            functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs all parts and joins their results: arrays along the first axis, lists into one, other
        results into a list. If a part fails, its exception is raised after all have ended; `index`
        is the part's number, `results` the outcome of each.
        """
        parts = self._split(args, kwargs)
        futures = [self._pool.submit(self.function, *args, **kwargs) for args, kwargs in parts]
        try:
            wait(futures)
        except BaseException:
            for future in futures:
                future.cancel()
            raise
        outcomes = [future.exception() or future.result() for future in futures]
        for index, future in enumerate(futures):
            failure = future.exception()
            if isinstance(failure, Exception):
                raise mark(failure, index, outcomes)
        return _join(outcomes)

    def _split(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        values = [*args, *kwargs.values()]
        lengths = {len(value) for value in values if _is_splittable(value)}
        if len(lengths) != 1:
            found = f"lengths {sorted(lengths)}" if lengths else "none"
            raise ValueError(f"a parallel call splits lists or arrays of one length; there are {found}")
        (length,) = lengths
        parts = max(1, min(self._parts or self._slots(), length))
        bounds = [length * part // parts for part in range(parts + 1)]

        def cut(value: Any, start: int, end: int) -> Any:
            return value[start:end] if _is_splittable(value) else value

        return [
            (
                tuple(cut(value, start, end) for value in args),
                {name: cut(value, start, end) for name, value in kwargs.items()},
            )
            for start, end in pairwise(bounds)
        ]

    def _slots(self) -> int:
        name = self.function if isinstance(self.function, str) else shipped.METHOD
        method = self._pool.method(name)
        return method.slots if method is not None and method.slots else 1


def _is_splittable(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return isinstance(value, (list, tuple)) or (
        numpy is not None and isinstance(value, numpy.ndarray) and value.ndim > 0
    )


def _join(results: list[Any]) -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is not None and all(isinstance(result, numpy.ndarray) and result.ndim for result in results):
        return numpy.concatenate(results)
    if all(isinstance(result, list) for result in results):
        return [item for result in results for item in result]
    return results
