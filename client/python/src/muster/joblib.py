"""A joblib backend: `import muster.joblib`, then `joblib.parallel_config("muster", n_jobs=4)`.

Without more it starts a private cluster of `n_jobs` processes and keeps it for later calls. A running
cluster is named by `parallel_config("muster", pool=muster.connect())`; its workers need
`--allow-apply`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from joblib import register_parallel_backend
from joblib.parallel import AutoBatchingMixin, ParallelBackendBase

from .facade import Pool
from .future import Future
from .pool import ClusterPool
from .shipped import METHOD

#: The private pool, which outlives single `Parallel` calls as joblib's own executor does.
_private: Pool | None = None
_private_pid = 0
_lock = threading.Lock()


class MusterBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """joblib's tasks as shipped functions, in batches whose size joblib fits to their time."""

    supports_retrieve_callback = True
    supports_timeout = True
    uses_threads = False
    supports_sharedmem = False
    default_n_jobs = -1

    def __init__(self, *args: Any, pool: ClusterPool | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._given = pool
        self._pool: ClusterPool | None = pool
        self._under_way: set[Future[Any]] = set()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many calls can run at once: the cluster's slots, or as many processes as asked for."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if self._given is not None:
            method = self._given.method(METHOD)
            slots = method.slots if method is not None else 1
        else:
            slots = os.cpu_count() or 1
        if n_jobs is None:
            return 1 if self._given is None else slots
        if n_jobs < 0:
            return max(1, slots + 1 + n_jobs)
        return n_jobs if self._given is None else min(n_jobs, slots)

    def configure(
        self, n_jobs: int = 1, parallel: Any = None, prefer: Any = None, require: Any = None, **_: Any
    ) -> int:
        """A `Parallel` call begins; returns how many of its calls can run at once."""
        self.parallel = parallel
        jobs = self.effective_n_jobs(n_jobs)
        if self._given is None:
            self._pool = _private_pool(jobs)
        return jobs

    def submit(self, func: Callable[..., Any], callback: Callable[[Any], None] | None = None) -> Future[Any]:
        """Runs a batch of tasks on a worker."""
        assert self._pool is not None, "joblib configures a backend before it submits"
        future = self._pool.submit(_run_batch, func)
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    # Before joblib 1.5.
    apply_async = submit

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """The batch's results, in joblib's callback."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancels what is under way, here and on the cluster."""
        for future in list(self._under_way):
            future.cancel()

    def terminate(self) -> None:
        """A `Parallel` call is over; the pool stays for the next one."""
        self._under_way.clear()
        self.reset_batch_stats()


def _run_batch(batch: Callable[[], Any]) -> Any:
    return batch()


def _private_pool(jobs: int) -> Pool:
    global _private, _private_pid
    with _lock:
        if _private is not None and _private_pid != os.getpid():
            _private = None
        if _private is not None:
            method = _private.method(METHOD)
            if method is None or method.slots < jobs:
                _private.terminate()
                _private = None
        if _private is None:
            _private, _private_pid = Pool(jobs), os.getpid()
        return _private


register_parallel_backend("muster", MusterBackend)
