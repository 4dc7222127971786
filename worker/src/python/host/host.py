"""Runs the functions of Python modules for one slot of muster-worker.

What a function prints, or C code writes to a descriptor, goes to the worker's log.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any, Callable, NoReturn

import muster_host
from muster_host import inside, loading, package, packing, shelf, shipped
from muster_host.channel import (
    CALL,
    CONFIGURE,
    HEEDS_CANCEL,
    HELLO,
    IS_ERROR,
    ITEM,
    LOAD_FAILED,
    OUTPUT,
    PROGRESS,
    RESULT,
    STREAM,
    TAKES_FRAMES,
    TAKES_SHARED,
    TICK,
    WANTS_STREAM,
    Call,
    Channel,
    Forked,
    open_channel,
)
from muster_host.codec import Encoder, as_it_is, decode, to_utf8
from muster_host.failure import InvalidParams, ItemTimeout, Origin, describe_failure
from muster_host.output import divert, stand_before
from muster_host.settle import collect, is_pending, settle, values

# A chunk whose items have a timeout shows this often that it goes on.
TICK_SECONDS = 0.25


class Host:
    """The functions of one slot and the channel their calls come by."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.encoder = Encoder()
        self.functions: dict[str, Callable[..., Any]] = {}
        # Those that make coroutines or generators.
        self.pending: set[str] = set()
        # Where large attachments may be, if the broker is on this machine.
        self.shelf: shelf.Shelf | None = None

    def configure(self, config: dict[str, Any]) -> bool:
        """Loads the modules and tells what they offer; False when that failed."""
        Origin.worker, Origin.host = config["worker"], config["host"]
        sys.path[:0] = muster_host.working_directory
        try:
            methods = loading.load_all(config["modules"], config["prefix"])
            if config["allow_apply"]:
                shipped.settle = collect
                methods[shipped.METHOD] = loading.Method(shipped.METHOD, shipped.apply, "--allow-apply")
            described = [loading.describe_method(method) for method in methods.values()]
            if config["shelf"]:
                self.shelf = shelf.Shelf(config["shelf"])
            for entry in described:
                # It takes chunks of its own.
                entry["chunks"] = entry["name"] != shipped.METHOD
                entry["shared"] = self.shelf is not None
            if config["init"]:
                settle(loading.find(config["init"])())
        except BaseException as error:
            failure = json.dumps(loading.describe_load_failure(error)).encode()
            self.channel.send(LOAD_FAILED, 0, 0, 0, 0, [failure], [])
            self.channel.flush()
            return False
        self.functions = {name: method.function for name, method in methods.items()}
        self.pending = {name for name, function in self.functions.items() if is_pending(function)}
        hello = {"python": sys.version.split()[0], "methods": described}
        self.channel.send(HELLO, 0, 0, 0, 0, [json.dumps(hello).encode()], [])
        return True

    def run(self, call: Call) -> None:
        """Runs one call or chunk and sends its result."""
        self.encoder.frames = [] if call.flags & TAKES_FRAMES else None
        self.encoder.shelf = self.shelf if call.flags & TAKES_SHARED else None
        current = Current(self, call)
        started = time.perf_counter_ns()
        flags, items = 0, 1
        inside.enter(f"c{call.number}", current.progress, current.is_cancelled)
        try:
            function = self.functions[call.method]
            if '"$shared"' in call.params:
                text, attachments = shelf.receive(self.shelf, call.params, call.attachments)
                call = call._replace(params=text, attachments=attachments)
            if call.items:
                body, items = self.run_chunk(function, call)
            else:
                as_bytes = as_it_is if call.method == shipped.METHOD else bytes
                params: Any = decode(call.params, call.attachments, as_bytes) if call.params else []
                if call.flags & WANTS_STREAM:
                    result = current.stream(function, params)
                elif type(params) is list:
                    result = function(*params)
                else:
                    result = function(**params)
                body = [to_utf8(self.encoder.encode(collect(result)))]
        except BaseException as error:
            flags, body = IS_ERROR, [to_utf8(describe_failure(error))]
            if self.encoder.frames is not None:
                self.encoder.frames.clear()
        inside.leave()
        service_us = min((time.perf_counter_ns() - started) // 1000, 0xFFFFFFFF)
        frames = self.encoder.frames or []
        self.channel.send(RESULT, flags, call.serial, service_us, items, body, frames)

    def run_chunk(self, function: Callable[[Any], Any], call: Call) -> tuple[list[bytes], int]:
        is_packed = call.params.startswith("{")
        if is_packed:
            try:
                items = packing.unpack(json.loads(call.params), call.attachments)
            except ValueError as error:
                raise InvalidParams(str(error)) from None
        else:
            items = decode(call.params, call.attachments)
        if type(items) is not list:
            raise InvalidParams("a map chunk's params is an array of items")
        if call.method in self.pending:
            plain = function
            function = lambda item: collect(plain(item))  # noqa: E731
        results: list[Any] = []
        failures: dict[int, str] = {}
        if call.timeout_ms:
            self.apply_timed(function, items, call, results, failures)
        else:
            feed = iter(items)
            while len(results) < len(items):
                try:
                    # `extend` keeps what came before an exception, so its place is the length.
                    results.extend(map(function, feed))
                    if len(results) < len(items):
                        # `map` takes a StopIteration out of the function for its own end.
                        raise RuntimeError("the function raised StopIteration")
                except BaseException as error:
                    failures[len(results)] = describe_failure(error)
                    results.append(None)
        packed = packing.pack(results) if is_packed and not failures else None
        if packed is not None:
            self.encoder.frames = [packed[1]]
            return [packed[0].encode()], len(items)
        return self.encoder.encode_chunk(results, failures), len(items)

    def apply_timed(
        self,
        function: Callable[[Any], Any],
        items: list[Any],
        call: Call,
        results: list[Any],
        failures: dict[int, str],
    ) -> None:
        """Applies the function with an alarm for each item. Code that does not come back to
        Python cannot be interrupted so; then the worker ends this process."""
        is_armed = False

        def expire(_signal: int, _frame: Any) -> None:
            if is_armed:
                raise ItemTimeout

        seconds = call.timeout_ms / 1000
        before = signal.signal(signal.SIGALRM, expire)
        ticked = time.monotonic()
        try:
            for item in items:
                result = None
                try:
                    is_armed = True
                    signal.setitimer(signal.ITIMER_REAL, seconds)
                    result = function(item)
                    is_armed = False
                except BaseException as error:
                    is_armed = False
                    failures[len(results)] = describe_failure(error)
                results.append(result)
                now = time.monotonic()
                if now - ticked >= TICK_SECONDS:
                    ticked = now
                    self.channel.send(TICK, 0, call.serial, len(results), 0, [], [])
                    self.channel.flush()
        finally:
            is_armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def serve(self) -> None:
        """Runs calls until the worker is gone."""
        while True:
            kind, message = self.channel.receive()
            if kind == CALL:
                self.run(message)
            elif kind == CONFIGURE and not self.configure(json.loads(message.params)):
                return


class Current:
    """The running call, as the function in it sees it."""

    def __init__(self, host: Host, call: Call) -> None:
        self._host = host
        self._call = call
        self._asked = False

    def stream(self, function: Callable[..., Any], params: Any) -> Any:
        """Runs the function for a caller that listens; what a generator yields is sent as it comes."""
        divert(self._print)
        try:
            result = settle(function(*params) if type(params) is list else function(**params))
            found = values(result)
            if found is None:
                return result
            try:
                while True:
                    self._yield(next(found))
            except StopIteration as end:
                return end.value
        finally:
            divert(None)

    def progress(self, done: float, total: float | None) -> None:
        if self._call.flags & WANTS_STREAM:
            self._send(PROGRESS, json.dumps({"done": done, "total": total}), [])

    def is_cancelled(self) -> bool:
        channel = self._host.channel
        if not self._asked:
            # From now on a cancellation gives it time.
            self._asked = True
            channel.send(HEEDS_CANCEL, 0, self._call.serial, 0, 0, [], [])
            channel.flush()
        return channel.is_cancelled(self._call.serial)

    def _print(self, name: str, text: str) -> None:
        self._send(OUTPUT, json.dumps({"stream": name, "text": text}), [])

    def _yield(self, value: Any) -> None:
        encoder = self._host.encoder
        text = encoder.encode(value)
        frames = encoder.frames or []
        if encoder.frames is not None:
            encoder.frames = []
        self._send(ITEM, text, frames)

    def _send(self, kind: int, text: str, frames: list[Any]) -> None:
        channel = self._host.channel
        channel.send(STREAM, kind, self._call.serial, 0, 0, [to_utf8(text)], frames)
        channel.flush()


def main() -> NoReturn:
    channel = open_channel()
    stand_before()
    package.provide()
    try:
        Host(channel).serve()
    except EOFError:
        pass
    except (Forked, OSError):
        # A forked copy came back from its function, or the worker is gone in mid-reply.
        os._exit(0)
    sys.exit(0)


main()
