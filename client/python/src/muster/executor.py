"""`MusterExecutor`: a `concurrent.futures.Executor` whose workers may die without breaking it."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .facade import Pool
from .future import Future
from .pool import ClusterPool


class MusterExecutor(concurrent.futures.Executor):
    """Runs functions on a cluster: given ones are shipped, strings name methods.

    Without `pool` it starts a private cluster of `max_workers` processes (default: cores) and ends it
    with `shutdown` or the `with` block. A given pool stays open.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        pool: ClusterPool | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        max_tasks_per_child: int | None = None,
    ) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        self._owned: Pool | None = None
        if pool is None:
            pool = self._owned = Pool(max_workers, initializer, initargs, max_tasks_per_child)
        elif initializer is not None:
            raise ValueError("an initializer belongs to a private cluster; the given pool has its own")
        self._pool = pool
        self._is_shut_down = False
        self._futures: set[Future[Any]] = set()

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self._is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future = self._pool.submit(fn, *args, **kwargs)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return future

    def map(
        self,
        fn: Any,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Like `Executor.map`: results in order; `timeout` counts from this call, for each result.

        Items are taken as results are, a few chunks ahead, so `buffersize` is not needed.
        """
        if self._is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if len(iterables) == 1:
            results = self._pool.imap(fn, iterables[0], chunksize)
        else:
            from .mapping import MapIterator

            work = self._pool._run(fn, zip(*iterables, strict=False), chunksize, is_star=True)
            results = MapIterator(work, is_ordered=True)
        return _with_timeout(results, timeout)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._is_shut_down = True
        futures = list(self._futures)
        if cancel_futures:
            for future in futures:
                future.cancel()
        if self._owned is None:
            if wait:
                concurrent.futures.wait(futures)
        elif wait:
            self._owned.join()
        else:
            self._owned.close()


def _with_timeout(results: Any, timeout: float | None) -> Iterator[Any]:
    import time

    deadline = None if timeout is None else time.monotonic() + timeout

    def take() -> Iterator[Any]:
        try:
            while True:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                try:
                    result = results.next(left)
                except StopIteration:
                    return
                yield result
        finally:
            results.close()

    return take()
