"""Muster: a pool of workers that answers function calls, for Python programs.

    import muster

    pool = muster.connect()
    pool.call("multiply", 5, 3)                    # a method that a worker offers
    pool.map("is_even", range(1_000_000))

    with muster.Pool(4) as pool:                   # a private pool, like multiprocessing.Pool
        pool.map(lambda x: x * x, range(1_000_000))

docs/python.md shows the whole of it.
"""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION, as_completed, wait

__version__ = "0.1.0"

from .aio import AsyncPool
from .connection import Target
from .errors import (
    ApplyNotAllowed,
    BadReply,
    BrokerLost,
    CallError,
    Cancelled,
    Closed,
    DeadlineExceeded,
    Draining,
    Forbidden,
    InvalidParams,
    MethodNotFound,
    MusterError,
    NoBroker,
    NotPicklable,
    Overloaded,
    RemoteError,
    TooLarge,
    UnknownOutcome,
    WorkerLost,
)
from .executor import MusterExecutor
from .facade import AsyncResult, Pool, connect
from .future import Future
from .inside import call_id, cancelled, once, progress
from .options import Method, Options
from .pool import ClusterPool
from .serving import serve
from .streaming import Stream

__all__ = [
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "ApplyNotAllowed",
    "AsyncPool",
    "AsyncResult",
    "BadReply",
    "BrokerLost",
    "CallError",
    "Cancelled",
    "Closed",
    "ClusterPool",
    "DeadlineExceeded",
    "Draining",
    "Forbidden",
    "Future",
    "InvalidParams",
    "Method",
    "MethodNotFound",
    "MusterError",
    "MusterExecutor",
    "NoBroker",
    "NotPicklable",
    "Options",
    "Overloaded",
    "Pool",
    "RemoteError",
    "Stream",
    "Target",
    "TooLarge",
    "UnknownOutcome",
    "WorkerLost",
    "as_completed",
    "call_id",
    "cancelled",
    "connect",
    "once",
    "progress",
    "serve",
    "wait",
]
