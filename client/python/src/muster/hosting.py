"""Functions on offer and their calls: from parameters to an answer, without any socket."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from . import inside, output, packing, settle, shipped, wire
from .errors import CallError
from .offering import describe, functions_of
from .records import FRAMES, ITEM, OUTPUT, PROGRESS, SHARED, Call
from .shelf import NotThere, Shelf, receive

TRACEBACK_CHARS_MAX = 64 << 10


#: Takes a stream item: its kind, its value as JSON, its attachments.
Tell = Callable[[int, bytes, Sequence[Any]], None]
#: Makes JSON and attachments of a result.
Carry = Callable[[Any], "tuple[bytes, Sequence[Any]]"]


class ItemTimeout(BaseException):
    """Raised inside a function by the alarm; no `except Exception` of its own stops it."""


@dataclass
class Answer:
    """What a call came to. `body` is a result or an error object as JSON."""

    body: bytes
    frames: Sequence[Any]
    is_error: bool
    items: int
    service_us: int


class Functions:
    """The functions of a worker, by name."""

    def __init__(self) -> None:
        self._functions: dict[str, Callable[..., Any]] = {}
        self.worker = ""
        self.host = socket.gethostname()
        #: Where large attachments may be, if the broker is on this machine.
        self.shelf: Shelf | None = None
        #: Told before each item of a timed chunk: when it has to be done, or 0.
        self.expect: Callable[[float], None] = lambda deadline: None

    def add(self, name: str, function: Callable[..., Any]) -> None:
        """Offers a function. Raises `ValueError` when another one has the name."""
        if self._functions.setdefault(name, function) != function:
            raise ValueError(f"method {name} is claimed by two functions")

    def add_all(self, source: Any, prefix: str = "") -> None:
        """Offers what `source` is: a function, a module, a file or module name, an object with
        methods, a mapping of names to functions, or a list of these.
        """
        for name, function in functions_of(source):
            self.add(prefix + name, function)

    def describe(self) -> list[dict[str, Any]]:
        """The functions as a registration tells them."""
        described = [describe(name, function) for name, function in sorted(self._functions.items())]
        return [{**method, "shared": self.shelf is not None} for method in described]

    def __len__(self) -> int:
        return len(self._functions)

    def run(self, call: Call, is_cancelled: Callable[[], bool], tell: Tell | None = None) -> Answer:
        """Runs one call or chunk; never raises an `Exception`. `tell` takes what it streams."""
        started = time.perf_counter_ns()
        items = 1
        carry = self._carry(call)
        try:
            function = self._functions.get(call.method)
            if function is None:
                raise CallError(-32601, "Method not found", {"reason": f"not offered by {self.worker}"})
            progress = _progress(tell) if tell is not None else None
            inside.enter(_call_id(call.dispatch), progress, is_cancelled)
            if tell is not None:
                output.divert(_output(tell))
            as_bytes = _as_is if call.method == shipped.METHOD else bytes
            call = self._unshelve(call)
            if call.items:
                given, packs = self._read_items(call)
                items = len(given)
                body, frames = self._run_chunk(function, given, call.remaining_ms, carry, packs)
            else:
                params = self._read(call, as_bytes)
                result = function(**params) if isinstance(params, dict) else function(*params)
                if tell is not None:
                    result = self._stream(result, carry, tell)
                body, frames = carry(settle.collect(result))
            is_error = False
        except Exception as error:
            body, frames, is_error = json.dumps(self.describe_error(error)).encode(), [], True
        except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
            body, frames, is_error = json.dumps(self.describe_error(error)).encode(), [], True
        finally:
            inside.leave()
            if tell is not None:
                output.divert(None)
        return Answer(body, frames, is_error, items, (time.perf_counter_ns() - started) // 1000)

    def _stream(self, result: Any, carry: Carry, tell: Tell) -> Any:
        """Tells what a generator yields; what it returns, or the result of anything else."""
        result = settle.settle(result)
        found = settle.values(result)
        if found is None:
            return result
        try:
            while True:
                tell(ITEM, *carry(next(found)))
        except StopIteration as end:
            return end.value

    def _carry(self, call: Call) -> Carry:
        """How results of this call are carried."""
        takes_frames = bool(call.flags & FRAMES)
        shelf = self.shelf if call.flags & SHARED else None
        share = functools.partial(shelf.put, is_left=True) if shelf is not None else None
        return functools.partial(_carry, takes_frames=takes_frames, share=share)

    def _unshelve(self, call: Call) -> Call:
        """The call with what it has on the shelf as frames."""
        text = bytes(call.params)
        if b'"$shared"' not in text:
            return call
        try:
            params, frames = receive(self.shelf, text.decode(), call.frames)
        except NotThere as error:
            # The caller sends them as frames then.
            raise CallError(-32602, f"Invalid params: {error}", {"shelf": str(error)}) from None
        return dataclasses.replace(call, params=params.encode(), frames=frames)

    def _read(self, call: Call, as_bytes: Callable[[memoryview], Any]) -> Any:
        if not len(call.params):
            return []
        text = bytes(call.params)
        try:
            params = json.loads(text)
            if call.frames or b'"$' in text:
                params = wire.restore(params, call.frames, as_bytes)
        except (ValueError, RecursionError) as error:
            raise CallError(-32602, "Invalid params", {"reason": str(error)}) from None
        return params

    def _read_items(self, call: Call) -> tuple[list[Any], bool]:
        """A chunk's items, and whether they came packed: then results may go so, too."""
        if bytes(call.params[:1]) == b"{":
            try:
                return packing.unpack(json.loads(bytes(call.params)), call.frames), True
            except ValueError as error:
                raise CallError(-32602, "Invalid params", {"reason": str(error)}) from None
        items = self._read(call, bytes)
        if not isinstance(items, list):
            raise CallError(-32602, "Invalid params", {"reason": "a map chunk's params is an array of items"})
        return items, False

    def _run_chunk(
        self,
        function: Callable[..., Any],
        items: list[Any],
        timeout_ms: int,
        carry: Carry,
        packs: bool,
    ) -> tuple[bytes, Sequence[Any]]:
        results: list[Any] = []
        failures: dict[int, Any] = {}
        feed = iter(items)
        run = (lambda item: settle.collect(function(item))) if settle.is_pending(function) else function
        with self._alarm(timeout_ms) as timed:
            while len(results) < len(items):
                try:
                    # `extend` keeps what came before an exception, so its place is the length.
                    results.extend(map(timed(run), feed))
                    if len(results) < len(items):
                        raise RuntimeError("the function raised StopIteration")
                except (Exception, ItemTimeout, SystemExit) as error:
                    failures[len(results)] = self.describe_error(error)
                    results.append(None)
        if not failures:
            packed = packing.pack(results) if packs else None
            if packed is not None:
                return packed[0].encode(), [packed[1]]
            quick = _quick_chunk(results)
            if quick is not None:
                return quick, []
        return self._encode_chunk(results, failures, carry)

    def _encode_chunk(
        self, results: list[Any], failures: dict[int, Any], carry: Carry
    ) -> tuple[bytes, Sequence[Any]]:
        parts: list[Any] = []
        for at, result in enumerate(results):
            failure = failures.get(at)
            if failure is None:
                try:
                    _carry(result, True)
                    parts.append({"result": result})
                    continue
                except Exception as error:
                    failure = self.describe_error(error)
            parts.append({"error": failure})
        return carry(parts)

    @contextmanager
    def _alarm(self, timeout_ms: int) -> Iterator[Callable[[Callable[..., Any]], Callable[..., Any]]]:
        """Gives a wrapper under which a function is interrupted after `timeout_ms`."""
        if not timeout_ms or threading.current_thread() is not threading.main_thread():
            yield lambda function: function
            return
        seconds = timeout_ms / 1000

        def expire(*_: Any) -> None:
            raise ItemTimeout

        def timed(function: Callable[..., Any]) -> Callable[..., Any]:
            def run(item: Any) -> Any:
                # Code that does not come back to Python is ended by the supervisor.
                self.expect(time.monotonic() + seconds)
                signal.setitimer(signal.ITIMER_REAL, seconds)
                try:
                    return function(item)
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)

            return run

        before = signal.signal(signal.SIGALRM, expire)
        try:
            yield timed
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.expect(0.0)
            signal.signal(signal.SIGALRM, before)

    def describe_error(self, error: BaseException) -> dict[str, Any]:
        """An exception as a JSON-RPC error object."""
        where = {"worker": self.worker, "host": self.host, "pid": os.getpid()}
        if isinstance(error, ItemTimeout):
            return {"code": -32001, "message": "DeadlineExceeded", "data": {"state": "running", **where}}
        if type(error) is CallError and error.code in (-32601, -32602):
            return {"code": error.code, "message": error.message, "data": {**error.data, **where}}
        kind = type(error)
        plain = kind.__module__ in ("builtins", "__main__")
        name = kind.__qualname__ if plain else f"{kind.__module__}.{kind.__qualname__}"
        try:
            message = str(error)
        except Exception as second:
            message = f"<its text raised {type(second).__name__}>"
        data = {"type": name, "message": message, "traceback": _traceback(error), **where}
        packed = getattr(error, "__muster_pickle__", None)
        if packed is not None:
            data["pickle"] = packed
        return {"code": -32000, "message": f"{name}: {message}" if message else name, "data": data}


def _carry(
    result: Any, takes_frames: bool, share: wire.Share | None = None
) -> tuple[bytes, Sequence[Any]]:
    """A result as JSON and frames. Raises `TypeError` naming one that cannot be carried."""
    try:
        return wire.encode(result, takes_frames, share)
    except (ValueError, RecursionError) as error:
        raise TypeError(f"a result cannot be held by JSON: {error}: {result!r:.80}") from None


def _as_is(frame: memoryview) -> memoryview:
    return frame


def _progress(tell: Tell) -> Callable[[float, float | None], None]:
    def progress(done: float, total: float | None) -> None:
        tell(PROGRESS, json.dumps({"done": done, "total": total}).encode(), [])

    return progress


def _output(tell: Tell) -> output.Sink:
    def sink(stream: str, text: str) -> None:
        tell(OUTPUT, json.dumps({"stream": stream, "text": text}).encode(), [])

    return sink


def _quick_chunk(results: list[Any]) -> bytes | None:
    """The answer to a chunk whose results are all plain numbers; the quickest way to text."""
    kinds = set(map(type, results))
    if not results or not kinds <= {int, float}:
        return None
    text = repr(results)[1:-1]
    if float in kinds and "n" in text:
        return None  # nan, inf
    return '[{{"result":{}}}]'.format(text.replace(", ", '},{"result":')).encode()


def _call_id(dispatch: bytes) -> str:
    return f"c{int.from_bytes(dispatch[8:16], 'little')}"


def _traceback(error: BaseException) -> str:
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename in (__file__, shipped.__file__):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames))[-TRACEBACK_CHARS_MAX:]
