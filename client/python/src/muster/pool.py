"""The pool: call functions of a cluster, one by one, as futures, or mapped over many items.

Functions are named (`pool.call("multiply", 5, 3)`: a method that a worker offers) or given
(`pool.submit(lambda x: x * x, 7)`: shipped to workers that were started with `--allow-apply`).
"""

from __future__ import annotations

import copy
import functools
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from . import inside, wire
from .apply import Shipment
from .connection import Target
from .entry import Entry, nobody
from .errors import MethodNotFound, MusterError
from .future import Future
from .library import Library
from .link import Link
from .loan import Loan
from .maps import Maps
from .options import Method, Options, read_method
from .streaming import Listener, Stream

if TYPE_CHECKING:
    from .parallel import ParallelFunction, RemoteFunction
    from .rpc import Proxy

Own = TypeVar("Own", bound="ClusterPool")
P = ParamSpec("P")
T = TypeVar("T")

#: How long `connect` waits for the broker's first word, in seconds.
CONNECT_TIMEOUT = 2.0


class ClusterPool(Maps):
    """Calls to one cluster. Safe for use by many threads; a forked child gets a connection of its own."""

    def __init__(self, target: Target, *, connect_timeout: float = CONNECT_TIMEOUT) -> None:
        self._target = target
        self._connect_timeout = connect_timeout
        self._options = Options()
        self._heads: dict[str, bytes] = {}
        self._shipment: Shipment | None = None
        self._shared = _Shared(Link(target))
        try:
            self._shared.link.wait_ready(connect_timeout)
        except BaseException:
            self._shared.link.close()
            raise

    # --- one call ---------------------------------------------------------------------------

    def call(
        self, function: str | Callable[..., Any], /, *args: Any, timeout: float | None = None, **kwargs: Any
    ) -> Any:
        """Calls a function and waits for its result.

        `timeout` in seconds is the call's deadline on the cluster. A remote parameter that is itself
        called `timeout` is passed by position, or with `request`. Raises what the function raised,
        or a `CallError`.
        """
        pool = self if timeout is None else self.options(timeout=timeout)
        return pool.submit(function, *args, **kwargs).wait()

    @overload
    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...

    @overload
    def submit(self, function: str, /, *args: Any, **kwargs: Any) -> Future[Any]: ...

    def submit(self, function: str | Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Makes a call and returns at once."""
        self._check_open()
        if not isinstance(function, str):
            return self.shipment(function).submit(args, kwargs)
        if not kwargs:
            return self.request(function, args)
        return self.request(function, self._by_name(function, args, kwargs) if args else kwargs)

    def _check_open(self) -> None:
        """Raises when no more calls are taken."""

    def request(
        self,
        method: str,
        params: Sequence[Any] | dict[str, Any] = (),
        *,
        read: Callable[..., Any] = wire.read_answer,
        listener: Listener | None = None,
    ) -> Future[Any]:
        """Makes a call with its parameters as they go over the wire: by position or by name."""
        link = self.link
        future: Future[Any] = Future(link, next(link.ids), method, read)
        plain = wire.encode_plain(params)
        if plain is not None:
            self.post(link, future.id, method, plain, wire.NO_FRAMES, future.deliver, listener=listener)
            return future
        loan = self.lend(method)
        text, frames = wire.encode(params, share=loan.share if loan is not None else None)
        if loan is not None and loan.names:

            def post_as_frames() -> None:
                future.is_again = True
                text, frames = wire.encode(params)
                self.post(
                    link, future.id, method, text, frames, future.deliver, listener=listener, is_again=True
                )

            future.borrow(loan, post_as_frames)
        self.post(link, future.id, method, text, frames, future.deliver, listener=listener)
        return future

    def lend(self, method: str) -> Loan | None:
        """What puts large attachments of a call on the shelf, where there is one."""
        shelf = self._shared.link.shelf
        return None if shelf is None else Loan(shelf, functools.partial(self._takes_shared, method))

    def _takes_shared(self, method: str) -> bool:
        # The link's thread, which runs callbacks, must not wait for an answer.
        found = self._shared.methods.get(method) if self.link.is_own_thread() else self.method(method)
        return found is not None and found.shared

    def stream(self, function: str | Callable[..., Any], /, *args: Any, **kwargs: Any) -> Stream[Any]:
        """Calls a generator function and gives what it yields as it comes."""
        stream: Stream[Any] = Stream()
        if not isinstance(function, str):
            stream.begin(self.shipment(function).submit(args, kwargs, stream.put))
        else:
            params = (self._by_name(function, args, kwargs) if args else kwargs) if kwargs else args
            listener = self._options.listener(stream.put)
            stream.begin(self.request(function, params, listener=listener))
        return stream

    def post(
        self,
        link: Link,
        id: int,
        method: str,
        params: bytes,
        frames: Sequence[wire.Buffer],
        sink: Callable[..., None],
        extra: str = "",
        listener: Listener | None = None,
        attempts_max: int | None = None,
        loan: Loan | None = None,
        is_again: bool = False,
    ) -> None:
        """Sends a call whose parameters are JSON already. `extra` are further members of `meta`;
        `attempts_max` holds if the options allow no fewer; `loan` ends with the call; `is_again`: its id had an
        answer, from something that had not run it."""
        head = self._heads.get(method)
        if head is None:
            head = f'{{"jsonrpc":"2.0","method":{json.dumps(method)},"params":'.encode()
            self._heads[method] = head
        parent = inside.call_id()
        if parent is not None:
            extra += f'"parent":{json.dumps(parent)},'
        if listener is None and self._options.listens:
            listener = self._options.listener()
        if listener is not None:
            extra += '"stream":true,'
        members = self._options.meta(attempts_max, link.shelf is not None)
        meta = f',"meta":{{{members}{extra}"key":"{link.key(id, is_again)}"}},"id":{id}}}'
        body = b"".join((head, params, meta.encode()))
        is_once = self._options.attempts == 1
        entry = Entry(id, method, body, frames, sink, is_once, listener, loan, is_again)
        link.submit(entry, None if '"map"' in extra else self._options.timeout)

    def post_lending(
        self,
        method: str,
        encode: Callable[[wire.Share | None], tuple[bytes, Sequence[wire.Buffer]]],
        sink: Callable[..., None],
        extra: str = "",
        attempts_max: int | None = None,
    ) -> tuple[int, int]:
        """Sends a call whose parameters `encode` makes, with large attachments on the shelf if there is one.
        Its id, and its size in bytes with all attachments."""
        loan = self.lend(method)
        link = self.link
        id = next(link.ids)
        try:
            params, frames = encode(loan.share if loan is not None else None)
        except BaseException:
            if loan is not None:
                loan.end()
            raise
        size = len(params) + sum(memoryview(frame).nbytes for frame in frames)
        if loan is not None and loan.names:
            size += loan.bytes

            def post_as_frames(sink: Callable[..., None]) -> None:
                params, frames = encode(None)
                self.post(
                    link,
                    id,
                    method,
                    params,
                    frames,
                    sink,
                    extra,
                    attempts_max=attempts_max,
                    is_again=True,
                )

            sink = loan.sink(sink, post_as_frames)
        self.post(link, id, method, params, frames, sink, extra, attempts_max=attempts_max, loan=loan)
        return id, size

    def call_to(self, worker: str, function: str, /, *args: Any, **kwargs: Any) -> Any:
        """Calls a method of the worker with this name."""
        return self.options(to=worker).call(function, *args, **kwargs)

    def broadcast(self, function: str, /, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Calls a method of every worker that offers it; results by the workers' names.

        The first failure is raised after all have ended; its `results` holds all outcomes.
        """
        names = [worker["name"] for worker in self.workers() if function in worker["methods"]]
        if not names:
            raise MethodNotFound(-32601, f"Method not found ({function})", None, function)
        futures = {name: self.options(to=name).submit(function, *args, **kwargs) for name in names}
        outcomes = {name: future.exception() or future.result() for name, future in futures.items()}
        for outcome in outcomes.values():
            if isinstance(outcome, MusterError):
                outcome.results = outcomes  # type: ignore[attr-defined]
                raise outcome
        return outcomes

    def notify(self, method: str, /, *args: Any, **kwargs: Any) -> None:
        """Has a method called; nobody waits for its result or hears of its failure."""
        text, frames = wire.encode(kwargs or args)
        body = b'{"jsonrpc":"2.0","method":%b,"params":%b}' % (json.dumps(method).encode(), text)
        self.link.submit(Entry(0, method, body, frames, nobody))

    # --- functions --------------------------------------------------------------------------

    @property
    def rpc(self) -> Proxy:
        """The cluster's methods as functions: `pool.rpc.is_even(4)`; `dir` and `help` know them."""
        from .rpc import Proxy

        return Proxy(self)

    def remote(self, function: Any = None, *, block: bool = False) -> RemoteFunction | Any:
        """Decorator: calling the function runs it on the cluster and returns a future, or with
        `block` its result. Takes a method's name as well."""
        from .parallel import RemoteFunction

        if function is None:
            return lambda function: RemoteFunction(self, function, block)
        return RemoteFunction(self, function, block)

    def parallel(self, function: Any = None, *, parts: int | None = None) -> ParallelFunction | Any:
        """Decorator: lists and numpy arrays among the arguments are split over the workers along
        their first axis, and the results joined. Other arguments go to every part."""
        from .parallel import ParallelFunction

        if function is None:
            return lambda function: ParallelFunction(self, function, parts)
        return ParallelFunction(self, function, parts)

    def shipment(self, function: Callable[..., Any]) -> Shipment:
        """The function made ready to be sent."""
        if not callable(function):
            raise TypeError(f"{function!r:.80} is neither a function nor the name of a method")
        packed = self._shared.library.pack(function)
        last = self._shipment
        if last is None or not last.is_of(self, packed):
            # Kept, for many calls of one function follow each other.
            last = self._shipment = Shipment(self, packed)
        return last

    def options(
        self: Own,
        *,
        timeout: float | None = None,
        attempts: int | None = None,
        priority: int | None = None,
        to: str | None = None,
        on_progress: Callable[[float, float | None], None] | None = None,
        on_output: Callable[[str, str], None] | None = None,
    ) -> Own:
        """The same pool whose calls are made with these options; see `Options`."""
        given = {
            "timeout": timeout,
            "attempts": attempts,
            "priority": priority,
            "to": to,
            "on_progress": on_progress,
            "on_output": on_output,
        }
        other = copy.copy(self)
        changed = {name: value for name, value in given.items() if value is not None}
        other._options = replace(self._options, **changed)  # type: ignore[arg-type]
        return other

    # --- the cluster ------------------------------------------------------------------------

    def methods(self) -> list[Method]:
        """Every method on offer, the broker's own left out."""
        entries = self.plain.request("broker.methods").result()
        methods = {entry["name"]: read_method(entry) for entry in entries}
        self.link.learn({method.name: method.once for method in methods.values()})
        self._shared.methods, self._shared.methods_at = methods, time.monotonic()
        return list(methods.values())

    def method(self, name: str) -> Method | None:
        """One method, as it was within the last second; None when it is not on offer."""
        shared = self._shared
        if name not in shared.methods or time.monotonic() - shared.methods_at > 1:
            self.methods()
        return shared.methods.get(name)

    def workers(self) -> list[dict[str, Any]]:
        """Every worker, as `broker.workers` in docs/protocol.md describes."""
        return self.plain.request("broker.workers").result()  # type: ignore[no-any-return]

    def status(self) -> dict[str, Any]:
        """The broker in numbers, as `broker.status` in docs/protocol.md describes."""
        return self.plain.request("broker.status").result()  # type: ignore[no-any-return]

    def wait_for_slots(self, slots: int = 1, timeout: float = 30.0) -> None:
        """Waits until that many slots are up. Raises `TimeoutError` after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            found = self.status()["slots"]
            up = found["ready"] + found["busy"]
            if up >= slots:
                return
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{up} of {slots} slots are up after {timeout:g} s")
            time.sleep(0.02)

    def scale(self, slots: int, worker: str | None = None) -> None:
        """Has a worker run that many slots; it may be left out when there is only one."""
        self.plain.request(
            "broker.scale", {"slots": slots, **({"worker": worker} if worker else {})}
        ).result()

    @property
    def plain(self) -> ClusterPool:
        """This pool without options."""
        if self._options == Options():
            return self
        other = copy.copy(self)
        other._options = Options()
        return other

    @property
    def link(self) -> Link:
        """The connection; in a forked child a new one."""
        link = self._shared.link
        if link.pid != os.getpid():
            with self._shared.lock:
                if self._shared.link.pid != os.getpid():
                    self._shared.renew(Link(self._target))
                    self._shared.link.wait_ready(self._connect_timeout)
            link = self._shared.link
        return link

    def close(self) -> None:
        """Closes the connection. Calls without an answer end with `Closed`."""
        self._shared.link.close()

    def __enter__(self: Own) -> Own:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        # A function that is shipped with a pool in its closure finds the same cluster again.
        # Who listens stays here.
        return reconnect, (self._target, replace(self._options, on_progress=None, on_output=None))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._target}>"

    def _by_name(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Parameters by name: JSON-RPC has either names or positions."""
        method = self.method(name)
        if method is None or method.params is None:
            raise TypeError(f"{name} does not tell its parameters; pass all by position or all by name")
        names = [param for param, _ in method.params]
        if len(args) > len(names) or any(param.startswith("*") for param in names[: len(args)]):
            raise TypeError(f"{name} takes {len(names)} parameters by name")
        bound = dict(zip(names, args, strict=False))
        doubled = bound.keys() & kwargs.keys()
        if doubled:
            raise TypeError(f"{name} got parameter {min(doubled)!r} twice")
        return {**bound, **kwargs}


class _Shared:
    """What the copies of a pool have in common."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.library = Library()
        self.lock = threading.Lock()
        self.methods: dict[str, Method] = {}
        self.methods_at = 0.0

    def renew(self, link: Link) -> None:
        self.link = link


def reconnect(target: Target, options: Options) -> ClusterPool:
    """A pool of the same cluster in another process."""
    pool = ClusterPool(target)
    pool._options = options
    return pool
