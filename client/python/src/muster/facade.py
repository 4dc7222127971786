"""`muster.Pool`: what `multiprocessing.Pool` offers, on a cluster.

`Pool(4)` starts a private cluster of four processes and ends it with the `with` block or the program.
`connect()` gives the same object for a cluster that runs already.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures import wait
from typing import Any

from .connection import Target
from .future import Future
from .library import initializer as pack_initializer
from .mapping import Work
from .pool import ClusterPool
from .private import PrivateCluster


class AsyncTimeout(multiprocessing.TimeoutError, TimeoutError):
    """The result was not there in time."""


class AsyncResult:
    """What `apply_async` and its kin return; `future` is the call's future."""

    def __init__(
        self,
        future: Future[Any],
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        self.future = future
        if callback is not None or error_callback is not None:
            future.add_done_callback(lambda done: _tell(done, callback, error_callback))

    def get(self, timeout: float | None = None) -> Any:
        """The result. Raises `multiprocessing.TimeoutError` after `timeout` seconds."""
        try:
            return self.future.result(timeout)
        except FutureTimeout:
            if self.future.done():
                raise
            raise AsyncTimeout(f"no result within {timeout} s") from None

    def wait(self, timeout: float | None = None) -> None:
        wait([self.future], timeout)

    def ready(self) -> bool:
        return self.future.done()

    def successful(self) -> bool:
        if not self.future.done():
            raise ValueError(f"{self!r} is not ready")
        return self.future.exception() is None


class Pool(ClusterPool):
    """A pool of processes, private or of a running cluster.

    `processes` defaults to the number of cores. `initializer(*initargs)` runs once in each process
    before the first shipped function. `maxtasksperchild` replaces a process after that many calls.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        *,
        target: Target | None = None,
        connect_timeout: float | None = None,
    ) -> None:
        self._cluster: PrivateCluster | None = None
        self._is_closing = False
        self._threads: list[threading.Thread] = []
        if target is None:
            self._cluster = PrivateCluster(processes, recycle=maxtasksperchild)
            target = self._cluster.target
        try:
            super().__init__(
                target, **({} if connect_timeout is None else {"connect_timeout": connect_timeout})
            )
            if self._cluster is not None:
                self.wait_for_slots(self._cluster.slots, timeout=60)
        except BaseException:
            if self._cluster is not None:
                try:
                    self._cluster.check()
                finally:
                    self._cluster.close()
            raise
        if initializer is not None:
            self._shared.library.setup = pack_initializer(initializer, tuple(initargs))

    def apply(self, func: Any, args: Iterable[Any] = (), kwds: dict[str, Any] | None = None) -> Any:
        """Calls a function and waits for its result."""
        return self.submit(func, *args, **(kwds or {})).wait()

    def apply_async(
        self,
        func: Any,
        args: Iterable[Any] = (),
        kwds: dict[str, Any] | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult:
        """Calls a function; the result has `get`, `wait`, `ready` and `successful`."""
        return AsyncResult(self.submit(func, *args, **(kwds or {})), callback, error_callback)

    def map_async(
        self,
        func: Any,
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult:
        """Starts a map in the background."""
        return self._collect_async(self._run(func, iterable, chunksize), callback, error_callback)

    def starmap_async(
        self,
        func: Any,
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult:
        """Starts a map over lists of arguments in the background."""
        return self._collect_async(
            self._run(func, iterable, chunksize, is_star=True), callback, error_callback
        )

    def _collect_async(
        self,
        work: Work,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> AsyncResult:
        link = self.link
        future: Future[Any] = Future(link, next(link.ids), "map")

        def collect() -> None:
            try:
                future.succeed(work.collect(False))
            except BaseException as error:
                future.fail(error)

        result = AsyncResult(future, callback, error_callback)
        thread = threading.Thread(target=collect, name="muster-map", daemon=True)
        self._threads = [*(other for other in self._threads if other.is_alive()), thread]
        thread.start()
        return result

    def _check_open(self) -> None:
        if self._is_closing:
            raise ValueError("the pool is closed")

    def _run(self, *args: Any, **kwargs: Any) -> Work:
        self._check_open()
        return super()._run(*args, **kwargs)

    def close(self) -> None:
        """Takes no more calls; the pool ends when those under way have ended."""
        if not self._is_closing:
            self._is_closing = True
            threading.Thread(target=self.join, name="muster-close", daemon=True).start()

    def terminate(self) -> None:
        """Ends the pool now; calls without an answer end with `Closed`."""
        self._is_closing = True
        super().close()
        if self._cluster is not None:
            self._cluster.close()

    def join(self) -> None:
        """Waits for what is under way, then ends the pool."""
        self._is_closing = True
        for thread in self._threads:
            thread.join()
        self._shared.link.wait_idle()
        self.terminate()

    def __exit__(self, *_: object) -> None:
        self.terminate()


def connect(
    cluster: str | None = None,
    *,
    runtime_dir: str | None = None,
    connection: str | None = None,
    endpoint: str | None = None,
    timeout: float | None = None,
) -> Pool:
    """Connects to a running cluster.

    Without arguments it is the one that `MUSTER_CLUSTER`, `MUSTER_RUNTIME_DIR`, `MUSTER_CONNECTION` or
    `MUSTER_ENDPOINT` name, else this user's `default`. `connection` is the path of a connection file,
    `endpoint` a frontend's address such as `tcp://host:5559`; `timeout` in seconds. Raises `NoBroker`.
    """
    target = Target.of(cluster, runtime_dir=runtime_dir, connection=connection, endpoint=endpoint)
    return Pool(target=target, connect_timeout=timeout)


def _tell(
    done: Any,
    callback: Callable[[Any], object] | None,
    error_callback: Callable[[BaseException], object] | None,
) -> None:
    if done.cancelled():
        return
    error = done.exception()
    if error is None and callback is not None:
        callback(done.result())
    elif error is not None and error_callback is not None:
        error_callback(error)
